"""`tinyrobust quantize`: somebody's Keras model through the stages of a recipe."""

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tinyrobust import recipe as recipes
from tinyrobust.cli import console
from tinyrobust.cli.export import show_exported
from tinyrobust.cli.run import execute, show_everything, show_trained
from tinyrobust.errors import ModelFileError
from tinyrobust.recipe import Recipe


class Until(StrEnum):
    """Where to stop."""

    train = "train"
    export = "export"
    report = "report"


_Model = Annotated[Path, typer.Argument(metavar="MODEL.keras", help="A classifier of plain layers, as Keras 3 saves it.")]
_Recipe = Annotated[
    str, typer.Option("--recipe", metavar="RECIPE", help="Data, precision and training: a name from `list recipes`, or a path.")
]
_InputRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="What the model's inputs are for black and white, like -1 1. Not needed where it begins with Rescaling.",
    ),
]
_After = Annotated[
    bool, typer.Option("--after", help="Quantize the model's weights as they are, without training it on (post-training).")
]
_UntilOption = Annotated[Until, typer.Option("--until", help="The last thing to do: `report` attacks and sizes besides.")]


def quantize(
    model: _Model,
    recipe: _Recipe,
    overrides: console.Settings = [],  # noqa: B006 - Typer wants a list, and nobody changes it
    after: _After = False,
    input_range: _InputRange = None,
    until: _UntilOption = Until.export,
    runs_dir: console.RunsDir = Path("runs"),
    jobs: console.Jobs = 1,
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Quantize somebody's Keras model: its layers in the recipe's precision, its weights trained on, and the int8 file.

    The recipe's own network is replaced; its rules match the names of the model's layers, and `stem` and `logits` stand for the
    first and last layer with weights. Data and classes must be those that the model was made for. Layers without an int8
    operator are named before anything trains, with what can be done. Code in the file is never run.

    It is a run like any other, under the name of model and recipe: interrupted, it goes on; another file is another run.

    **Examples**

        tinyrobust quantize model.keras --recipe cifar10-stq --set data.color=rgb

        tinyrobust quantize mobilenet.keras --recipe my-recipe.toml --input-range -1 1 --until report

        tinyrobust quantize model.keras --recipe cifar10-8bit --after --set "precision.rule.0.activations=float"
    """
    done = execute(_resolved(model, recipe, overrides, after, input_range), until, runs_dir, data_dir, as_json, jobs)
    {Until.train: show_trained, Until.export: show_exported, Until.report: show_everything}[until](done, as_json)


def _resolved(model: Path, recipe: str, overrides: list[str], after: bool, input_range: tuple[float, float] | None) -> Recipe:
    """The recipe with the model as its network, called after both."""
    if not model.is_file():  # else the message would begin with the recipe, which has no fault
        raise ModelFileError(f"Expected the path of a .keras file. Received: {str(model)!r}: there is no such file.")
    network: dict[str, object] = {"kind": "keras-file", "path": str(model)}
    if input_range:
        network["input_range"] = list(input_range)
    settings = [f"network={_inline(network)}"]
    if after:
        # Nothing is learned, so nothing is minimised: a recipe that distils is no obstacle.
        settings += ["train.quantization=after", "train.epochs=0", 'train.objective=[{kind="cross-entropy"}]']
    resolved = recipes.load(recipe, [*settings, *overrides])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.stem).strip("-.") or "model"
    return resolved.model_copy(update={"name": f"{name}-{resolved.name}"})


def _inline(table: dict[str, object]) -> str:
    """An inline table of TOML, whose texts and lists are those of JSON."""
    return "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + "}"
