"""ADD and SUB with one multiply-accumulate an input, where that is proved equal to TensorFlow Lite's five roundings.

There are 65,536 pairs of inputs, so the proof is to look at all of them: for given multipliers each pair bounds the offset
from both sides, and the form is right when the bounds leave one.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from tinyrobust.deploy.cgen.fixedpoint import Integers, multiply
from tinyrobust.deploy.cgen.layers import Binary

_CODES = np.arange(-128, 128, dtype=np.int64)
_LIMIT = 2**31 - 1
_FINEST = 24  # shifts are tried from here down
_COARSEST = 10
_NONE = 2**62


@dataclass(frozen=True, slots=True)
class PlainAdd:
    """clamp((a * multipliers[0] + b * multipliers[1] + offset) >> shift)."""

    multipliers: tuple[int, int]
    offset: int
    shift: int


def plain(layer: Binary) -> PlainAdd | None:
    """The plain form of an addition or subtraction; None where none was found that equals it on every pair."""
    expected = exact(layer)
    slopes = [2.0 ** (20 + shift + layer.scalings[2][1] - 62) * multiplier * layer.scalings[2][0] * sign
              for (multiplier, shift), sign in zip(layer.scalings[:2], (1, _sign(layer)), strict=True)]  # fmt: skip
    reach = 256 * (sum(map(abs, slopes)) + 1)
    finest = min(_FINEST, int(np.floor(np.log2(_LIMIT / reach))))
    for shift in range(finest, max(finest - 2, _COARSEST), -1):
        nearest = [round(slope * 2**shift) for slope in slopes]
        for nudges in itertools.product((0, 1, -1), repeat=2):
            pair = nearest[0] + nudges[0], nearest[1] + nudges[1]
            offset = _offset(expected, layer, pair, shift)
            if offset is not None:
                return PlainAdd(pair, offset, shift)
    return None


def exact(layer: Binary) -> Integers:
    """TensorFlow Lite's sum or difference for every pair of inputs, [256, 256], a first."""
    a, b = (
        multiply((_CODES + offset) << 20, *scaling) for offset, scaling in zip(layer.offsets, layer.scalings[:2], strict=True)
    )
    result = multiply(a[:, None] + _sign(layer) * b[None, :], *layer.scalings[2])
    return np.clip(result + layer.zero, layer.low, layer.high)


def _sign(layer: Binary) -> int:
    return -1 if layer.kind == "sub" else 1


def _offset(expected: Integers, layer: Binary, multipliers: tuple[int, int], shift: int) -> int | None:
    linear = _CODES[:, None] * multipliers[0] + _CODES[None, :] * multipliers[1]
    least = np.where(expected > layer.low, (expected << shift) - linear, -_NONE).max()
    most = np.where(expected < layer.high, ((expected + 1) << shift) - 1 - linear, _NONE).min()
    if least == -_NONE or most == _NONE or least > most:
        return None
    offset = int(least + most) // 2
    return offset if abs(offset) + int(np.abs(linear).max()) <= _LIMIT else None
