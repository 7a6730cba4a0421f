"""The cheapest form in which sums become int8 exactly as in TensorFlow Lite Micro."""

from dataclasses import replace

import numpy as np

from tinyrobust.deploy.cgen import linear
from tinyrobust.deploy.cgen.rules import LIMIT, Requantization, Rule, Staircase, three_bytes

_WIDEST = 22  # the largest right shift of the wide form


def cheapest(rule: Rule) -> Requantization:
    """The first of shared, narrow, wide, broad and exact that equals the rule for every reachable sum.

    Shared and narrow are searched and proved. Wide and broad are TensorFlow Lite's rule in the cases that layers usually need.
    """
    if rule.rises:
        stairs = Staircase(rule)
        for search in (linear.shared, linear.narrow):
            requantization = search(rule, stairs)
            if requantization is not None:
                return requantization
        return _wide(rule) or _broad(_settled(rule)) or _exact(rule)
    return _exact(rule)


def _wide(rule: Rule) -> Requantization | None:
    """Multipliers in words, and biases in 24 bits with what right shifts add to the smallest in the low ones.

    None where something does not fit.
    """
    rights = -rule.shifts
    least, added = int(rights.min()), rights - rights.min()
    spare = int(added.max()).bit_length()
    if not _plain(rule) or (np.abs(rule.bias) >= 2 ** (23 - spare)).any():
        return None
    biases, words = three_bytes((rule.bias << spare) + added), rule.multipliers
    if (words == words[0]).all():
        return Requantization("wide", rule, bytes=biases, multiplier=int(words[0]), shift=least, bias_shift=spare)
    return Requantization("wide", rule, words=words, bytes=biases, shift=least, bias_shift=spare)


def _broad(rule: Rule) -> Requantization | None:
    """Biases in words, too, and right shifts in bytes; None where these or sums do not fit."""
    if not _plain(rule):
        return None
    words = np.stack([rule.bias, rule.multipliers], axis=1).reshape(-1)
    return Requantization("broad", rule, words=words, bytes=(-rule.shifts).astype(np.uint8))


def _plain(rule: Rule) -> bool:
    """Whether both roundings are those of a normalised multiplier, a shift to the right and sums that can be doubled."""
    rights = -rule.shifts
    small = np.abs(rule.scale * rule.reach + rule.bias) < (LIMIT + 1) // 2
    return bool(rights.min() >= 1 and rights.max() <= _WIDEST and rule.multipliers.min() >= 2**30 and small.all())


def _settled(rule: Rule) -> Rule:
    """The rule with constants that fit where a channel has the same output for every reachable sum.

    With a multiplier of 1/2 and a right shift of 20 a sum below 2^20 moves nothing, and the bias alone gives the output.
    """
    ends = rule(rule.reach.T)
    settled = (ends[:, 0] == ends[:, 1]) & (np.abs(rule.scale * rule.reach) < 2**20).all(axis=0)
    return replace(
        rule,
        bias=np.where(settled, (ends[:, 0] - rule.zero) << 21, rule.bias),
        multipliers=np.where(settled, 2**30, rule.multipliers),
        shifts=np.where(settled, -20, rule.shifts),
    )


def _exact(rule: Rule) -> Requantization:
    words = np.stack([rule.bias, rule.multipliers], axis=1).reshape(-1)
    return Requantization("exact", rule, words=words, bytes=rule.shifts.astype(np.int8).view(np.uint8))
