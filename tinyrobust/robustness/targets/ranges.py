"""Input ranges: what pixels of 0 and 1 become in a network's own units. Stated, not guessed, wherever it can be."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import ModelFileError

# Low and high: one number for all channels, or one per channel.
InputRange = tuple[float, float] | tuple[tuple[float, ...], tuple[float, ...]]

UNIT: InputRange = (0.0, 1.0)
# What [0, 1] pixels become in the units of a file: as they are, 0..255, -1..1, or pixel - 128.
_KNOWN = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (-128.0, 127.0))


def normalised(mean: Sequence[float], std: Sequence[float]) -> InputRange:
    """The range of a network that takes `(x - mean) / std` per channel, x in [0, 1].

    Raises:
        ModelFileError: The lengths differ, or a standard deviation is not positive.
    """
    if len(mean) != len(std) or not all(value > 0 for value in std):
        raise ModelFileError(f"Expected a mean and a positive deviation per channel. Received: mean={mean}, std={std}")
    pairs = list(zip(mean, std, strict=True))
    return tuple(-m / s for m, s in pairs), tuple((1 - m) / s for m, s in pairs)


def in_units(x: Any, input_range: InputRange) -> Any:
    """Inputs in [0, 1], an array or a tensor of float32 [n, ..., channels], in the network's units."""
    if input_range == UNIT:
        return x
    low, high = (np.asarray(bound, dtype=np.float32) for bound in input_range)
    return low + x * (high - low)


def recognised(model: Int8Model) -> InputRange:
    """The usual range that the file's input quantization was made for; [0, 1] where it is not quantized.

    Raises:
        ModelFileError: It is none of the usual ones.
    """
    if model.input_range is None:
        return UNIT
    low, high = model.input_range
    tolerance = 0.1 * (high - low)
    for known in _KNOWN:
        # A range calibrated on images without full white ends a little below 1; a wider one wastes some steps.
        if abs(low - known[0]) <= tolerance and abs(high - known[1]) <= tolerance:
            return known
    raise ModelFileError(
        f"{model.path}: expected an input range like one of {_KNOWN}. Received: ({low:g}, {high:g})",
        hint="Say what the pixel values 0 and 255 become in the units of the file (input_range).",
    )
