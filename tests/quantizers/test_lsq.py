"""Learned steps: the paper's equations written out in NumPy, for weights and activations. Runs under every backend."""

import keras
import numpy as np
import pytest
from keras import ops

from tinyrobust.gradients import value_and_gradient
from tinyrobust.quantizers.lsq import Lsq, LsqActivation

_RANDOM = np.random.default_rng(0)
_SHAPE = (3, 3, 4, 8)
_KERNEL = (_RANDOM.normal(size=_SHAPE) * _RANDOM.uniform(0.05, 0.5, 8)).astype(np.float32)
_FACTORS = _RANDOM.normal(size=_SHAPE).astype(np.float32)
_GROUPS = {"layer": (0, 1, 2, 3), "channel": (0, 1, 2)}

_every_group = pytest.mark.parametrize(("group", "axes"), _GROUPS.items(), ids=_GROUPS)


def _quantizer(bits: int, group: str, change: float = 0.0) -> Lsq:
    """As a layer would have it, its step changed by a share."""
    quantizer = Lsq(bits, group=group)

    quantizer.state = quantizer.create(lambda shape, **_: keras.Variable(np.zeros(shape, np.float32)), _SHAPE)
    quantizer.state["step_change"].assign(np.full(quantizer.state["step_change"].shape, change))
    return quantizer


def _range(bits: int) -> tuple[int, int]:
    """Qn and Qp."""
    return (1, 1) if bits == 1 else (min(2 ** (bits - 1), 127), 2 ** (bits - 1) - 1)


def _rounded(scaled: np.ndarray, bits: int) -> np.ndarray:
    below, above = _range(bits)
    return np.where(scaled >= 0, 1, -1) if bits == 1 else np.rint(np.clip(scaled, -below, above))


@_every_group
@pytest.mark.parametrize("bits", range(1, 9))
def test_weights_are_integer_multiples_of_the_step(bits, group, axes):
    quantizer = _quantizer(bits, group, change=0.25)
    start = 2 * np.abs(_KERNEL).mean(axes, keepdims=True) / np.sqrt(_range(bits)[1])
    expected = 1.25 * start * _rounded(_KERNEL / (1.25 * start), bits)
    for training in (False, True):  # before the step is set, and with the step set
        np.testing.assert_allclose(quantizer.levels(ops.convert_to_tensor(_KERNEL), training), expected, rtol=1e-5)
    np.testing.assert_allclose(quantizer.state["step_start"], start, rtol=1e-5)
    assert quantizer.storage.levels >= len(np.unique(expected[..., 0]))


@_every_group
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_weights_and_their_step_have_the_gradients_of_the_paper(bits, group, axes):
    quantizer = _quantizer(bits, group)
    start = np.abs(_KERNEL).mean(axes, keepdims=True) * 2 / np.sqrt(_range(bits)[1])
    change = np.full(start.shape, -0.6, np.float32)  # so that some weights lie beyond the levels

    def total(kernel: object, change: object) -> object:
        quantizer.state = {**quantizer.state, "step_change": change}
        return ops.sum(_FACTORS * quantizer.quantize(ops.convert_to_tensor(kernel), training=False))

    (below, above), scaled = _range(bits), _KERNEL / (0.4 * start)
    inside = (scaled > -below) & (scaled < above)
    assert bits == 8 or ((scaled <= -below).any() and (scaled >= above).any())
    _, gradient = value_and_gradient(lambda kernel: total(kernel, change), _KERNEL)
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), np.where(inside, _FACTORS, 0))  # eq. 5
    slopes = np.where(inside, _rounded(scaled, bits) - scaled, np.where(scaled <= -below, -below, above))  # eq. 3
    scale = 1 / np.sqrt(_KERNEL.size / start.size * above)
    _, gradient = value_and_gradient(lambda change: total(_KERNEL, change), change)
    moved = start * ops.convert_to_numpy(gradient)  # a step of SGD moves the step by so much
    np.testing.assert_allclose(moved, scale * (_FACTORS * slopes).sum(axes, keepdims=True), rtol=1e-3, atol=1e-4)


def test_a_step_comes_back_from_beyond_the_smallest():
    quantizer = _quantizer(4, "layer", change=-3.0)
    quantized = ops.convert_to_numpy(quantizer.quantize(ops.convert_to_tensor(_KERNEL), training=True))
    step = 2 * np.abs(_KERNEL).mean() / np.sqrt(7) / 1000
    assert quantized.max() == pytest.approx(7 * step, rel=1e-4)


def test_a_kernel_of_zeros_waits_for_its_step():
    quantizer, zeros = _quantizer(4, "layer"), ops.zeros(_SHAPE)
    assert not ops.convert_to_numpy(quantizer.quantize(zeros, training=True)).any()
    quantizer.quantize(ops.convert_to_tensor(_KERNEL), training=True)
    found = ops.convert_to_numpy(quantizer.state["step_start"]).item()
    assert found == pytest.approx(2 * np.abs(_KERNEL).mean() / np.sqrt(7), rel=1e-5)


# Activations

_X = _RANDOM.normal(scale=2, size=(16, 5, 5, 3)).astype(np.float32)
_UPSTREAM = _RANDOM.normal(size=_X.shape).astype(np.float32)


def _activation(bits: int) -> LsqActivation:
    layer = LsqActivation(bits)
    layer.build(_X.shape)
    return layer


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_the_first_batch_in_training_sets_the_step_of_activations(bits):
    layer, steps = _activation(bits), 2**bits - 1
    assert layer.upper == pytest.approx(6)
    layer(_X, training=False)
    layer(-np.abs(_X), training=True)  # nothing above zero: sets nothing
    assert layer.upper == pytest.approx(6)
    layer(_X, training=True)
    step = 2 * np.maximum(_X, 0).mean() / np.sqrt(steps)
    assert layer.upper == pytest.approx(steps * step, rel=1e-5)
    layer(5 * _X, training=True)
    assert layer.upper == pytest.approx(steps * step, rel=1e-5)


@pytest.mark.parametrize("rounding", [True, False])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_activations_and_their_step_have_the_gradients_of_the_paper(bits, rounding):
    layer, steps = LsqActivation(bits, rounding), 2**bits - 1
    layer.build(_X.shape)
    layer(_X, training=True)
    start = layer.upper / steps
    change = np.float32(1.7 / layer.upper - 1)  # an upper bound that some activations are above
    scaled = _X / (1.7 / steps)
    above = scaled >= steps
    assert above.any()

    def total(x: object, change: object) -> object:
        with keras.StatelessScope(state_mapping=[(layer.step_change, ops.convert_to_tensor(change))]):
            return ops.sum(_UPSTREAM * layer(x, training=True))

    _, gradient = value_and_gradient(lambda x: total(x, change), _X)
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), np.where((scaled > 0) & ~above, _UPSTREAM, 0))
    within = np.clip(scaled, 0, steps)
    slopes = np.where(above, steps, (np.rint(within) - within) if rounding else 0)  # 0 below zero
    scale = 1 / np.sqrt(5 * 5 * 3 * steps)
    _, gradient = value_and_gradient(lambda change: total(_X, change), change)
    moved = start * float(ops.convert_to_numpy(gradient))
    assert moved == pytest.approx(scale * (_UPSTREAM * slopes).sum(), rel=1e-3, abs=1e-3)
