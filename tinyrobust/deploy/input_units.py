"""What a file says about the units of its input: the range that it can tell apart, and which usual range that is.

An integer input says it by its scale and zero point, a float input by the QUANTIZE that reads it first. Imports no TensorFlow.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyrobust.deploy.artefact import Artefact, Tensor
from tinyrobust.errors import ModelFileError

# What 0 and 1 become: one number for all channels, or one per channel.
Range = tuple[float, float] | tuple[tuple[float, ...], tuple[float, ...]]

KNOWN: tuple[tuple[float, float], ...] = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (-128.0, 127.0))
"""What pixels of 0 and 1 usually become: as they are, 0..255, -1..1, or pixel - 128."""
_MEAN_STD = {  # of training images, x from 0 to 1: what tutorials subtract and divide by
    "MNIST": ((0.1307,), (0.3081,)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_COPIES = ("RESHAPE", "TRANSPOSE", "EXPAND_DIMS", "SQUEEZE")
_TOLERANCE = 0.1  # of a grid: a range calibrated on images without full white ends below 1, a wider one wastes some steps
_EXACT = 0.02  # the same for means and deviations, which are known to four digits
_FEW_STEPS = 0.05  # a range that fills less of a grid than this is in other units


@dataclass(frozen=True)
class Grid:
    """The inputs that a file can tell apart, in its own units.

    Attributes:
        low: The smallest.
        high: The largest.
        where: What says so, in words.
        symmetric: Whether zero lies in the middle: then the sign of the inputs is not known from it.
    """

    low: float
    high: float
    where: str
    symmetric: bool

    @property
    def width(self) -> float:
        """From the smallest to the largest."""
        return self.high - self.low


def grid_of(file: Artefact) -> Grid | None:
    """The grid of a file's first input; None for a float input that no QUANTIZE reads first.

    Where an integer input is quantized again, what both can tell apart counts.
    """
    tensor = file.tensors[file.inputs[0]]
    found = [_grid(tensor, "the quantization of its input")] if _usable(tensor) else []
    while True:
        readers = [operator for operator in file.operators if tensor.index in operator.inputs]
        if len(readers) != 1 or readers[0].inputs[0] != tensor.index or readers[0].name not in ("QUANTIZE", *_COPIES):
            break
        tensor = file.tensors[readers[0].outputs[0]]
        if readers[0].name == "QUANTIZE" and _usable(tensor):
            found.append(_grid(tensor, "its first QUANTIZE"))
            break
    if not found:
        return None
    low, high = max(grid.low for grid in found), min(grid.high for grid in found)
    narrowest = min(found, key=lambda grid: grid.width)
    return Grid(low, high, narrowest.where, narrowest.symmetric)


def _usable(tensor: Tensor) -> bool:
    return tensor.dtype in ("int8", "uint8", "int16") and len(tensor.scales) == 1 and float(tensor.scales[0]) > 0


def _grid(tensor: Tensor, where: str) -> Grid:
    limits, scale, zero = np.iinfo(tensor.dtype), float(tensor.scales[0]), int(tensor.zero_points[0])
    # 2/255 with zero point 0 is what a range of -1 to 1 becomes that is not symmetric by force: that one is 1/127.
    forced = limits.min < 0 and zero == 0 and not np.isclose(scale, 2 / 255, rtol=1e-4) and scale != 1.0
    return Grid((limits.min - zero) * scale, (limits.max - zero) * scale, where, forced)


def candidates(grid: Grid | None, channels: int) -> list[Range]:
    """What 0 and 1 of a pixel may become in a file's units, the likeliest first; of a file without a grid all usual ranges.

    Args:
        grid: Of the file.
        channels: Of its images: 1, 3, or another number of values.
    """
    if grid is None:
        return list(KNOWN)
    fitting: list[Range] = [known for known in KNOWN if _like(grid, *known, _TOLERANCE)]
    if grid.symmetric:
        fitting += [known for known in KNOWN if known[0] == 0 and abs(grid.high - known[1]) <= _TOLERANCE * grid.high]
    for mean, std in _MEAN_STD.values():
        low, high = normalised(mean, std)
        if len(mean) == channels and _like(grid, min(low), max(high), _EXACT):
            fitting.append((low[0], high[0]) if channels == 1 else (low, high))
    return fitting


def normalised(mean: Sequence[float], std: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """What 0 and 1 become, channel by channel, where `(x - mean) / std` is taken."""
    pairs = list(zip(mean, std, strict=True))
    return tuple(-m / s for m, s in pairs), tuple((1 - m) / s for m, s in pairs)


def _like(grid: Grid, low: float, high: float, tolerance: float) -> bool:
    return abs(grid.low - low) <= tolerance * grid.width and abs(grid.high - high) <= tolerance * grid.width


def formula(scale: float, zero: int, dtype: str) -> str:
    """How a real value becomes an integer of an input, and where that is plain to see, how a pixel does.

    Args:
        scale: Of the input.
        zero: Its zero point.
        dtype: int8, uint8 or int16.
    """
    limits = np.iinfo(dtype)
    said = f"round(x / {scale:.9g}) {'-' if zero < 0 else '+'} {abs(zero)}, from {limits.min} to {limits.max}"
    for step, taken in ((1 / 255, "p / 255"), (1.0, "p")):
        if dtype in ("int8", "uint8") and zero == limits.min and np.isclose(scale, step, rtol=1e-3):
            byte = f"p - {-zero}" if zero else "p"
            return f"{said}; where x is {taken} of a pixel p from 0 to 255, that is {byte}"
    return said


def name_of(units: Range) -> str:
    """A range in words, such as "-1 to 1"."""
    for name, (mean, std) in _MEAN_STD.items():
        lows = np.atleast_1d(np.asarray(units[0]))
        if len(lows) == len(mean) and np.allclose(lows, normalised(mean, std)[0], rtol=1e-6):
            return f"the mean and deviation of {name}"
    low, high = (np.atleast_1d(np.asarray(bound)) for bound in units)
    if len(low) == 1:
        return f"{low[0]:g} to {high[0]:g}"
    if len(low) > 4:
        return f"{low.min():g} to {high.max():g} over all, each of {len(low)} features in its own range"
    return f"{', '.join(f'{value:g}' for value in low)} to {', '.join(f'{value:g}' for value in high)}"


def check_stated(path: object, grid: Grid | None, units: Range) -> None:
    """Refuses a range that contradicts what the file says.

    Raises:
        ModelFileError: Much of it lies outside of what the file can tell apart, where it would saturate, or it fills so little
            of that, that a few steps are all that the file would see.
    """
    if grid is None:
        return
    low, high = float(np.min(units[0])), float(np.max(units[1]))
    outside = max(0.0, grid.low - low) + max(0.0, high - grid.high)
    hint = (
        "--input-range LOW HIGH states what the data's 0 and 255 (or 0 and 1) become in the file's units; leave it out where "
        "the file says it itself."
    )
    if outside > _TOLERANCE * (high - low):
        raise ModelFileError(
            f"{path}: expected an --input-range within {grid.low:g} to {grid.high:g}, all that the file can tell apart "
            f"({grid.where}). Received: {name_of(units)}, of which {min(1.0, outside / (high - low)):.0%} would saturate",
            hint=hint,
        )
    if high - low < _FEW_STEPS * grid.width:
        raise ModelFileError(
            f"{path}: expected an --input-range that fills {grid.low:g} to {grid.high:g}, what the file tells apart "
            f"({grid.where}). Received: {name_of(units)}, which is {(high - low) / grid.width:.1%} of it",
            hint=hint,
        )
