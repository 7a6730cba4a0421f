"""Resolves a recipe: what it extends, what it leaves out, what is overridden.

A recipe may extend another (`extends = "digits-stq"`, a name from `models/` or a path beside it): tables are merged key by key,
arrays (such as `[[train.objective]]`) are replaced whole. What `without = ["train.objective"]` names is left out before.
`overrides` (`train.epochs=3`) are applied last.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tinyrobust import assets, toml
from tinyrobust.choices import no_such
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.resolved import Recipe
from tinyrobust.recipe.start import naming_files


def load(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Resolves a recipe.

    Args:
        source: A name from `models/`, or the path of a TOML file or of a folder with a `recipe.toml`.
        overrides: Settings such as `"train.epochs=3"`; the value is TOML, or text where it is not.

    Raises:
        RecipeError: There is no such recipe, it is not TOML, or a key or value does not fit.
    """
    path = find(source)
    values = _extended(path, ())
    for override in overrides:
        toml.assign(values, override, RecipeError)
    if "name" in values:
        raise RecipeError(f"{path}: 'name' is not a key of a recipe: its folder names it.", hint="Remove the line.")
    return toml.validated(Recipe, {"name": _name(path), **values}, f"Recipe {path}", RecipeError)


def find(source: str | Path) -> Path:
    """The path of the recipe that `source` names.

    Raises:
        RecipeError: There is none; the message names the nearest.
    """
    zoo = assets.recipes()
    if str(source) in zoo:
        return zoo[str(source)]
    path = Path(source)
    if path.is_dir():
        path /= "recipe.toml"
    if path.is_file():
        return path
    raise RecipeError(
        no_such("recipe", str(source), zoo, "or the path of a TOML file"), hint="`tinyrobust list recipes` shows them."
    )


def _name(path: Path) -> str:
    return path.resolve().parent.name if path.name == "recipe.toml" else path.stem


def _extended(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in seen:
        raise RecipeError(f"Recipes extend each other in a circle: {' -> '.join(map(_name, (*seen, path)))}.")
    values = toml.values(path, RecipeError)
    for table in naming_files(values):  # looked for beside the recipe, and then from where the command runs
        if isinstance(named := table.get("path"), str) and (path.parent / named).is_file():
            table["path"] = str(path.parent / named)
    parent, without = values.pop("extends", None), values.pop("without", [])
    if parent is None and not without:
        return values
    if parent is None or not isinstance(without, list):
        raise RecipeError(f"{path}: Expected without = [keys of the recipe that it extends]. Received: {without!r}")
    beside = path.parent / str(parent)
    below = _extended(beside if beside.is_file() else find(str(parent)), (*seen, path))
    for key in without:
        if not toml.removed(below, str(key)):
            raise RecipeError(f"{path}: Expected without to name keys of the recipe that it extends. Received: {key!r}")
    return toml.merged(below, values)
