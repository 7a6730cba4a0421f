"""Input ranges: what pixels of 0 and 1 become in a network's own units. `units.py` decides which."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinyrobust.attacks.target import FloatArray, InputRange
from tinyrobust.deploy import input_units
from tinyrobust.errors import ModelFileError

if TYPE_CHECKING:
    import tensorflow as tf

UNIT: InputRange = (0.0, 1.0)


def normalised(mean: Sequence[float], std: Sequence[float]) -> InputRange:
    """The range of a network that takes `(x - mean) / std` per channel, x in [0, 1].

    Raises:
        ModelFileError: The lengths differ, or a standard deviation is not positive.
    """
    if len(mean) != len(std) or not all(value > 0 for value in std):
        raise ModelFileError(f"Expected a mean and a positive deviation per channel. Received: mean={mean}, std={std}")
    return input_units.normalised(mean, std)


def checked(low: Sequence[float], high: Sequence[float]) -> InputRange:
    """The range of a network that takes `low` for black and `high` for white, one number each or one per channel.

    Raises:
        ModelFileError: The lengths differ, or white is not above black.
    """
    if len(low) != len(high) or not low or not all(a < b for a, b in zip(low, high, strict=True)):
        raise ModelFileError(f"Expected white above black in every channel. Received: black={list(low)}, white={list(high)}")
    return (low[0], high[0]) if len(low) == 1 else (tuple(low), tuple(high))


def check_channels(input_range: InputRange, shape: tuple[int, ...]) -> None:
    """Refuses a range of another number of channels than inputs of a shape have.

    Raises:
        ModelFileError: It has neither one bound, nor one for each value along the last axes (along the first one of [c, h, w]).
    """
    for bound in input_range:
        along(bound, shape)


def along(bound: float | Sequence[float], shape: tuple[int, ...]) -> FloatArray:
    """A bound such that it broadcasts over inputs [n, *shape].

    One number is that of all values. Several are one for each value along the last axis, or along the last axes together, ones
    aside; of inputs [channels, height, width] one for each channel.

    Raises:
        ModelFileError: There is another number of them.
    """
    values = np.asarray(bound, dtype=np.float32)
    if values.size == 1:
        return values.reshape(())
    for first in reversed(range(len(shape))):
        if values.size == math.prod(shape[first:]):
            return values.reshape(shape[first:])
    if len(shape) == 3 and values.size == shape[0]:
        return values.reshape(-1, 1, 1)
    channels = shape[-1] if len(shape) < 3 or shape[1] > 1 else shape[0]
    raise ModelFileError(
        f"Expected an input range of 1 or {channels} channels. Received: {values.size} in {bound}",
        hint=f"One number for all of {shape}, or one for each value along its last axes.",
    )


def in_units(x: "FloatArray | tf.Tensor", input_range: InputRange) -> "FloatArray | tf.Tensor":
    """Inputs in [0, 1], an array or a tensor of float32 [n, ..., channels], in the network's units."""
    if input_range == UNIT:
        return x
    low, high = (along(bound, tuple(x.shape[1:])) for bound in input_range)
    return low + x * (high - low)
