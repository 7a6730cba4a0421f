"""What the stages read of a recipe, and of files that it names: as JSON's types, to be hashed into their keys.

What says the same as a default is left out, so that a new key with a default changes no key of a stage.
"""

import tomllib
from collections.abc import Iterable
from importlib.resources import files as resources
from pathlib import Path

from tinyrobust import assets
from tinyrobust._version import __version__
from tinyrobust.pipeline.facts import run_facts
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.objectives import CrossEntropy, Teaching
from tinyrobust.recipe.start import without_paths
from tinyrobust.recipe.table import Table

Reads = dict[str, object]


def tables(recipe: Recipe, *names: str) -> dict[str, Reads]:
    """Tables of a recipe, those that it has."""
    named: dict[str, Table | None] = {name: getattr(recipe, name) for name in names}
    return without_paths(
        {
            name: table.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for name, table in named.items()
            if table is not None
        }
    )


def contents(known: dict[str, Path], names: Iterable[str]) -> Reads:
    """What files say that a recipe names; None where the run will refuse them."""
    said: Reads = {}
    for name in names:
        try:
            said[name] = tomllib.loads(known.get(name, Path(name)).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            said[name] = None
    return said


def teacher(recipe: Recipe) -> Reads:
    """A float network, trained for the labels: it sees no precision, and of the objectives how they want it trained."""
    seen, teaching = tables(recipe, "data", "network", "train"), recipe.train.teaching
    assert teaching is not None
    if teaching.width is not None:
        seen["network"].pop("width", None)
    if teaching.file is not None:
        return {"data": seen["data"], "network": seen["network"], "width": teaching.width, "file": teaching.file.sha256}
    for key in ("objective", "quantization", "fraction", "watch"):
        seen["train"].pop(key, None)
    if teaching.epochs is not None:
        seen["train"].pop("epochs", None)
    return {**seen, "teaching": _teaching(teaching), "seed": recipe.seed}


def _teaching(teaching: Teaching) -> Reads:
    """Ordinary teachers, those of cross-entropy, are named by its temperature alone."""
    said: Reads = {"teachers": teaching.teachers, "epochs": teaching.epochs, "width": teaching.width}
    match teaching.objectives:
        case (CrossEntropy(weight=1.0, temperature=temperature),):
            return {**said, "temperature": temperature}
    return {**said, "objectives": [one.model_dump(mode="json", exclude_defaults=True) for one in teaching.objectives]}


def teacher_check(recipe: Recipe) -> Reads:
    """In which balls the teacher should be robust."""
    return {**tables(recipe, "data"), "epsilons": recipe.train.transferred, "seed": recipe.seed}


def _fraction(recipe: Recipe) -> Reads:
    """Of the training images, where it is not all of them."""
    return {"fraction": recipe.train.fraction} if recipe.train.fraction != 1 else {}


def float_network(recipe: Recipe) -> Reads:
    """It sees neither the precision nor what is learned or calibrated in it: many recipes share one float network."""
    return {**tables(recipe.of_float_network, "data", "network", "train"), "seed": recipe.seed}


def precision(recipe: Recipe) -> Reads:
    """What is searched, in which network: how that was trained shows in the float network, and the search does not train."""
    return {**tables(recipe, "data", "network", "precision"), **_fraction(recipe), "seed": recipe.seed}


def train(recipe: Recipe) -> Reads:
    """Everything that learning sees."""
    return {**tables(recipe, "data", "network", "train", "precision"), **_stochastic(recipe), "seed": recipe.seed}


def _stochastic(recipe: Recipe) -> Reads:
    """The quantizers that draw, where there are some."""
    drawn = [one.model_dump(mode="json", exclude_defaults=True) for one in recipe.stochastic]
    return {"stochastic": drawn} if drawn else {}


def export(recipe: Recipe) -> Reads:
    """The artefact carries the recipe's name."""
    return {**tables(recipe, "data", "export"), **_fraction(recipe), "name": recipe.name}


def footprint(recipe: Recipe) -> Reads:
    """The boards that are compared with: all, where none is named."""
    known = assets.boards()
    return {"boards": recipe.footprint.boards, "files": contents(known, recipe.footprint.boards or known)}


def attack(recipe: Recipe) -> Reads:
    """Radii and so on, and the attacks of the protocol."""
    settings = recipe.robustness
    return {
        **tables(recipe, "data"),
        "robustness": settings.model_dump(mode="json", exclude={"waveform", "corruptions"}, exclude_defaults=True),
        "protocol": contents(assets.protocols(), [settings.protocol]),
        "temperature": recipe.temperature,
        "seed": recipe.seed,
    }


def attack_waveform(recipe: Recipe) -> Reads:
    """As `attack`, of the sound."""
    settings = recipe.robustness.waveform
    return {
        **tables(recipe, "data"),
        "waveform": settings and settings.model_dump(mode="json", exclude_defaults=True),
        "protocol": settings and contents(assets.protocols(), [settings.protocol]),
        "temperature": recipe.temperature,
        "seed": recipe.seed,
    }


def corruptions(recipe: Recipe) -> Reads:
    """How many images, and the protocol; a network that is random at inference answers as it does under attack."""
    settings = recipe.robustness
    return {
        **tables(recipe, "data"),
        "robustness": settings.model_dump(mode="json", exclude={"waveform", "protocol"}, exclude_defaults=True),
        "protocol": settings.corruptions and contents(assets.protocols(), [settings.corruptions]),
        "temperature": recipe.temperature,
        "seed": recipe.seed,
    }


def information(recipe: Recipe) -> Reads:
    """Radii, the attacks of the protocol, and how many draws make an answer."""
    settings = recipe.robustness
    return {
        **tables(recipe, "data"),
        "robustness": settings.model_dump(mode="json", exclude={"members"}, exclude_defaults=True),
        "members": recipe.members,
        "protocol": contents(assets.protocols(), [settings.protocol]),
        "seed": recipe.seed,
    }


def listen(recipe: Recipe) -> Reads:
    """How it is listened, and to what."""
    return {**tables(recipe, "data", "listening")}


def amplification(recipe: Recipe) -> Reads:
    """The images, how far they are changed, and on which logits."""
    temperature = {"temperature": recipe.temperature} if recipe.temperature else {}
    return {**tables(recipe, "data"), **temperature, "epsilon": recipe.robustness.headline, "seed": recipe.seed}


def report(recipe: Recipe) -> Reads:
    """The page's templates, and what is shown of the recipe: all of it."""
    templates = sorted((file.name, file.read_text()) for file in (resources("tinyrobust.reports") / "templates").iterdir())
    return {"recipe": recipe.model_dump(mode="json"), "templates": templates, "version": __version__}


def facts(recipe: Recipe, record: RunRecord) -> Reads:
    """What the report says of the run itself: times, versions, the card of its data, notes."""
    return {"facts": run_facts(recipe, record).model_dump(mode="json")}
