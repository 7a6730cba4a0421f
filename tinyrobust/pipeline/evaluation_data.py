"""On what a model is attacked: the features of a data set, or the sound behind them and the front end that stands before it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tinyrobust.attacks.target import InputRange
from tinyrobust.data.arrays import Dataset, stratified
from tinyrobust.data.samples import fitted
from tinyrobust.data.sources import load
from tinyrobust.data.speech.frontend import heard
from tinyrobust.data.speech.frontend_record import FRONTEND, FrontendRecord
from tinyrobust.deploy.reading import Reading
from tinyrobust.errors import DataError, MissingToolError, ModelFileError
from tinyrobust.pipeline.inputs import read_inputs
from tinyrobust.progress import Progress
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.data import Data
from tinyrobust.recipe.speech import SILENCE, UNKNOWN, Speech
from tinyrobust.robustness.job import EvaluationData
from tinyrobust.robustness.units import Units
from tinyrobust.robustness.values import Scale

# Samples that a universal perturbation learns on: more of them make it better slowly, and longer at once.
TRAINING_SAMPLES = 1000


def features_of(dataset: Dataset, shape: tuple[int, ...] | None = None) -> EvaluationData:
    """The features, or images, of a data set; in the shape that a file takes, where it is given.

    Raises:
        DataError: They cannot be made so.
    """
    few = dataset.validation.take(np.arange(min(TRAINING_SAMPLES, len(dataset.validation))))
    x, learned, note = dataset.test.x, few.x, ""
    if shape is not None and x.shape[1:] != shape:
        x, note = fitted(x[:], shape, dataset.name)
        learned, _ = fitted(learned[:], shape, dataset.name)
    return EvaluationData(
        dataset.name,
        dataset.fingerprint,
        x,
        dataset.test.y,
        (learned, few.y),
        classes=len(dataset.classes),
        notes=(note,) if note else (),
    )


def own_features(recipe: Recipe, tflite: Path, data_dir: Path | None, progress: Progress) -> EvaluationData:
    """The test images of a model's own data set, or the features that its own front end makes of the test clips.

    The grid of features is that in the `frontend.json` beside the file: fitted anew to the training clips, it would differ in
    the last digits on another processor.

    Args:
        recipe: That it was trained by.
        tflite: The file.
        data_dir: Where data sets are stored.
        progress: Called with a label, what is done and how much there is.

    Raises:
        DataError: The data set is not on this machine, or cannot be read.
        MissingToolError: What reads it is not installed.
    """
    dataset, path = own_data(recipe, data_dir, progress), tflite.with_name(FRONTEND)
    if dataset.speech is None or not path.is_file():
        return features_of(dataset)
    record, recordings = FrontendRecord.load(path), dataset.speech.recordings
    few = np.arange(min(TRAINING_SAMPLES, len(dataset.validation)))
    return replace(
        features_of(dataset),
        samples=heard(record, recordings.audio("test")),
        training_samples=(heard(record, recordings.audio("validation", few)), dataset.validation.y[few]),
    )


def own_data(recipe: Recipe, data_dir: Path | None, progress: Progress) -> Dataset:
    """The data set of a recipe for who does not train: without augmented copies.

    Where no synthesizer is here, it is without the clips that it would speak, which are training clips alone; the fingerprint
    is another then.

    Raises:
        DataError: It is not on this machine, or cannot be read.
        MissingToolError: What reads it is not installed.
    """
    try:
        return load(recipe.data, recipe.seed, data_dir, progress, copies=False)
    except MissingToolError:
        if recipe.data.speech is None or recipe.data.speech.synthetic is None:
            raise
        return load(recorded(recipe.data), recipe.seed, data_dir, progress)


def recorded(data: Data) -> Data:
    """A data set of speech without what is made of its training clips; validation and test clips do not depend on that."""
    assert data.speech is not None
    plain = data.speech.model_copy(update={"synthetic": None, "augment": type(data.speech.augment)()})
    return data.model_copy(update={"speech": plain})


def features_from(
    tflite: Path, path: Path, stated: InputRange | None, scale: Scale | None, reading: Reading | None = None
) -> tuple[EvaluationData, Units, Reading]:
    """The inputs of a .npz, of any shape and number type, for an existing file, their units, and what its outputs mean.

    Args:
        tflite: The file.
        path: The .npz.
        stated: What the user says of the units.
        scale: Of what an epsilon is a share, where the samples are no pixels.
        reading: What the user says of the outputs.

    Raises:
        TinyRobustError: They cannot be read, do not fit, or their units cannot be decided.
    """
    read = read_inputs(tflite, path, stated, scale, reading)
    samples, found, learned = read.samples, read.attacked, None
    if samples.train is not None:
        few = stratified(samples.train[1], min(TRAINING_SAMPLES, len(samples.train[1])), 0)
        learned = (found.more(samples.train[0][few]), samples.train[1][few])
    data = EvaluationData(
        samples.name,
        samples.fingerprint,
        found.stored,
        samples.y,
        learned,
        classes=samples.classes,
        unit=found.unit,
        per_unit=found.per_unit,
        notes=read.notes,
    )
    return data, found.units, read.reading


def sound_of(dataset: Dataset, front_end: FrontendRecord | None = None) -> tuple[EvaluationData, FrontendRecord]:
    """The sound of a data set of speech, and the front end that stands before the model.

    Args:
        dataset: With the model's classes, in any order.
        front_end: Of the model; that of the data set when absent.

    Raises:
        DataError: It is no data set of speech, or of other classes.
    """
    if dataset.speech is None:
        raise DataError(
            f"Expected a data set of speech. Received: {dataset.name}",
            hint="Sound is attacked before the front end of a keyword spotter: --data speech-commands.",
        )
    record, recordings = front_end or dataset.speech.record, dataset.speech.recordings
    if set(record.classes) != set(dataset.classes):
        raise DataError(
            f"Expected the classes of the model, {', '.join(record.classes)}. Received: {', '.join(dataset.classes)}",
            hint="classes in frontend.json are those of the model's outputs, in their order.",
        )
    order = np.array([record.classes.index(name) for name in dataset.classes])
    few = np.arange(min(TRAINING_SAMPLES, len(dataset.validation)))
    data = EvaluationData(
        dataset.name,
        dataset.fingerprint,
        recordings.audio("test"),
        order[dataset.test.y],
        (recordings.audio("validation", few), order[dataset.validation.y[few]]),
        classes=len(record.classes),
    )
    return data, record


def sound_for(
    recipe: Recipe | None,
    tflite: Path,
    *,
    data: str | None,
    frontend: Path | None,
    seed: int,
    data_dir: Path | None,
    progress: Progress,
) -> tuple[EvaluationData, FrontendRecord]:
    """The sound for an existing model, and its front end.

    Args:
        recipe: Of the run that the file is of; None for anybody's file.
        tflite: The file; its `frontend.json` stands beside it.
        data: A data set's name or a folder of clips; that of the recipe when absent.
        frontend: A `frontend.json` elsewhere.
        seed: For a file that is not of a run.
        data_dir: Where data sets are stored.
        progress: Called with a label, what is done and how much there is.

    Raises:
        ModelFileError: There is no `frontend.json`.
        DataError: The data are not named, cannot be read, or do not fit the model.
    """
    path = frontend or tflite.with_name(FRONTEND)
    if not path.is_file():
        raise ModelFileError(
            f"Expected the front end of {tflite.name} in {path}. Received: there is no such file",
            hint="Sound can be attacked only where it is known what the model hears: name its frontend.json with --frontend. "
            "docs/tutorials/wake-word.md says how to write one.",
        )
    record = FrontendRecord.load(path)
    if recipe and data is None:
        return sound_of(own_data(recipe, data_dir, progress), record)
    if data is None:
        raise DataError(
            f"{tflite} is not the file of a run, so its data set is not known.",
            hint="Name one: --data speech-commands, or the path of a folder with a folder of clips for every word.",
        )
    return sound_of(load(Data(name=data, speech=_task(record)), seed, data_dir, progress), record)


def _task(record: FrontendRecord) -> Speech:
    """The task whose classes are those of a model."""
    words = tuple(name for name in record.classes if name not in (UNKNOWN, SILENCE))
    shares = {key: float(key in record.classes) for key in (UNKNOWN, SILENCE)}
    return Speech(task="own-words", words=words, frontend=record.settings, **shares)
