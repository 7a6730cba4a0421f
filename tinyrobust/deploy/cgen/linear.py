"""Requantization in 32 bits: (sum * multiplier + bias) >> shift, with constants found to be right at every step.

At a step, where the output reaches v at the sum t, the constants have to satisfy

    multiplier * t + bias >= v << shift      and      multiplier * (t - 1) + bias < v << shift,

so that for a given multiplier the biases that are right form an interval; a multiplier is right when it is not empty and
holds a multiple of the unit in which the bias is stored.
"""

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.cgen.fixedpoint import Integers
from tinyrobust.deploy.cgen.rules import LIMIT, Requantization, Rule, Staircase, three_bytes

_NEIGHBOURS = 12  # multipliers that are tried to either side of the real one
_SHIFTS = 3  # shifts that are tried, the finest first
_SHORT = 2**15 - 1
_COARSEST = 2**16  # unit of a bias
_NONE = 2**62


def shared(rule: Rule, stairs: Staircase) -> Requantization | None:
    """One multiplier and one shift for the layer, 24 bits of bias per channel; None where no such constants are right."""
    slopes = rule.slopes
    if not stairs.values.size or slopes.min() <= 0 or slopes.max() > 1.01 * slopes.min():
        return None
    for shift in _shifts(rule, LIMIT):
        nearest = round(float(slopes.mean()) * 2**shift)
        multipliers = _around(np.full_like(rule.bias, nearest), slopes, shift)
        usable, biases, bias_shift = _biases(rule, stairs, multipliers, shift, 24)
        right = usable.all(axis=1)
        if right.any():
            best = int(right.argmax())
            return _proved(rule, stairs, multipliers[best], biases[best], shift, bias_shift, together=True)
    return None


def narrow(rule: Rule, stairs: Staircase) -> Requantization | None:
    """One shift for the layer, 16 bits of multiplier and of bias per channel; None where no such constants are right."""
    if not stairs.values.size or rule.slopes.max() <= 0:
        return None
    for shift in _shifts(rule, _SHORT / rule.slopes.max()):
        multipliers = _around(np.rint(rule.slopes * 2.0**shift).astype(np.int64), rule.slopes, shift)
        usable, biases, bias_shift = _biases(rule, stairs, multipliers, shift, 16)
        usable &= multipliers <= _SHORT
        if usable.any(axis=0).all():
            best = usable.argmax(axis=0), np.arange(len(rule.bias))
            return _proved(rule, stairs, multipliers[best], biases[best], shift, bias_shift, together=False)
    return None


def _shifts(rule: Rule, largest: float) -> range:
    """The finest shifts with which neither products nor 2^shift leave their bits."""
    reach = np.abs(rule.slopes * rule.reach).max() + 256
    finest = int(np.floor(np.log2(min(largest, LIMIT / reach))))
    return range(min(finest, 30), max(finest - _SHIFTS, 0), -1)


def _around(nearest: Integers, slopes: NDArray[np.float64], shift: int) -> Integers:
    """Multipliers to try, [tries, channels], the nearest first: as far as the last of 256 steps moves by one sum."""
    tries = np.array(sorted(range(-_NEIGHBOURS, _NEIGHBOURS + 1), key=abs), np.int64)[:, None]
    return np.asarray(nearest + tries * np.maximum(1, slopes**2 * 2.0**shift / 256 / _NEIGHBOURS).astype(np.int64), np.int64)


def _biases(
    rule: Rule, stairs: Staircase, multipliers: Integers, shift: int, bits: int
) -> tuple[NDArray[np.bool_], Integers, int]:
    """For each multiplier a bias that is right at every step, [tries, channels], in units of 2^bias_shift; whether it is."""
    target = stairs.values << shift
    least, most = [], []
    for row in multipliers:
        product = row[:, None] * stairs.first
        least.append(np.where(stairs.exists, target - product, -_NONE).max(axis=1))
        most.append(np.where(stairs.inner, target - 1 - product + row[:, None], _NONE).min(axis=1))
    low, high = np.stack(least), np.stack(most)
    low = np.where(low == -_NONE, np.minimum(high, 0) - _COARSEST, low)  # no output rises: anything far enough down will do
    magnitude = int(np.abs(low[low <= high]).max(initial=0))
    bias_shift = max(0, magnitude.bit_length() - (bits - 1))
    biases = -(-low >> bias_shift)
    usable = (
        (biases << bias_shift <= high)
        & (multipliers >= 0)
        & (np.abs(biases) < 1 << (bits - 1))
        & (1 << bias_shift <= _COARSEST)
    )
    for end in rule.reach:
        usable &= np.abs(multipliers * end + (biases << bias_shift)) <= LIMIT
    return usable, biases, bias_shift


def _proved(
    rule: Rule, stairs: Staircase, multipliers: Integers, biases: Integers, shift: int, bias_shift: int, *, together: bool
) -> Requantization | None:
    def form(sums: Integers) -> Integers:
        value = (sums * multipliers[:, None] + (biases[:, None] << bias_shift)) >> shift
        return np.asarray(np.clip(value, rule.low, rule.high), np.int64)

    if not stairs.proves(form).all():
        return None
    if together:
        multiplier, table = int(multipliers[0]), three_bytes(biases)
        return Requantization("shared", rule, bytes=table, multiplier=multiplier, shift=shift, bias_shift=bias_shift)
    return Requantization("narrow", rule, words=(biases << 16) + multipliers, shift=shift, bias_shift=bias_shift)
