"""The inputs of a .npz for an existing file: read, fitted to its shape, and their units decided. Imports no TensorFlow."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinyrobust.attacks.target import InputRange
from tinyrobust.data.samples import Labels, Samples, Values, fitted, read_samples
from tinyrobust.deploy import artefact
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.reading import Anomaly, Label, Reading, sigmoids
from tinyrobust.errors import DataError
from tinyrobust.pipeline.models import locate
from tinyrobust.robustness.values import SATURATED, Attacked, Scale, attacked


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is attacked of a .npz.

    Attributes:
        samples: As the file has them, in the shape that the model takes.
        attacked: As they are attacked.
        reading: What the model's outputs mean: of an anomaly detector, with its threshold.
        notes: What was done to them, in words.
    """

    samples: Samples
    attacked: Attacked
    reading: Reading
    notes: tuple[str, ...]


def check(model: str | Path, data: str | None, reading: Reading | None = None) -> None:
    """Refuses a .npz that does not fit a file, before anything is loaded that takes long.

    Raises:
        TinyRobustError: The file or the data cannot be used, or the one is not of the other's shape.
    """
    _, tflite = locate(model)
    if data is not None and data.endswith(".npz"):
        read_fitted(Int8Model(tflite, read_as=reading), Path(data).expanduser())


def every_label(model: str | Path, data: str | None) -> list[int]:
    """The labels that a .npz has of a file's several sigmoids, each attacked by itself; none of any other file or data.

    Raises:
        TinyRobustError: The file or the data cannot be used.
    """
    _, tflite = locate(model)
    if data is None or not data.endswith(".npz") or not (count := sigmoids(artefact.read(tflite))):
        return []
    return list(range(count)) if read_samples(Path(data).expanduser(), count).y.ndim == 2 else []


def read_fitted(model: Int8Model, path: Path) -> tuple[Samples, tuple[str, ...]]:
    """The samples of a .npz in the shape that a file takes, and what was done for that.

    Raises:
        DataError: They cannot be read, or made so, or have labels that the file has no output for.
    """
    samples = read_samples(path, 1 if isinstance(model.reading, Anomaly) else model.sigmoids)
    if isinstance(model.reading, Label):
        samples = _of_label(samples, model.reading.index)
    x, note = fitted(samples.x, tuple(model.input_shape), path.name)
    if samples.y.max() >= model.classes:
        outputs = {"classes": "the outputs", "label": "0 and 1 for each label", "anomaly": "0 (normal) and 1 (an anomaly)"}
        raise DataError(
            f"Expected labels from 0 to {model.classes - 1}, {outputs[model.reading.kind]} of {model.path.name}. "
            f"Received: {samples.y.min()} to {samples.y.max()} in y_test of {path.name}",
            hint="Numbered from 1? y_test = y_test - 1." if samples.y.min() == 1 and samples.y.max() == model.classes else None,
        )
    train = samples.train and (fitted(samples.train[0], tuple(model.input_shape), path.name)[0], samples.train[1])
    return replace(samples, x=x, train=train), (note,) if note else ()


def read_inputs(
    tflite: Path, path: Path, stated: InputRange | None, scale: Scale | None, reading: Reading | None = None
) -> Inputs:
    """The samples of a .npz as they are attacked.

    Args:
        tflite: The file.
        path: The .npz.
        stated: What the user says of the units.
        scale: Of what an epsilon is a share, where the samples are no pixels.
        reading: What the user says of the outputs.

    Raises:
        TinyRobustError: They cannot be read, do not fit, or their units cannot be decided.
    """
    model = Int8Model(tflite, read_as=reading)
    samples, notes = read_fitted(model, path)
    known = None if samples.train is None else samples.train[0]
    found = attacked(model, samples.x, samples.y, stated=stated, scale=scale, known=known)
    if found.unit:
        notes += (f"An epsilon is a share {found.unit}.",) if found.per_unit == 1 else (_deviations(found),)
    if not isinstance(model.reading, Anomaly):
        return Inputs(samples, found, model.reading, notes)
    anomaly, tested, note = _threshold(model, model.reading, samples, found)
    samples = replace(samples, x=samples.x[tested], y=samples.y[tested], classes=2)
    return Inputs(samples, replace(found, stored=found.stored[tested]), anomaly, (*notes, note))


def _of_label(samples: Samples, index: int) -> Samples:
    """The samples with 0 and 1 of one label."""

    def of(y: Labels) -> Labels:
        return y[:, index] if y.ndim == 2 else y

    train = samples.train and (samples.train[0], of(samples.train[1]))
    return replace(samples, y=of(samples.y), train=train, classes=2)


def _threshold(model: Int8Model, reading: Anomaly, samples: Samples, found: Attacked) -> tuple[Anomaly, Labels, str]:
    """The reading with a threshold that normal inputs set, the places of the test inputs [n] that are left, and a note."""
    places = np.arange(len(samples.y))
    if samples.train is not None and (samples.train[1] == 0).any():
        train = samples.train[0][samples.train[1] == 0]
        _check_units(model, samples, found, train)
        normal, tested = found.more(train), places
        source = "the normal inputs of x_train"
    else:
        set_aside = np.flatnonzero(samples.y == 0)[::2]
        normal, tested = found.stored[set_aside], np.setdiff1d(places, set_aside)
        source = "every second normal input of x_test, which are not tested then (no input of x_train has y_train 0; "
        source += "where neighbours overlap, as windows of one recording do, put some aside as x_train yourself)"
    inputs = found.quantized(model, normal)
    calibrated = reading.calibrated(*model.real(inputs, model.run(inputs)))
    what = "mean squared reconstruction error" if reading.score == "reconstruction" else "output of the file"
    return (
        calibrated,
        tested,
        f"An anomaly is an input whose score, the {what}, is above {calibrated.threshold:.6g}: at most "
        f"{100 * reading.false_alarms:.3g} % of {calibrated.normals} normal inputs are, {source}. Each input is judged "
        "by itself; a mean over several of them is another detector.",
    )


def _check_units(model: Int8Model, samples: Samples, found: Attacked, train: Values) -> None:
    """Refuses normal inputs [m, ...] in other units than the test inputs': clipped to their range, they set any threshold."""
    low, high = (-np.inf, np.inf) if model.grid is None else (model.grid.low, model.grid.high)
    if found.looks is not None:
        low, high = found.looks
    pixels = found.stored.dtype == np.uint8 and found.looks is None
    outside = 0.0 if pixels else float(np.mean((train < low) | (train > high)))
    if outside > SATURATED or (train.dtype == np.uint8) != (samples.x.dtype == np.uint8):
        raise DataError(
            f"Expected x_train in the units of x_test, {samples.x.dtype} from {samples.x.min():g} to {samples.x.max():g}. "
            f"Received: {train.dtype} from {train.min():g} to {train.max():g}",
            hint="Normal inputs set the threshold: scale both in the same way.",
        )


def _deviations(found: Attacked) -> str:
    return f"Epsilons are {found.unit}: one of them is {found.per_unit:.4g} of the range that an attack may use."
