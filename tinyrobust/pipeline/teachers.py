"""The teachers of a distilled network: float networks of its family, trained one after the other, then one model."""

import json
from collections.abc import Callable
from pathlib import Path

import keras

from tinyrobust.data.arrays import Dataset
from tinyrobust.files import write_atomic
from tinyrobust.graphs import archive
from tinyrobust.networks.keras_file import load_weights
from tinyrobust.progress import Progress
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.objective_table import needs
from tinyrobust.recipe.objectives import Teaching
from tinyrobust.recipe.precision import FLOAT
from tinyrobust.training.fit import FitFiles, fit, seed_everything, untrained
from tinyrobust.training.front_end import front_end_of
from tinyrobust.training.objectives import Supplies, build_objectives

_Row = dict[str, float]


def teach(network: Callable[[Recipe], keras.Model], dataset: Dataset, recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Trains the teachers that a recipe asks for; leaves one model and one history, those of the stage `teacher`.

    Several teachers become one whose logits are the mean of theirs: the geometric mean of their probabilities, at every
    temperature (Hinton et al. 2015, section 2). Each is complete when its own model is there, so an interrupted stage goes on
    with the teacher that it was at. Of a teacher from a file, the history is its accuracy on validation images.

    Args:
        network: Builds the untrained network of a recipe.
        dataset: What they learn.
        recipe: The student's.
        folder: The run's.
        progress: Called with a label, steps done and all steps.

    Raises:
        ModelFileError: The teacher's file is not there, another than it was, or of another network.
    """
    teaching = recipe.train.teaching
    assert teaching is not None
    stage = FitFiles.in_folder(folder, "teacher")
    if teaching.file is not None:
        taken = network(_teachers_recipe(recipe, teaching, 0))
        load_weights(taken, teaching.file)
        untrained(taken, dataset, stage)
        return
    if teaching.teachers == 1:
        _trained(network, dataset, _teachers_recipe(recipe, teaching, 0), stage, progress)
        return
    each = [_files(stage.checkpoints, f"teacher{number + 1}") for number in range(teaching.teachers)]
    for number, files in enumerate(each):
        if not files.model.is_file():
            seed_everything(recipe.seed + number)
            _trained(network, dataset, _teachers_recipe(recipe, teaching, number), files, progress)
    write_atomic(stage.history, "".join(json.dumps(row) + "\n" for row in _mean_history([files.history for files in each])))
    models = [keras.models.load_model(files.model, compile=False) for files in each]
    archive.save(averaged(models), stage.model)


def averaged(models: list[keras.Model]) -> keras.Model:
    """One model whose logits are the mean of those of `models`, which have inputs of one shape."""
    inputs = keras.Input(models[0].input_shape[1:], name="image")
    named = [keras.Model(model.input, model.output, name=f"teacher{number + 1}") for number, model in enumerate(models)]
    return keras.Model(inputs, keras.layers.Average(name="logits")([model(inputs) for model in named]), name="teachers")


def _files(folder: Path, stage: str) -> FitFiles:
    """Those of one of several: beside its checkpoints, for they are no files of the run."""
    return FitFiles(stage, folder / f"{stage}_model.keras", folder / f"{stage}_history.jsonl", folder)


def _teachers_recipe(recipe: Recipe, teaching: Teaching, number: int) -> Recipe:
    network = recipe.network if teaching.width is None else recipe.network.scaled(teaching.width)
    settings = recipe.train.model_copy(update={"watch": None})  # a teacher is not attacked
    return recipe.model_copy(update={"precision": FLOAT, "seed": recipe.seed + number, "network": network, "train": settings})


def _trained(
    network: Callable[[Recipe], keras.Model], dataset: Dataset, recipe: Recipe, files: FitFiles, progress: Progress
) -> None:
    teaching = recipe.train.teaching
    assert teaching is not None
    objectives = build_objectives(teaching.objectives, Supplies(recipe.seed, recipe.train.label_smoothing))
    front_end = front_end_of(dataset) if "front-end" in needs(teaching.objectives) else None
    fit(network(recipe), objectives, dataset, recipe, files, epochs=teaching.epochs, front_end=front_end, progress=progress)


def _mean_history(paths: list[Path]) -> list[_Row]:
    """A row an epoch: the mean over the teachers; of the seconds, the sum."""
    histories = [[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for path in paths]
    return [_together(list(rows)) for rows in zip(*histories, strict=True)]


def _together(rows: list[_Row]) -> _Row:
    numbers = {key: [row[key] for row in rows] for key in rows[0] if key not in ("epoch", "quantized_fraction")}
    means = {key: sum(values) / len(rows) for key, values in numbers.items()}
    return rows[0] | means | {"seconds": round(sum(numbers["seconds"]), 3)}
