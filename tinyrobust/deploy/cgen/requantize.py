"""The cheapest form in which sums become int8 exactly as in TensorFlow Lite Micro."""

import numpy as np

from tinyrobust.deploy.cgen import linear
from tinyrobust.deploy.cgen.rules import LIMIT, Requantization, Rule, Staircase, three_bytes

_WIDEST = 22  # the largest right shift of the wide form
_SPARE = 2  # bits of a bias that carry more of the shift where two bits do not


def cheapest(rule: Rule) -> Requantization:
    """The first of shared, narrow, wide and exact that equals the rule for every reachable sum.

    Shared and narrow are searched and proved. Wide is TensorFlow Lite's rule in the cases that layers usually need.
    """
    if rule.rises:
        stairs = Staircase(rule)
        for search in (linear.shared, linear.narrow):
            requantization = search(rule, stairs)
            if requantization is not None:
                return requantization
    return _wide(rule) or _exact(rule)


def _wide(rule: Rule) -> Requantization | None:
    """Multipliers in 30 bits, biases in 24, and what right shifts add to the smallest in the bits that are left.

    None where something does not fit.
    """
    rights = -rule.shifts
    least, added = int(rights.min()), rights - rights.min()
    spare = _SPARE if added.max() > 3 else 0
    if least < 1 or rights.max() > _WIDEST or added.max() >= 4 << spare or rule.multipliers.min() < 2**30:
        return None
    small = np.abs(rule.scale * rule.reach + rule.bias) < (LIMIT + 1) // 2
    if not small.all() or (np.abs(rule.bias) >= 2 ** (23 - spare)).any():
        return None
    words = rule.multipliers - 2**30 + ((added & 3) << 30)
    biases = (rule.bias << spare) + (added >> 2)
    signed = (words + 2**31) % 2**32 - 2**31
    alike, three = bool((signed == signed[0]).all()), three_bytes(biases)
    words, multiplier = (None, int(signed[0])) if alike else (signed, 0)
    return Requantization("wide", rule, words=words, bytes=three, multiplier=multiplier, shift=least, bias_shift=spare)


def _exact(rule: Rule) -> Requantization:
    words = np.stack([rule.bias, rule.multipliers], axis=1).reshape(-1)
    return Requantization("exact", rule, words=words, bytes=rule.shifts.astype(np.int8).view(np.uint8))
