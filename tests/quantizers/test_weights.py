"""Every weight quantizer: its formula re-stated in NumPy, its levels, its gradient. Runs under every backend."""

import keras
import numpy as np
import pytest

from tinyrobust import formats
from tinyrobust.gradients import value_and_gradient
from tinyrobust.quantizers.base import Schedule
from tinyrobust.quantizers.weights import Binary, FixedPoint, StochasticTernary, Ternary, relative_error, twn

_KERNELS = {
    "conv": ((3, 3, 5, 7), (-1,)),
    "depthwise": ((5, 5, 6, 1), (-2, -1)),
    "depthwise-multiplier-2": ((5, 5, 4, 2), (-2, -1)),
    "dense": ((40, 9), (-1,)),
}
_EVERY_KERNEL = pytest.mark.parametrize(("shape", "axes"), _KERNELS.values(), ids=_KERNELS)


def _kernel(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random weights whose spread differs from channel to channel."""
    random = np.random.default_rng(seed)
    return (random.normal(size=shape) * random.uniform(0.05, 3, size=shape[-1])).astype(np.float32)


def _channels(kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """[channels, weights of a channel]."""
    last = kernel if axes == (-1,) else kernel.reshape(*kernel.shape[:-2], -1)
    return last.reshape(-1, last.shape[-1]).T


def _numpy(tensor: object) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _in_training(axes: tuple[int, ...], fraction: float) -> StochasticTernary:
    quantizer = StochasticTernary(axes, seed=1)
    quantizer.state = {"seed_state": keras.random.SeedGenerator(1), "quantized_fraction": keras.Variable(fraction)}
    quantizer.training = True
    return quantizer


@_EVERY_KERNEL
def test_twn_is_the_papers_formula(shape, axes):
    kernel = _kernel(shape)
    quantized = _channels(_numpy(twn(keras.ops.convert_to_tensor(kernel), axes)), axes)
    for latent, found in zip(_channels(kernel, axes).astype(np.float64), quantized, strict=True):
        above = np.abs(latent) > 0.7 * np.abs(latent).mean()
        expected = np.where(above, np.sign(latent), 0) * np.abs(latent[above]).mean()
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@_EVERY_KERNEL
@pytest.mark.parametrize("make", [Ternary, lambda axes: _in_training(axes, 1.0)], ids=["ternary", "stochastic-in-training"])
def test_a_ternary_channel_has_exactly_three_values(shape, axes, make):
    for channel in _channels(_numpy(make(axes)(_kernel(shape))), axes):
        scale = channel.max()
        assert scale > 0
        assert set(channel.tolist()) == {-scale, 0.0, scale}


@_EVERY_KERNEL
def test_a_binary_channel_has_exactly_two_values(shape, axes):
    kernel = _kernel(shape)
    kernel.flat[0] = 0
    for latent, channel in zip(_channels(kernel, axes), _channels(_numpy(Binary(axes)(kernel)), axes), strict=True):
        scale = channel.max()
        np.testing.assert_allclose(scale, np.abs(latent).mean(), rtol=1e-6)
        assert set(channel.tolist()) == {-scale, scale}
        np.testing.assert_array_equal(channel > 0, latent >= 0)


@_EVERY_KERNEL
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_fixed_point_weights_lie_on_the_integer_grid(shape, axes, bits):
    kernel = _kernel(shape)
    quantized = _numpy(FixedPoint(bits, axes)(kernel))
    top = 2 ** (bits - 1) - 1
    for latent, channel in zip(_channels(kernel, axes), _channels(quantized, axes), strict=True):
        scale = np.abs(latent).max() / np.float32(top)
        integers = channel / scale
        np.testing.assert_allclose(integers, np.rint(integers), atol=1e-4)
        np.testing.assert_array_equal(np.rint(integers), np.rint(latent / scale))
        assert np.abs(np.rint(integers)).max() == top


@pytest.mark.parametrize(
    "quantizer",
    [Ternary(), Binary(), FixedPoint(8), FixedPoint(3), StochasticTernary(), _in_training((-1,), 0.5)],
    ids=["ternary", "binary", "fixed-point-8", "fixed-point-3", "stochastic-at-inference", "stochastic-in-training"],
)
def test_gradients_pass_straight_through(quantizer):
    kernel, factors = _kernel((3, 3, 4, 8)), _kernel((3, 3, 4, 8), seed=1)
    _, gradient = value_and_gradient(lambda w: keras.ops.sum(factors * quantizer(w)), kernel)
    np.testing.assert_array_equal(_numpy(gradient), factors)


@pytest.mark.parametrize("quantizer", [Ternary(), Binary(), FixedPoint(8), StochasticTernary()], ids=lambda q: type(q).__name__)
def test_a_channel_that_is_all_zero_stays_finite(quantizer):
    kernel = _kernel((3, 3, 2, 4))
    kernel[..., 1] = 0
    quantized = _numpy(quantizer(kernel))
    assert np.isfinite(quantized).all()
    assert not quantized[..., 1].any()


def test_a_layer_may_have_one_threshold_and_one_scale():
    """Two channels: of one magnitude 1, of magnitudes 6 and 12. Together, 0.7 mean|w| = 3.5, and the first is zero."""
    kernel = np.array([[1.0, 6.0], [-1.0, -12.0], [1.0, 6.0], [-1.0, 12.0]], np.float32)
    signs = np.sign(kernel)
    np.testing.assert_allclose(Ternary(group="layer")(kernel), 9 * signs * [0, 1], rtol=1e-6)
    np.testing.assert_allclose(Ternary()(kernel), signs * [[1, 0], [1, 12], [1, 0], [1, 12]], rtol=1e-6)
    np.testing.assert_allclose(Binary(group="layer")(kernel), 5 * signs, rtol=1e-6)
    np.testing.assert_allclose(Binary()(kernel), signs * [1, 9], rtol=1e-6)
    np.testing.assert_allclose(StochasticTernary(group="layer")(kernel), Ternary(group="layer")(kernel))
    again = Ternary.from_config(Ternary(group="layer").get_config())
    np.testing.assert_array_equal(again(kernel), Ternary(group="layer")(kernel))


def test_the_error_is_the_relative_l1_distance():
    kernel = _kernel((3, 3, 5, 7))
    errors = _numpy(relative_error(keras.ops.convert_to_tensor(kernel), twn(keras.ops.convert_to_tensor(kernel))))
    quantized = _numpy(Ternary()(kernel))
    np.testing.assert_allclose(errors, np.abs(kernel - quantized).sum((0, 1, 2)) / np.abs(kernel).sum((0, 1, 2)), rtol=1e-5)
    assert ((errors > 0) & (errors < 1)).all()


@pytest.mark.parametrize("bits", range(2, 9))
def test_fixed_point_weights_end_in_the_format_of_their_bits(bits):
    kernel = _channels(_numpy(FixedPoint(bits)(_kernel((3, 3, 40, 4)))), (-1,))
    stored = np.rint(kernel / np.abs(kernel).max(axis=1, keepdims=True) * 127).astype(np.int8)
    assert formats.recognise(stored, 0) is FixedPoint(bits).storage


def test_a_schedule_moves_on_with_the_first_step_of_a_phase():
    four = Schedule("quantized_fraction", (0.0, 0.25, 0.5, 0.75), (0.5, 0.75, 0.875, 1.0))
    steps = (0, 24, 25, 49, 50, 74, 75, 99)
    assert [four.at(step, 100) for step in steps] == [0.5, 0.5, 0.75, 0.75, 0.875, 0.875, 1.0, 1.0]
    assert [Schedule("r", (0.0, 0.5), (0.0, 1.0)).at(step, 5) for step in range(5)] == [0, 0, 0, 1, 1]
