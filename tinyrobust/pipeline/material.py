"""What a model is attacked on: the features of a data set, or the sound behind them and the front end that stands before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyrobust import toml
from tinyrobust.data.arrays import Dataset, Samples
from tinyrobust.data.sources import load
from tinyrobust.data.speech.frontend_record import FRONTEND, FrontendRecord
from tinyrobust.errors import DataError, ModelFileError, RecipeError
from tinyrobust.progress import Progress
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.data import Data
from tinyrobust.recipe.robustness import Robustness, Waveform
from tinyrobust.recipe.speech import SILENCE, UNKNOWN, Speech

# Samples that a universal perturbation learns on: more of them make it better slowly, and longer at once.
LESSON = 1000


@dataclass(frozen=True, eq=False)
class Material:
    """What `evaluate` is given of a data set.

    Attributes:
        dataset: The data set that it is of.
        samples: The test part: uint8 images or features, or clips, int16 [n, 16000].
        labels: Its classes [n], as the model counts them.
        lesson: Samples and classes of the validation part, to learn on.
        frontend: The front end of the model, where sound is attacked.
    """

    dataset: Dataset
    samples: Samples
    labels: NDArray[np.int64]
    lesson: tuple[Samples, NDArray[np.int64]]
    frontend: FrontendRecord | None = None


def material_of(dataset: Dataset) -> Material:
    """The features, or images, of a data set."""
    few = dataset.validation.take(np.arange(min(LESSON, len(dataset.validation))))
    return Material(dataset, dataset.test.x, dataset.test.y, (few.x, few.y))


def sound_of(dataset: Dataset, frontend: FrontendRecord | None = None) -> Material:
    """The sound of a data set of speech.

    Args:
        dataset: With the model's classes, in any order.
        frontend: Of the model; that of the data set when absent.

    Raises:
        DataError: It is no data set of speech, or of other classes.
    """
    if dataset.speech is None:
        raise DataError(
            f"Expected a data set of speech. Received: {dataset.name}",
            hint="Sound is attacked before the front end of a keyword spotter: --data speech-commands.",
        )
    record, recordings = frontend or dataset.speech.record, dataset.speech.recordings
    if set(record.classes) != set(dataset.classes):
        raise DataError(
            f"Expected the classes of the model, {', '.join(record.classes)}. Received: {', '.join(dataset.classes)}",
            hint="classes in frontend.json are those of the model's outputs, in their order.",
        )
    order = np.array([record.classes.index(name) for name in dataset.classes])
    few = np.arange(min(LESSON, len(dataset.validation)))
    return Material(
        dataset,
        recordings.audio("test"),
        order[dataset.test.y],
        (recordings.audio("validation", few), order[dataset.validation.y[few]]),
        record,
    )


def sound_for(
    recipe: Recipe | None,
    tflite: Path,
    *,
    data: str | None,
    frontend: Path | None,
    seed: int,
    data_dir: Path | None,
    progress: Progress,
) -> Material:
    """The sound for a model that is there already.

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
            hint="Sound can be attacked only where it is known what the model hears: name its frontend.json with --frontend.",
        )
    record = FrontendRecord.load(path)
    if recipe and data is None:
        return sound_of(load(recipe.data, recipe.seed, data_dir, progress), record)
    if data is None:
        raise DataError(
            f"{tflite} is not the file of a run, so its data set is not known.",
            hint="Name one: --data speech-commands, or the path of a folder with a folder of clips for every word.",
        )
    return sound_of(load(Data(name=data, speech=_task(record)), seed, data_dir, progress), record)


def sound_settings(
    recipe: Recipe | None, protocol: str | None, epsilons: Sequence[float], snr_db: Sequence[float], samples: int | None
) -> Robustness:
    """The recipe's settings, with what was chosen instead; the headline is 20 dB where that is measured, else the last SNR.

    Raises:
        RecipeError: What was chosen is not allowed.
    """
    base = recipe.robustness if recipe else Robustness()
    before = base.waveform or Waveform()
    levels = tuple(sorted(set(snr_db), reverse=True)) or before.snr_db
    values = before.model_dump(mode="json") | {
        "protocol": protocol or before.protocol,
        "epsilons": tuple(sorted(set(epsilons))) or before.epsilons,
        "snr_db": levels,
        "headline_snr_db": before.headline_snr_db if before.headline_snr_db in levels else levels[-1],
        "samples": samples or before.samples,
    }
    chosen = toml.validated(Waveform, values, "The choice of radii", RecipeError)
    return base.model_copy(update={"waveform": chosen})


def _task(record: FrontendRecord) -> Speech:
    """The task whose classes are those of a model."""
    words = tuple(name for name in record.classes if name not in (UNKNOWN, SILENCE))
    shares = {key: float(key in record.classes) for key in (UNKNOWN, SILENCE)}
    return Speech(task="own-words", words=words, frontend=record.settings, **shares)
