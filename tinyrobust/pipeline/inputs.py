"""The inputs of a .npz for an existing file: read, fitted to its shape, and their units decided. Imports no TensorFlow."""

from dataclasses import dataclass, replace
from pathlib import Path

from tinyrobust.attacks.target import InputRange
from tinyrobust.data.samples import Samples, fitted, read_samples
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import DataError
from tinyrobust.pipeline.models import locate
from tinyrobust.robustness.values import Attacked, Scale, attacked


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is attacked of a .npz.

    Attributes:
        samples: As the file has them, in the shape that the model takes.
        attacked: As they are attacked.
        notes: What was done to them, in words.
    """

    samples: Samples
    attacked: Attacked
    notes: tuple[str, ...]


def check(model: str | Path, data: str | None) -> None:
    """Refuses a .npz that does not fit a file, before anything is loaded that takes long.

    Raises:
        TinyRobustError: The file or the data cannot be used, or the one is not of the other's shape.
    """
    _, tflite = locate(model)
    if data is not None and data.endswith(".npz"):
        read_fitted(Int8Model(tflite), Path(data).expanduser())


def read_fitted(model: Int8Model, path: Path) -> tuple[Samples, tuple[str, ...]]:
    """The samples of a .npz in the shape that a file takes, and what was done for that.

    Raises:
        DataError: They cannot be read, or made so, or have labels that the file has no output for.
    """
    samples = read_samples(path)
    x, note = fitted(samples.x, tuple(model.input_shape), path.name)
    if samples.y.max() >= model.classes:
        raise DataError(
            f"Expected labels from 0 to {model.classes - 1}, the outputs of {model.path.name}. "
            f"Received: {samples.y.min()} to {samples.y.max()} in y_test of {path.name}",
            hint="Numbered from 1? y_test = y_test - 1." if samples.y.min() == 1 and samples.y.max() == model.classes else None,
        )
    train = samples.train and (fitted(samples.train[0], tuple(model.input_shape), path.name)[0], samples.train[1])
    return replace(samples, x=x, train=train), (note,) if note else ()


def read_inputs(tflite: Path, path: Path, stated: InputRange | None, scale: Scale | None) -> Inputs:
    """The samples of a .npz as they are attacked.

    Args:
        tflite: The file.
        path: The .npz.
        stated: What the user says of the units.
        scale: Of what an epsilon is a share, where the samples are no pixels.

    Raises:
        TinyRobustError: They cannot be read, do not fit, or their units cannot be decided.
    """
    model = Int8Model(tflite)
    samples, notes = read_fitted(model, path)
    known = None if samples.train is None else samples.train[0]
    found = attacked(model, samples.x, samples.y, stated=stated, scale=scale, known=known)
    if found.unit:
        notes += (f"An epsilon is a share {found.unit}.",) if found.per_unit == 1 else (_deviations(found),)
    return Inputs(samples, found, notes)


def _deviations(found: Attacked) -> str:
    return f"Epsilons are {found.unit}: one of them is {found.per_unit:.4g} of the range that an attack may use."
