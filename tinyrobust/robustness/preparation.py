"""An evaluation's job, made ready: the data checked against the file, in the shape that attacks see, their units decided."""

from dataclasses import replace

import numpy as np

from tinyrobust.data.rows import Rows
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.reading import Classes
from tinyrobust.errors import DataError, ModelFileError
from tinyrobust.robustness.job import EvaluationData, EvaluationJob, Subject
from tinyrobust.robustness.targets import SoundFrontEnd
from tinyrobust.robustness.targets.flashed import attack_shape
from tinyrobust.robustness.units import decide


def prepared(job: EvaluationJob, model: Int8Model) -> EvaluationJob:
    """The job with everything decided that file and data decide together.

    Args:
        job: The evaluation.
        model: The file of its subject.

    Raises:
        DataError: The test set does not fit the file.
        ModelFileError: The file cannot be used, or nothing decides its units.
    """
    _check_data(model, job.data, job.subject, grid=job.plan.grid)
    return replace(job, subject=_in_units(job.subject, model, job.data), data=_as_attacked(job.data))


def _in_units(subject: Subject, model: Int8Model, data: EvaluationData) -> Subject:
    """The subject with the units of its input decided. Features behind a front end are of the range that the file says."""
    if subject.units is not None or subject.front_end is not None:
        return subject
    units = decide(model, data.samples, data.labels, subject.input_range, network=bool(subject.networks))
    return replace(subject, units=units, input_range=units.input_range)


def _as_attacked(data: EvaluationData) -> EvaluationData:
    """The data in the shape in which attacks see them."""
    shape = tuple(data.samples.shape[1:])
    if isinstance(data.samples, Rows) or data.samples.dtype == np.int16 or attack_shape(shape) == shape:
        return data
    few = data.training_samples
    learned = few and (few[0][:].reshape(-1, *attack_shape(shape)), few[1])
    return replace(data, samples=data.samples.reshape(-1, *attack_shape(shape)), training_samples=learned)


def _check_data(model: Int8Model, data: EvaluationData, subject: Subject, *, grid: bool) -> None:
    shape, samples, labels = tuple(model.input_shape), data.samples, data.labels
    if subject.front_end is not None:
        clip = SoundFrontEnd(subject.front_end).input_shape
        fits, what = samples.dtype == np.int16 and samples.shape[1:] == clip, f"int16 clips of shape {clip}"
    else:
        # Real numbers are shares of a range: of which must have been decided with them.
        kinds = (np.uint8,) if subject.units is None else (np.uint8, np.float32)
        fits = samples.dtype in kinds and tuple(samples.shape[1:]) in (shape, attack_shape(shape))
        what = f"uint8 images of shape {shape}"
    if not fits:
        raise DataError(
            f"Expected {what}: that is what the file takes. Received: {samples.dtype} {samples.shape[1:]}",
            hint="Color and size of the data must be those that the model was trained with.",
        )
    if grid and samples.dtype == np.float32:
        raise DataError(
            "Expected pixels of 8 bits, for examples that are rounded to a sensor's. Received: real numbers",
            hint="Leave --grid out.",
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(f"Expected labels as integers [n]. Received: {labels.dtype} {labels.shape}")
    if len(labels) != len(samples) or not len(labels) or labels.min() < 0 or labels.max() >= model.classes:
        raise DataError(
            f"Expected {len(samples)} labels (at least one) from 0 to {model.classes - 1}, the classes of the file. "
            f"Received: {len(labels)} labels" + (f" from {labels.min()} to {labels.max()}" if len(labels) else "")
        )
    if model.sigmoids and isinstance(model.reading, Classes):
        raise ModelFileError(
            f"{model.path}: expected scores of which one is meant. Received: {model.sigmoids} sigmoids, labels of which "
            "several or none may hold (multi-label); each is a figure of its own",
            hint=f"With y_test [n, {model.sigmoids}] of 0 and 1 every label is attacked, with --label K and y_test [n] one. "
            "Of a network with one label for each input: end it with a softmax, or with logits.",
        )
