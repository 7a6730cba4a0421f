"""Input ranges: what pixels of 0 and 1 become in a network's own units. Stated, not guessed, wherever it can be."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyrobust.errors import ModelFileError

# Low and high: one number for all channels, or one per channel.
InputRange = tuple[float, float] | tuple[tuple[float, ...], tuple[float, ...]]

UNIT: InputRange = (0.0, 1.0)


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
