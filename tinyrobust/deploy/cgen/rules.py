"""TensorFlow Lite's rule for sums, as the staircase that it is.

The rule rises with the sum, so it has at most 255 steps, and another form that rises too equals it for *every* reachable
sum when it is right on both sides of every step. That is the proof of a form: two evaluations a step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.cgen.fixedpoint import Integers, multiply

Form = Literal["shared", "narrow", "wide", "broad", "exact"]

LIMIT = 2**31 - 1  # of what kernels compute in 32 bits


@dataclass(frozen=True, eq=False)
class Rule:
    """TensorFlow Lite's rule for the output channels of a layer: clamp(multiply(scale * sum + bias, ...) + zero).

    Attributes:
        bias: Per channel, the input's zero point taken out: what is added to sums over weights * inputs as stored.
        multipliers: Per channel, from 0 to below 2^31.
        shifts: Per channel, positive to the left.
        scale: What one unit of a sum stands for: 127 where trits are added up that stand for -127, 0 and 127.
        zero: The output's zero point.
        low: The smallest output.
        high: The largest output.
        reach: Per channel, the smallest and the largest sum that any input can give, [2, channels].
    """

    bias: Integers
    multipliers: Integers
    shifts: Integers
    scale: int
    zero: int
    low: int
    high: int
    reach: Integers

    def __call__(self, sums: Integers) -> Integers:
        """The outputs for sums of shape [channels, n]."""
        value = multiply(self.scale * sums + self.bias[:, None], self.multipliers[:, None], self.shifts[:, None])
        return np.clip(value + self.zero, self.low, self.high)

    @property
    def slopes(self) -> NDArray[np.float64]:
        """Per channel, how much an output rises with a sum."""
        return np.asarray(self.scale * self.multipliers * 2.0 ** (self.shifts - 31.0), np.float64)

    @property
    def rises(self) -> bool:
        """Whether nothing wraps around 32 bits on the way, for any reachable sum."""
        return bool((np.abs(self.scale * self.reach + self.bias) << np.maximum(self.shifts, 0) <= LIMIT).all())


@dataclass(frozen=True, eq=False)
class Requantization:
    """A rule in the form in which the kernels apply it: the fields of `tr_requant`.

    Attributes:
        form: The kernels' function.
        rule: The rule that it equals.
        words: One per channel (narrow, wide) or two (broad, exact), in 32 bits; none (shared, and wide of one multiplier).
        bytes: Biases in three bytes each (shared, wide) or shifts in one (broad, exact); none (narrow).
        multiplier: Shared, and wide without words.
        shift: Shared and narrow; of wide, the smallest.
        bias_shift: Shared and narrow; of wide, how many low bits of a bias belong to the shift.
    """

    form: Form
    rule: Rule
    words: Integers | None = None
    bytes: NDArray[np.uint8] | None = None
    multiplier: int = 0
    shift: int = 0
    bias_shift: int = 0

    @property
    def pairs(self) -> bool:
        """Whether kernels may apply it to two sums in a word, as tr_pairs.h does: no part of a constant is lost there."""
        if self.form not in ("shared", "narrow") or (self.rule.low, self.rule.high) != (-128, 127):
            return False
        largest = self.multiplier if self.words is None else int((self.words & 0xFFFF).max())
        return 15 <= self.shift <= 15 + self.bias_shift and largest < 1 << self.shift


def three_bytes(values: Integers) -> NDArray[np.uint8]:
    """Signed numbers of 24 bits, the low byte first."""
    return values.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].reshape(-1)


class Staircase:
    """Where a rule's outputs rise: per channel and output value above `low`, the first sum that reaches it.

    Attributes:
        values: The output values, [steps].
        first: The first sum that gives at least that value, one past the reach where none does, [channels, steps].
        exists: Whether a reachable sum does, [channels, steps].
        inner: Whether the sum before is reachable, too, [channels, steps].
    """

    def __init__(self, rule: Rule) -> None:
        self.values = np.arange(rule.low + 1, rule.high + 1, dtype=np.int64)
        lowest, highest = rule.reach[0][:, None], rule.reach[1][:, None]
        shape = len(rule.bias), len(self.values)
        low, high = np.broadcast_to(lowest, shape), np.broadcast_to(highest + 1, shape)
        while (low < high).any():
            middle = (low + high) >> 1
            reached = rule(middle) >= self.values
            low, high = np.where(~reached & (low < high), middle + 1, low), np.where(reached, middle, high)
        self.first = low
        self.exists: NDArray[np.bool_] = low <= highest
        self.inner: NDArray[np.bool_] = low > lowest
        self._last = np.minimum(low, highest)

    def proves(self, form: Callable[[Integers], Integers]) -> NDArray[np.bool_]:
        """Per channel: whether a rising form equals the rule for every reachable sum.

        Args:
            form: Maps sums of shape [channels, steps] to outputs.
        """
        reached, before = form(self._last) >= self.values, form(self.first - 1) < self.values
        return np.asarray(((reached | ~self.exists) & (before | ~self.inner)).all(axis=1))
