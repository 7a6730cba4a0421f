"""Ranges chosen after training, against NumPy and against brute force."""

import keras
import numpy as np
import pytest
from keras import ops

from tinyrobust.quantizers.post_training import Calibrated, Seen, Uniform
from tinyrobust.quantizers.weights import FixedPoint

_RANDOM = np.random.default_rng(0)
# Bell-shaped with a long tail, of another width in every channel.
_KERNEL = (_RANDOM.standard_t(4, (3, 3, 20, 6)) * np.geomspace(0.1, 3, 6)).astype(np.float32)


def _levels(quantizer: Uniform, kernel: np.ndarray = _KERNEL) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(quantizer.levels(ops.convert_to_tensor(kernel), training=False)))


def _rounded(kernel: np.ndarray, bound: np.ndarray | float, bits: int) -> np.ndarray:
    scale = bound / (2 ** (bits - 1) - 1)
    return scale * np.round(np.clip(kernel, -bound, bound) / scale)


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_whole_range_of_a_channel_is_fixed_point(bits: int):
    np.testing.assert_array_equal(
        _levels(Uniform(bits)), FixedPoint(bits).levels(ops.convert_to_tensor(_KERNEL), training=False)
    )


@pytest.mark.parametrize("group", ["channel", "layer"])
@pytest.mark.parametrize("percent", [50, 97.3, 99.9, 100])
def test_a_percentile_is_numpys(percent: float, group: str):
    axes = (0, 1, 2) if group == "channel" else None
    bound = np.percentile(np.abs(_KERNEL), percent, axes, method="higher", keepdims=True)
    got = _levels(Uniform(4, "percentile", percent, group=group))
    np.testing.assert_allclose(got, _rounded(_KERNEL, bound, 4), rtol=1e-5, atol=1e-7)
    if group == "channel":
        np.testing.assert_allclose(np.abs(got).max((0, 1, 2)), bound.ravel(), rtol=1e-5)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_least_squared_error_is_that_of_brute_force(bits: int):
    """Over ten times as many bounds, of every channel; both ends count: no worse than 3 %, and never worse than no clipping."""
    got = np.square(_levels(Uniform(bits, "mse")) - _KERNEL).sum((0, 1, 2))
    for channel, error in zip(np.moveaxis(_KERNEL, -1, 0), got, strict=True):
        bounds = np.linspace(0.001, 1, 1270) * np.abs(channel).max()
        errors = [np.square(_rounded(channel, bound, bits) - channel).sum() for bound in bounds]
        assert min(errors) * 0.999 <= error <= min(errors) * 1.03
        assert error <= errors[-1] * 1.0001
        assert bits > 4 or error < 0.9 * errors[-1]  # few bits: clipping is worth it


def test_a_layer_has_one_scale_or_one_a_channel():
    scales = [np.diff(np.unique(channel)).min() for channel in np.moveaxis(_levels(Uniform(4, group="layer")), -1, 0)[3:]]
    np.testing.assert_allclose(scales, np.abs(_KERNEL).max() / 7, rtol=1e-4)
    own = [np.abs(channel).max() for channel in np.moveaxis(_levels(Uniform(4)), -1, 0)]
    np.testing.assert_allclose(own, np.abs(_KERNEL).max((0, 1, 2)), rtol=1e-6)


@pytest.mark.parametrize("name", ["min-max", "percentile", "mse"])
@pytest.mark.parametrize("group", ["channel", "layer"])
def test_quantizing_twice_changes_nothing_and_zeros_stay(name: str, group: str):
    quantizer = Uniform(3, name, 95.0, group=group)
    once = _levels(quantizer)
    np.testing.assert_allclose(_levels(quantizer, once), once, rtol=1e-5, atol=1e-7)
    assert not _levels(quantizer, np.zeros((3, 3, 2, 2), np.float32)).any()


# Activations

_ACTIVATIONS = np.maximum(_RANDOM.gamma(0.5, 1.0, 60_000) - 0.3, 0).astype(np.float32)


@pytest.fixture(scope="module")
def seen() -> Seen:
    """The activations, as they come in batches."""
    found = Seen.nothing(float(_ACTIVATIONS.max()))
    for batch in np.split(_ACTIVATIONS, 10):
        found.add(batch)
    return found


@pytest.mark.parametrize("percent", [50, 90, 99, 99.99, 100])
def test_a_percentile_of_activations_is_numpys_to_a_bin(seen: Seen, percent: float):
    assert seen.counts.sum() == len(_ACTIVATIONS)
    expected = np.percentile(_ACTIVATIONS, percent, method="inverted_cdf")
    assert expected <= seen.percentile(percent) * (1 + 1e-6) <= expected + seen.largest / 4096 * 1.001


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_bound_of_least_error_is_that_of_brute_force(seen: Seen, bits: int):
    def error(bound: float) -> float:
        scale = bound / (2**bits - 1)
        return float(np.square(scale * np.round(np.minimum(_ACTIVATIONS, bound) / scale) - _ACTIVATIONS).sum())

    least = min(error(bound) for bound in np.linspace(0.002, 1, 500) * seen.largest)
    assert error(seen.least_error(2**bits - 1)) <= 1.02 * least
    assert bits == 8 or error(seen.least_error(2**bits - 1)) < 0.8 * error(seen.largest)


@pytest.mark.parametrize("name", ["min-max", "percentile", "mse"])
def test_calibration_sets_the_bound(seen: Seen, name: str):
    layer = Calibrated(4, range=name, percentile=99)
    layer.build((None, 1))
    assert layer.upper == 6
    assert not layer.trainable_variables
    layer.calibrate(seen)
    expected = {"min-max": seen.largest, "percentile": seen.percentile(99), "mse": seen.least_error(15)}[name]
    assert layer.upper == pytest.approx(expected)
    values = ops.convert_to_numpy(layer(np.linspace(-1, 10, 1000)[:, np.newaxis].astype(np.float32)))
    assert len(np.unique(values)) == 16
    assert values.max() == pytest.approx(expected)


def test_a_rectifier_that_put_out_nothing_keeps_its_bound():
    layer = keras.Sequential([keras.Input((1,)), Calibrated()]).layers[0]
    layer.calibrate(Seen.nothing(0.0))
    assert layer.upper == 6
