"""Weight formats on flash: how many bits each needs, packed bytes, and which format stored integers really are.

A `.tflite` spends 8 bits on every weight; what the values need is read off the values themselves.
"""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["ternary", "binary", "int4", "int8", "int16", "float"]

KINDS: tuple[Kind, ...] = get_args(Kind)

_BITS: dict[Kind, int] = {"ternary": 2, "binary": 1, "int4": 4, "int8": 8, "int16": 16, "float": 32}
_INT4_LEVELS = range(-8, 8)


def bits(kind: Kind) -> int:
    """Bits of one weight of this kind: ternary 2, binary 1, int4 4, int8 8, int16 16, float 32."""
    return _BITS[kind]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` weights packed at `bits` bits each, rounded up to whole bytes.

    Raises:
        ValueError: `count` is negative or `bits` is not positive.
    """
    if count < 0 or bits < 1:
        raise ValueError(f"Expected count >= 0 and bits >= 1. Received: count={count}, bits={bits}")
    return (count * bits + 7) // 8


def recognise(values: NDArray[np.integer[Any]], channel_axis: int, zero_points: NDArray[np.integer[Any]] | int = 0) -> Kind:
    """The format with the fewest bits that holds integer weights, up to one scale per output channel.

    With v = value - zero point and a > 0 constant within an output channel:

    - binary: every v is -a or a;
    - ternary: every v is -a, 0 or a;
    - int4: every v is one of the levels -8..7 times a step that is constant within the channel, rounded to an integer.
      A converter stretches a 4-bit grid to the int8 range (step 127/7), and weights within -8..7 are the case step = 1;
    - otherwise int8 or int16, as stored.

    The constant a (or the step) is one more number per output channel, and folds into its requantization. A channel with
    a single weight is always binary for the same reason.

    Args:
        values: Weights as stored, of one or two bytes each.
        channel_axis: Axis of the output channels.
        zero_points: The zero point, or one per output channel.
    """
    stored: Kind = "int8" if values.dtype.itemsize == 1 else "int16"
    if values.size == 0:
        return stored
    per_channel = np.moveaxis(values.reshape(1) if values.ndim == 0 else values, channel_axis, 0)
    rows = per_channel.reshape(per_channel.shape[0], -1).astype(np.int32) - np.reshape(zero_points, (-1, 1)).astype(np.int32)
    magnitudes = np.abs(rows)
    peaks = magnitudes.max(axis=1, keepdims=True)
    at_peak = magnitudes == peaks
    if bool((at_peak & (peaks > 0)).all()):
        return "binary"
    if bool((at_peak | (rows == 0)).all()):
        return "ternary"
    return "int4" if _on_int4_grid(rows, peaks) else stored


def _on_int4_grid(rows: NDArray[np.int32], peaks: NDArray[np.int32]) -> bool:
    """Whether every row's values are rounded multiples k * step with k in -8..7, for a step of the row's own."""
    fits = np.zeros(len(rows), dtype=bool)
    for top in range(1, 9):
        # The row's largest magnitude is `top` steps, so that step = peak / top. In integers: exact where a level ends in .5.
        levels = np.rint(rows * (top / np.maximum(peaks, 1))).astype(np.int32)
        inside = (levels >= _INT4_LEVELS.start) & (levels < _INT4_LEVELS.stop)
        fits |= (inside & (2 * np.abs(rows * top - levels * peaks) <= top)).all(axis=1)
    return bool(fits.all())
