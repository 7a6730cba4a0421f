"""Piecewise linear quantization against hand-made levels, brute force and the paper's theory."""

import numpy as np
import pytest
from keras import ops

from tinyrobust.quantizers.pwlq import Pwlq, piecewise
from tinyrobust.quantizers.weights import FixedPoint

_RANDOM = np.random.default_rng(0)
_N = 40_000
_SAMPLES = {"gaussian": _RANDOM.normal(0, 0.3, _N), "laplace": _RANDOM.laplace(0, 0.3, _N)}


def _kernel(kind: str, m: float, channels: int = 1) -> np.ndarray:
    """Samples up to m standard deviations, as the kernel of a dense layer; the largest is m."""
    values = _SAMPLES[kind] / _SAMPLES[kind].std()
    values = values[np.abs(values) < m]
    values = np.append(values[: len(values) // channels * channels - channels], [m] * channels)
    return values.reshape(-1, channels).astype(np.float32)


def _levels(quantizer: Pwlq | FixedPoint, kernel: np.ndarray) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(quantizer.levels(ops.convert_to_tensor(kernel), training=False)))


def _error(quantizer: Pwlq | FixedPoint, kernel: np.ndarray) -> float:
    return float(np.square(_levels(quantizer, kernel) - kernel).sum())


def _by_hand(kernel: np.ndarray, point: float, bits: int, overlapping: bool) -> np.ndarray:
    """The nearest of the levels of the region that a weight is in, each written out."""
    largest, count = np.abs(kernel).max(), 2 ** (bits - 1)
    centre = np.linspace(0, point, count)
    tail = np.linspace(0 if overlapping else point, largest, count)
    size = np.abs(kernel).ravel()
    nearest = [levels[np.abs(size[:, None] - levels).argmin(axis=1)] for levels in (centre, tail)]
    return (np.sign(kernel).ravel() * np.where(size <= point, *nearest)).reshape(kernel.shape)


@pytest.mark.parametrize(
    ("bits", "point", "overlapping", "expected"),
    [
        (2, 0.25, False, [0, 0.25, 1]),
        (2, 0.25, True, [0, 0.25, 1]),
        (3, 0.375, False, [0, 0.125, 0.25, 0.375, 0.375 + 0.625 / 3, 0.375 + 1.25 / 3, 1]),
        (3, 0.5, True, [0, 0.5 / 3, 1 / 3, 0.5, 2 / 3, 1]),
    ],
)
def test_the_levels_are_those_counted_by_hand(bits: int, point: float, overlapping: bool, expected: list[float]):
    size = np.linspace(0, 1, 10_001).astype(np.float32)
    got = ops.convert_to_numpy(piecewise(size, np.float32(point), np.float32(1), 2 ** (bits - 1) - 1, overlapping))
    # One third and two thirds are levels of both regions where they overlap: the same number but for rounding.
    np.testing.assert_allclose(np.unique(np.round(got, 5)), expected, atol=2e-5)
    assert overlapping or 2 * len(expected) - 1 == 2 ** (bits + 1) - 3


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_a_quantized_kernel_has_the_levels_of_its_search(bits: int, overlapping: bool):
    """And it is the best of all breakpoints: ten times as many are tried by brute force."""
    kernel = _kernel("gaussian", 3.5)[-3000:]
    points = np.arange(1, 1271) / 1270 * np.abs(kernel).max()
    errors = [np.square(_by_hand(kernel, point, bits, overlapping) - kernel).sum() for point in points]
    got = _error(Pwlq(bits, overlapping), kernel)
    assert min(errors) * 0.9999 <= got <= min(errors) * 1.01
    tried = errors[9::10]
    assert got == pytest.approx(min(tried), rel=1e-4)
    best = points[9::10][int(np.argmin(tried))]
    np.testing.assert_allclose(_levels(Pwlq(bits, overlapping), kernel), _by_hand(kernel, best, bits, overlapping), atol=1e-5)


@pytest.mark.parametrize("m", [2.5, 4, 6])
@pytest.mark.parametrize("kind", ["gaussian", "laplace"])
def test_the_closed_forms_are_within_a_few_percent_of_the_best_breakpoint(kind: str, m: float):
    kernel = _kernel(kind, m)
    least, got = _error(Pwlq(5), kernel), _error(Pwlq(5, breakpoint=kind), kernel)
    assert 0.999 * least <= got <= 1.04 * least
    # Where the regions overlap, the best breakpoint is another one, and how it lies to the coarse levels counts.
    assert _error(Pwlq(5, True, kind), kernel) <= 1.2 * _error(Pwlq(5, True), kernel)


def _expected_ratio(m: float) -> float:
    """Of the least expected error to that of uniform quantization, of a Gaussian cut at m (the paper's expression)."""
    x = np.linspace(0, m, 20_001)
    inside = np.cumsum(np.exp(-(x**2) / 2))
    inside /= inside[-1]
    return float((x**2 * inside + (m - x) ** 2 * (1 - inside)).min() / m**2)


@pytest.mark.parametrize("m", [2.5, 4])
@pytest.mark.parametrize("bits", [4, 6])
def test_the_error_is_smaller_than_uniform_by_the_papers_ratio(bits: int, m: float):
    kernel = _kernel("gaussian", m)
    assert _error(Pwlq(bits), kernel) / _error(FixedPoint(bits), kernel) == pytest.approx(_expected_ratio(m), rel=0.08)
    assert _expected_ratio(m) < 0.25


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("name", ["gaussian", "laplace", "search"])
def test_channels_are_apart(name: str, overlapping: bool):
    kernel = _kernel("gaussian", 3, 3)[:500] * np.float32([1, 0.01, 0])
    quantizer = Pwlq(3, overlapping, name)
    got = _levels(quantizer, kernel)
    for channel in range(3):
        np.testing.assert_allclose(got[:, [channel]], _levels(quantizer, kernel[:, [channel]]), rtol=1e-5)
    assert not got[:, 2].any()


def test_two_bits_with_a_searched_breakpoint_are_multiples_of_the_files_step():
    kernel = _levels(Pwlq(2), _kernel("laplace", 5, 4)[:400])
    steps = kernel / (np.abs(kernel).max(0) / 127)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
