"""Every form that is called proved equals TensorFlow Lite's rule at every reachable sum, looked at one by one."""

import math
from fractions import Fraction

import numpy as np
import pytest

from tinyrobust.deploy.cgen import addition, fixedpoint
from tinyrobust.deploy.cgen.layers import Binary
from tinyrobust.deploy.cgen.requantize import cheapest
from tinyrobust.deploy.cgen.rules import Requantization, Rule, Staircase


def _rule(slopes, *, reach=2000, bias=(0,), scale=1, zero=-128, low=-128, high=127) -> Rule:
    pairs = [fixedpoint.quantize_multiplier(slope / scale) for slope in slopes]
    count = len(slopes)
    return Rule(
        bias=np.resize(np.array(bias, np.int64), count),
        multipliers=np.array([m for m, _ in pairs], np.int64),
        shifts=np.array([s for _, s in pairs], np.int64),
        scale=scale,
        zero=zero,
        low=low,
        high=high,
        reach=np.array([[-reach] * count, [reach] * count], np.int64),
    )


def _three(values: np.ndarray) -> np.ndarray:
    low, middle, high = values.reshape(-1, 3).astype(np.int64).T
    return low + 256 * middle + 65536 * np.where(high > 127, high - 256, high)


def _applied(found: Requantization, sums: np.ndarray) -> np.ndarray:
    """What the kernels compute, with the tables as they lie on flash."""
    rule = found.rule
    if found.form in ("shared", "narrow"):
        if found.form == "shared":
            multipliers, biases = np.int64(found.multiplier), _three(found.bytes)[:, None]
        else:
            multipliers, biases = (((found.words + 2**15) % 2**16) - 2**15)[:, None], (found.words >> 16)[:, None]
        product = sums * multipliers + (biases << found.bias_shift)
        assert np.abs(product).max() < 2**31
        answer = np.clip(product >> found.shift, rule.low, rule.high)
        if found.pairs:  # what tr_pairs.h does with SMLAW
            scaled = multipliers << (31 - found.shift)
            assert np.abs(scaled).max() < 2**31
            high = (sums * scaled >> 16) + (biases << (found.bias_shift + 15 - found.shift))
            np.testing.assert_array_equal(np.clip(high >> 15, -128, 127), answer)
        return answer
    if found.form in ("broad", "exact"):
        words = found.words.reshape(-1, 2)
        biases, multipliers, shifts = words[:, 0], words[:, 1], found.bytes.view(np.int8).astype(np.int64)
        shifts = -shifts if found.form == "broad" else shifts
    else:
        packed = _three(found.bytes)
        multipliers = np.full(len(rule.bias), found.multiplier) if found.words is None else found.words
        biases, shifts = packed >> found.bias_shift, -(found.shift + (packed & ((1 << found.bias_shift) - 1)))
    value = fixedpoint.multiply(rule.scale * sums + biases[:, None], multipliers[:, None], shifts[:, None])
    return np.clip(value + rule.zero, rule.low, rule.high)


CASES = {
    "one slope": ("shared", _rule([0.31] * 8, bias=(-500, 13, 400), scale=127)),
    "slopes of their own": ("narrow", _rule([0.3, 0.2, 0.11], reach=900)),
    "int8 weights": ("wide", _rule([0.002, 0.015, 0.004], reach=300_000, bias=(70_000, -9))),
    "a linear output": ("wide", _rule([0.002, 0.0021], reach=400_000, zero=14)),
    "one slope of int8 weights": ("wide", _rule([0.002] * 3, reach=300_000, bias=(70_000, -9, 5))),
    "slopes far apart": ("wide", _rule([0.12, 0.0021], reach=400_000)),
    "more than one": ("narrow", _rule([3.0, 0.4], reach=60_000)),
    "slopes very far apart": ("wide", _rule([0.4, 0.4 / 2**17], reach=300_000, zero=3)),
    "a large bias": ("broad", _rule([0.4 / 2**10, 0.4], reach=300_000, bias=(2**23, 0), zero=3)),
    "a channel that says nothing": ("broad", _rule([0.002, 4e-9], reach=300_000, bias=(5, 2**30))),
    "slopes too far apart": ("exact", _rule([0.4, 0.4 / 2**24], reach=3_000_000, zero=3)),
    "no slope": ("broad", _rule([0.0], reach=100)),
    "one output": ("wide", _rule([0.2], reach=100, low=5, high=5)),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_reachable_sum_is_right(case):
    form, rule = CASES[case]
    found = cheapest(rule)
    assert found.form == form
    sums = np.arange(rule.reach[0, 0], rule.reach[1, 0] + 1)[None, :]
    np.testing.assert_array_equal(_applied(found, sums), rule(np.broadcast_to(sums, (len(rule.bias), sums.size))))


def test_only_what_loses_nothing_is_done_in_pairs():
    usual = {"one slope", "slopes of their own"}
    assert {case for case, (_, rule) in CASES.items() if cheapest(rule).pairs} == usual
    assert not cheapest(_rule([0.31] * 8, bias=(-500, 13), scale=127, low=-127)).pairs  # SSAT clamps to int8 only


def test_a_form_that_is_wrong_at_one_sum_is_not_proved():
    rule = _rule([0.1], reach=1000)
    stairs = Staircase(rule)
    wrong = int(stairs.first[0, 50])
    assert stairs.proves(rule).all()
    assert not stairs.proves(lambda sums: np.where(sums == wrong, rule(sums) - 1, rule(sums))).any()
    assert not stairs.proves(lambda sums: np.where(sums == wrong - 1, rule(sums) + 1, rule(sums))).any()


@pytest.mark.parametrize("scales", [(0.02, 0.03, 0.04), (0.5, 0.001, 0.3), (0.1, 0.1, 0.05)], ids=str)
@pytest.mark.parametrize("zeros", [(-128, -128, -128), (3, -7, -128)], ids=str)
def test_a_plain_addition_is_exact_on_every_pair(scales, zeros):
    a, b, out = scales
    twice = 2 * max(a, b)
    scalings = tuple(fixedpoint.quantize_multiplier(real) for real in (a / twice, b / twice, twice / (2**20 * out)))
    layer = Binary("add", (1, 1, 1), (-zeros[0], -zeros[1]), scalings, zeros[2], -128, 127)
    plain = addition.plain(layer)
    assert plain is not None
    codes = np.arange(-128, 128)
    linear = codes[:, None] * plain.multipliers[0] + codes[None, :] * plain.multipliers[1] + plain.offset
    np.testing.assert_array_equal(np.clip(linear >> plain.shift, -128, 127), addition.exact(layer))


@pytest.mark.parametrize("real", [0.5, 0.7, 1e-3, 3.7, 2.0**-31, 1 - 2**-33, 123456.7])
def test_multipliers_are_normalised_and_near(real):
    multiplier, shift = fixedpoint.quantize_multiplier(real)
    assert 2**30 <= multiplier < 2**31
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(real, rel=2**-30)


@pytest.mark.parametrize("real", [-0.1, math.nan, math.inf])
def test_impossible_multipliers_are_refused(real):
    with pytest.raises(ValueError, match="finite multiplier from 0"):
        fixedpoint.quantize_multiplier(real)


@pytest.mark.parametrize("value", [-7, -6, -5, -2, 0, 1, 2, 5, 6, 7, 10**9])
@pytest.mark.parametrize("exponent", [0, 1, 2, 5])
def test_division_rounds_halves_away_from_zero(value, exponent):
    quotient = Fraction(abs(value), 2**exponent)
    expected = math.copysign(math.floor(quotient + Fraction(1, 2)), value)
    assert fixedpoint.divide_by_power(np.int64(value), exponent) == expected


@pytest.mark.parametrize("x", [-15.0, -3.3, -1.0, -0.25, -0.01, 0.0])
def test_the_exponential_is_one(x):
    assert fixedpoint.exp_on_negative(round(x * 2**26), 5) / 2**31 == pytest.approx(math.exp(x), abs=1e-6)


@pytest.mark.parametrize("x", [-9.0, -1.0, 0.0, 0.5, 7.0])
def test_the_logistic_is_one(x):
    assert fixedpoint.logistic(round(x * 2**27)) / 2**31 == pytest.approx(1 / (1 + math.exp(-x)), abs=1e-6)
