"""Biases of rectified layers: where TensorFlow Lite's arithmetic crosses from one level to the next."""

import numpy as np
import pytest

from tinyrobust.deploy import biases
from tinyrobust.deploy.cgen.fixedpoint import multiply, quantize_multiplier

_SUMS = np.arange(-3000, 9000)


def _levels(bias: float, step: float) -> np.ndarray:
    """Of the sums, as a file computes them; bounded below, as the rectifier does."""
    return np.maximum(multiply(_SUMS + int(bias), *quantize_multiplier(1 / step)), 0)


def _expected(offset: float, step: float) -> np.ndarray:
    return np.maximum(np.floor((_SUMS + offset) / step + 0.5), 0)


def _early(of: np.ndarray, expected: np.ndarray) -> int:
    """How many sums are on too high a level less how many on too low a one."""
    return int(np.sum(of > expected)) - int(np.sum(of < expected))


@pytest.mark.parametrize("seed", range(20))
def test_rectified_sums_cross_to_the_next_level_where_the_real_ones_do(seed):
    random = np.random.default_rng(seed)
    step, offsets = random.uniform(20, 900), random.uniform(-2000, 2000, 50)
    levels = int(12000 / step)
    wrong = early = borders = 0
    for offset, bias in zip(offsets, biases.rectified(offsets, np.full(50, step), levels), strict=True):
        expected, found, nearest = _expected(offset, step), _levels(bias, step), _levels(np.round(offset), step)
        assert np.abs(found - expected).max() <= 1
        assert found[_SUMS == 0] == expected[_SUMS == 0], "no input: the most frequent sum"
        wrong += int(np.sum(found != expected))
        early += int(np.sum(nearest > expected))
        borders += int(expected.max())
    assert early > 0.4 * borders, "with the nearest biases, sums cross a half to a whole step too soon"
    assert wrong < 0.8 * early


def test_a_multiplier_that_is_not_shifted_right_rounds_once():
    offsets = np.array([0.2, 3.4, -7.4])
    assert biases.rectified(offsets, np.full(3, 1.0), 15).tolist() == [0, 3, -7]


@pytest.mark.parametrize("step", [100.0, 97.3])
def test_a_bias_that_nearly_reaches_a_level_stays_below_it_and_one_that_reaches_it_does_not(step):
    offsets = np.array([1.5 * step - 0.01, 1.5 * step + 0.01, -1e6, 1e6])
    below, above, dead, full = biases.rectified(offsets, np.full(4, step), 15)
    assert _levels(below, step)[_SUMS == 0] == 1
    assert _levels(above, step)[_SUMS == 0] == 2
    assert abs(dead + 1e6) < 2
    assert abs(full - 1e6) < 2


def test_of_one_bit_every_bias_is_right():
    offsets = np.linspace(-50, 50, 41)
    found = biases.rectified(offsets, np.full(41, 63.7), 1)
    for offset, bias in zip(offsets, found, strict=True):
        np.testing.assert_array_equal(np.minimum(_levels(bias, 63.7), 1), np.minimum(_expected(offset, 63.7), 1))
