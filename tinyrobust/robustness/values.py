"""Inputs that are no pixels, and pixels as real numbers: what an attack may change of them, and by how much.

Real numbers are in the file's own input units: that is what a program feeds it. An attack sees each value as a share of a
range, from 0 to 1: for numbers that look like pixels (0 to 1, 0 to 255, -1 to 1, -128 to 127) that range, else the range that
each feature has in the data, or all of them together, or its standard deviation. Where the file contradicts the numbers,
pixels are brought into its units, and everything else is refused. Imports no TensorFlow.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tinyrobust.attacks.target import FloatArray, InputRange, IntArray
from tinyrobust.data.arrays import scale as scale_of_pixels
from tinyrobust.data.samples import Values
from tinyrobust.deploy import input_units
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import DataError
from tinyrobust.robustness.ranges import along, in_units
from tinyrobust.robustness.units import Units, as_stated, check_stated, compared, decide, where, words

Scale = Literal["feature", "all", "std"]
"""Of what an epsilon is a share: of each feature's range in the data, of the range of all; or in standard deviations."""
SATURATED = 0.01  # so many values may lie outside of what the file can tell apart
_FILLED = 0.05  # numbers that fill less of a file's grid than this are in other units


@dataclass(frozen=True, eq=False)
class Attacked:
    """Samples as they are attacked.

    Attributes:
        stored: uint8 [n, ...], or float32 in [0, 1].
        units: What they are in the file's units.
        unit: How much an epsilon of one is, in words; nothing for pixels.
        per_unit: An L-inf radius of one, in that unit, is so much here: 1, but for standard deviations.
        looks: What 0 and 1 are in the data, of numbers that look like pixels.
    """

    stored: Values
    units: Units
    unit: str = ""
    per_unit: float = 1.0
    looks: tuple[float, float] | None = None

    def quantized(self, model: Int8Model, stored: Values) -> Values:
        """Some of the samples, or more of them, [n, ...], as the file reads them, [n, *model.input_shape]."""
        shares = scale_of_pixels(stored) if stored.dtype == np.uint8 else stored.astype(np.float32)
        return model.quantized(in_units(shares.reshape(-1, *model.input_shape), self.units.input_range))

    def more(self, x: Values) -> Values:
        """Other samples of the same data in the same units."""
        if self.stored.dtype == np.uint8 and x.dtype == np.uint8:
            return x
        return _placed(x, self.units.input_range) if self.looks is None else _pixels(x, *self.looks)


def attacked(
    model: Int8Model,
    x: Values,
    y: IntArray,
    *,
    stated: InputRange | None = None,
    scale: Scale | None = None,
    known: Values | None = None,
) -> Attacked:
    """What is attacked of inputs of any number type, and in which units.

    Args:
        model: The file.
        x: Test inputs [n, *model.input_shape].
        y: Their classes [n].
        stated: What the user says: for pixels what 0 and 255 (or 0 and 1) become in the file's units, else the lowest and the
            highest value that an attack may set, of all or of each feature.
        scale: Of what an epsilon is a share; absent: of the range of pixels where they look like these, else "feature".
        known: Other inputs of the same data, which the ranges of features are taken from too.

    Raises:
        DataError: The numbers contradict what the file says.
        ModelFileError: What the user says does, or nothing decides.
    """
    if x.dtype == np.uint8 and scale is None:
        return Attacked(x, decide(model, x, y, stated))
    if x.dtype == np.int8 and model.input_dtype == np.int8 and stated is None and scale is None:
        return _raw(model, x)
    looks = None if scale else _looks_like_pixels(x)
    if looks is not None:
        return _of_pixels(model, x, y, stated, looks)
    return _as_they_are(model, x, stated, scale or "feature", known)


def _raw(model: Int8Model, x: Values) -> Attacked:
    assert model.input_range is not None, "its inputs are integers"
    sentence = (
        f"the data are the file's own integers, -128 to 127, which are {input_units.name_of(model.input_range)} in its units."
    )
    return Attacked(_pixels(x, -128.0, 127.0), Units(model.input_range, "file", sentence), looks=(-128.0, 127.0))


def _looks_like_pixels(x: Values) -> tuple[float, float] | None:
    """The usual range of pixels that numbers lie in; None where they lie in none."""
    low, high = float(x.min()), float(x.max())
    whole = x.dtype.kind in "iu" or bool((x == np.round(x)).all())
    if low >= 0 and 0.5 < high <= 1:
        return 0.0, 1.0
    if low >= 0 and whole and 127 < high <= 255:
        return 0.0, 255.0
    if -1 <= low < -0.5 and 0.5 < high <= 1:
        return -1.0, 1.0
    return (-128.0, 127.0) if -128 <= low < -64 and whole and 64 < high <= 127 else None


def _of_pixels(model: Int8Model, x: Values, y: IntArray, stated: InputRange | None, looks: tuple[float, float]) -> Attacked:
    """Numbers that look like pixels: as they are where the file allows it, else in the units that it asks for."""
    stored, what = _pixels(x, *looks), f"{looks[0]:g} and {looks[1]:g} of the data"
    if stated is not None:
        return Attacked(stored, as_stated(model, what, stated), looks=looks)
    as_they_are = not _contradiction(model, x)
    ranges: list[InputRange] = [looks] if as_they_are else []
    if model.grid is not None or is_image(model.input_shape):
        found = input_units.candidates(model.grid, model.channels)
        ranges += [units for units in found if units != looks]
    if not ranges:
        raise _refused(model, x)
    if len(ranges) == 1 and (as_they_are or ranges[0] in input_units.KNOWN):
        said = "as the data are" if as_they_are else f"said by {where(model)}"
        units = Units(ranges[0], "data" if as_they_are else "file", words(what, ranges[0], said))
        return Attacked(stored, units, looks=looks)

    def inputs(index: IntArray, units: InputRange) -> FloatArray:
        shares = (x[index].astype(np.float32) - np.float32(looks[0])) / np.float32(looks[1] - looks[0])
        return np.asarray(in_units(shares, units), np.float32)

    chosen, said = compared(model, ranges, inputs, y, first=as_they_are)
    sentence = f"{what} are {input_units.name_of(ranges[chosen])} in the file's units: {said}."
    return Attacked(stored, Units(ranges[chosen], "data", sentence), looks=looks)


def _as_they_are(model: Int8Model, x: Values, stated: InputRange | None, scale: Scale, known: Values | None) -> Attacked:
    """Numbers in the file's own units."""
    if _contradiction(model, x):
        raise _refused(model, x)
    every = np.concatenate(
        [part.reshape(len(part), -1).astype(np.float32) for part in (x, *([] if known is None else [known]))]
    )
    per_unit, unit = 1.0, "of each feature's range in the data, from the smallest to the largest value"
    if stated is not None:
        check_stated(model, stated)
        bounds, unit = stated, "of the range that was stated"
        low, high = (np.broadcast_to(along(bound, model.input_shape), model.input_shape) for bound in stated)
        if (outside := float(np.mean((x < low) | (x > high)))) > SATURATED:
            raise DataError(
                f"Expected data within --input-range {input_units.name_of(stated)}. Received: {outside:.1%} of them outside",
                hint=f"The data are {float(x.min()):g} to {float(x.max()):g}. Without --input-range their own range is taken.",
            )
    else:
        features = _features(every, model.input_shape, together=scale == "all")
        lowest, highest = features.min(axis=0), features.max(axis=0)
        if scale == "std":
            deviation = features.std(axis=0)
            widths = np.divide(highest - lowest, deviation, out=np.zeros_like(lowest), where=deviation > 0)
            per_unit = 1 / float(max(widths.max(), 1e-6))
            highest, unit = lowest + deviation / np.float32(per_unit), "standard deviations of each feature in the data"
        if scale == "all":
            unit = "of the range of the data, from the smallest to the largest value"
        bounds = _range(lowest, highest)
    source: Literal["user", "data"] = "user" if stated is not None else "data"
    named = f"0 and 1 of an attacked value are {input_units.name_of(bounds)}"
    sentence = f"the data are in the file's own units, {float(x.min()):g} to {float(x.max()):g}; {named}."
    return Attacked(_placed(x, bounds), Units(bounds, source, sentence), unit, per_unit)


def _features(rows: FloatArray, shape: tuple[int, ...], *, together: bool) -> FloatArray:
    """Values [m, features]: of an image all are one feature, else the last axis that is longer than one has them."""
    if together or is_image(shape):
        return rows.reshape(-1, 1)
    last = next((size for size in reversed(shape) if size > 1), 1)
    return rows.reshape(-1, last)


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether a shape is one of images: three colours, or as high as wide."""
    plain = [size for size in shape if size > 1]
    return (len(plain) == 3 and 3 in (plain[0], plain[-1])) or (len(plain) == 2 and plain[0] == plain[1])


def _range(low: FloatArray, high: FloatArray) -> InputRange:
    if len(low) == 1:
        return float(low[0]), float(high[0])
    return tuple(map(float, low)), tuple(map(float, high))


def _pixels(x: Values, low: float, high: float) -> Values:
    """Shares of a range, as uint8 where they are multiples of 1/255."""
    shares = (x.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    steps = np.rint(shares * 255)
    if np.abs(steps - shares * 255).max() < 0.01 and steps.min() >= 0 and steps.max() <= 255:
        return np.asarray(steps, np.uint8)
    return np.asarray(np.clip(shares, 0, 1), np.float32)


def _placed(x: Values, bounds: InputRange) -> FloatArray:
    """Values as shares of a range, those of a feature that never changes 0."""
    low, high = (along(bound, tuple(x.shape[1:])) for bound in bounds)
    width = np.where(high > low, high - low, np.float32(1))
    return np.clip((x.astype(np.float32) - low) / width, 0, 1).astype(np.float32)


def _contradiction(model: Int8Model, x: Values) -> bool:
    """Whether numbers cannot be in the file's units: they saturate, or are a few steps of what it can tell apart."""
    if model.grid is None:
        return False
    values, step = x.astype(np.float32), model.grid.width / 255
    outside = np.mean((values < model.grid.low - step) | (values > model.grid.high + step))
    return bool(outside > SATURATED) or float(values.max() - values.min()) < _FILLED * model.grid.width


def _refused(model: Int8Model, x: Values) -> DataError:
    assert model.grid is not None, "a file that says nothing contradicts nothing"
    return DataError(
        f"Expected data in the units of {model.path}: {model.grid.low:.4g} to {model.grid.high:.4g} ({model.grid.where}). "
        f"Received: {x.dtype} from {float(x.min()):g} to {float(x.max()):g}",
        hint="Store x_test as the program on the device feeds it, before it is quantized: scaled as for training.",
    )
