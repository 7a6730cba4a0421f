"""Finds the folders that a user edits: `models/`, `datasets/`, `export/`.

In a checkout (an editable install too) they stand beside the package; a wheel carries them inside it as
`_models`, `_datasets`, `_export`.
"""

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent


def folder(name: Literal["models", "datasets", "export"]) -> Path:
    """The folder `name`, of the checkout if there is one, else of the installed wheel."""
    checkout = _PACKAGE.parent
    if (checkout / "setup.cfg").is_file() and (checkout / name).is_dir():
        return checkout / name
    return _PACKAGE / f"_{name}"


def recipes() -> dict[str, Path]:
    """Every recipe of the zoo: name to the path of its recipe.toml."""
    return {path.parent.name: path for path in sorted(folder("models").glob("*/recipe.toml"))}


def protocols() -> dict[str, Path]:
    """Every attack protocol: name to the path of its TOML file."""
    return _by_name(folder("models") / "protocols")


def sweeps() -> dict[str, Path]:
    """Every sweep that redoes a paper's comparison: name to the path of its TOML file."""
    return _by_name(folder("models") / "papers")


def dataset_cards() -> dict[str, Path]:
    """Every data set card: name to the path of its TOML file."""
    return _by_name(folder("datasets"))


def boards() -> dict[str, Path]:
    """Every board: name to the path of its TOML file."""
    return _by_name(folder("export") / "boards")


def _by_name(where: Path) -> dict[str, Path]:
    """TOML files by name, in the order of the names: by path, `pico-2.toml` comes before `pico.toml`."""
    return {path.stem: path for path in sorted(where.glob("*.toml"), key=lambda path: path.stem)}
