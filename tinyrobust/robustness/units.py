"""In which units a file takes its input: said by the user, by the file, or by the data, and never guessed in silence.

An attack changes inputs that lie in [0, 1]. What these are in the file's own units is decided once for an evaluation:

- The user says it (`--input-range`, `--normalised`): taken, unless the file contradicts it.
- The file says it, by its input's quantization or by its first QUANTIZE, and one usual range fits: taken.
- Several ranges fit, or the file says nothing: each is tried on clean samples. One that is clearly best, and better than
  chance, is taken; else the user is asked.

Imports no TensorFlow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinyrobust.attacks.target import BoolArray, FloatArray, InputRange, IntArray
from tinyrobust.data.arrays import Samples, stratified
from tinyrobust.deploy import input_units
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.reading import Anomaly
from tinyrobust.errors import ModelFileError
from tinyrobust.robustness.ranges import check_channels, in_units

Source = Literal["user", "file", "data", "network"]
_TRIED = 256  # clean samples that a range is tried on
_REMEDY = "Say it: --input-range LOW HIGH, what 0 and 255 of the data become in the file's units, or --normalised MEAN STD."


@dataclass(frozen=True)
class Units:
    """What was decided.

    Attributes:
        input_range: What 0 and 1 of an attacked input become in the file's units.
        source: Who says so.
        words: The same in a sentence.
    """

    input_range: InputRange
    source: Source
    words: str


def decide(
    model: Int8Model, samples: Samples, labels: IntArray, stated: InputRange | None = None, *, network: bool = False
) -> Units:
    """The units of pixels: uint8 samples.

    Args:
        model: The file.
        samples: Test images [n, ...], uint8.
        labels: Their classes [n].
        stated: What the user says.
        network: Whether the network that the file was made from is known: it takes images in [0, 1].

    Raises:
        ModelFileError: What the user says contradicts the file, or nothing decides.
    """
    what = "0 and 255 of the data"
    if stated is not None:
        return as_stated(model, what, stated)
    if network and model.grid is None:
        return Units((0.0, 1.0), "network", words(what, (0.0, 1.0), "as the network takes it"))
    ranges = model.pixel_ranges()
    if len(ranges) == 1 and not _is_guess(model, ranges[0]):
        return Units(ranges[0], "file", words(what, ranges[0], f"said by {where(model)}"))
    chosen, said = compared(model, ranges, lambda index, units: _placed(samples[index], units, model), labels)
    return Units(ranges[chosen], "data", words(what, ranges[chosen], said))


def as_stated(model: Int8Model, what: str, stated: InputRange) -> Units:
    """The units of pixels that the user states; `what` are their ends, in words.

    Raises:
        ModelFileError: The file contradicts them.
    """
    check_stated(model, stated)
    return Units(stated, "user", words(what, stated, "as --input-range or --normalised states it"))


def check_stated(model: Int8Model, stated: InputRange) -> None:
    """Refuses a range of another number of channels than the file's inputs have, or one that contradicts the file.

    Raises:
        ModelFileError: It does.
    """
    check_channels(stated, model.input_shape)
    input_units.check_stated(model.path, model.grid, stated)


def compared(
    model: Int8Model,
    ranges: Sequence[InputRange],
    inputs: Callable[[IntArray, InputRange], FloatArray],
    labels: IntArray,
    *,
    first: bool = False,
) -> tuple[int, str]:
    """Which of several ranges clean samples speak for, and a sentence that says so.

    Args:
        model: The file.
        ranges: Those that are possible.
        inputs: Of places of samples [n] and a range: these samples in the file's units.
        labels: Classes of all samples.
        first: Take the first where none is clearly better.

    Raises:
        ModelFileError: Samples speak for none of them, or for several.
    """
    index = stratified(labels, min(_TRIED, len(labels)), 0)
    y = labels[index]
    right: list[BoolArray] = [_named(model, inputs(index, units), y) == y for units in ranges]
    best = max(range(len(ranges)), key=lambda place: int(right[place].sum()))
    if first and (best == 0 or not _clearly(right[best], right[0])):
        best = 0
    listing = ", ".join(f"{input_units.name_of(r)}: {hits.mean():.1%}" for r, hits in zip(ranges, right, strict=True))
    found = f"{len(y)} clean samples, right in {listing}"
    chance = float(np.bincount(y).max() / len(y))
    others = [place for place in range(len(ranges)) if place != best]
    if not first and right[best].mean() <= chance + 2 * np.sqrt(chance * (1 - chance) / len(y)):
        raise ModelFileError(
            f"{model.path}: expected a range of the input in which the file is better than chance ({chance:.0%}); "
            f"{where(model)} does not say it. Received: {found}",
            hint=f"{_REMEDY} If none fits: are the labels those of the file, in its order?",
        )
    if not first and not all(_clearly(right[best], right[other]) for other in others):
        raise ModelFileError(
            f"{model.path}: expected one range of the input; {where(model)} allows several, and the data do not tell them "
            f"apart. Received: {found}",
            hint=_REMEDY,
        )
    return best, f"{where(model)} does not say it; decided by {found}"


def _named(model: Int8Model, x: FloatArray, y: IntArray) -> IntArray:
    """What a file names [n]; of an anomaly detector whose threshold is not set yet, with the one that its normal inputs set."""
    scores, reading = model.predict(x), model.reading
    if not isinstance(reading, Anomaly) or reading.normals or not (y == 0).any():
        return np.asarray(scores.argmax(axis=1), np.int64)
    return np.asarray(scores[:, 1] > reading.limit(scores[y == 0, 1]), np.int64)


def where(model: Int8Model) -> str:
    """What says the units of a file."""
    return model.grid.where if model.grid else "the file, whose input is float and not quantized,"


def _clearly(better: BoolArray, worse: BoolArray) -> bool:
    """Whether more samples are right than in another range, by more than chance (of those in which they differ)."""
    gained, lost = int((better & ~worse).sum()), int((worse & ~better).sum())
    return gained - lost > max(1.0, 2 * float(np.sqrt(gained + lost)))


def _is_guess(model: Int8Model, units: InputRange) -> bool:
    """Means and deviations are recognised by their numbers alone: clean samples must confirm them."""
    return model.grid is None or units not in input_units.KNOWN


def _placed(samples: NDArray[np.generic], units: InputRange, model: Int8Model) -> FloatArray:
    x = samples.astype(np.float32) / np.float32(255)
    return np.asarray(in_units(x.reshape(len(x), *model.input_shape), units), np.float32)


def words(what: str, units: InputRange, why: str) -> str:
    """A sentence: what these inputs are, in the file's units, and why."""
    return f"{what} are {input_units.name_of(units)} in the file's units, {why}."
