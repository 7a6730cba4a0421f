"""DoReFa-Net's formulas written out in NumPy: levels, how many, gradients. Runs under every backend."""

import numpy as np
import pytest
from keras import ops

from tinyrobust.gradients import value_and_gradient
from tinyrobust.quantizers.dorefa import Dorefa, DorefaActivation

_RANDOM = np.random.default_rng(0)
_KERNEL = (_RANDOM.normal(size=(40, 50, 3)) * np.array([0.3, 1.0, 2.0])).astype(np.float32)
_FACTORS = _RANDOM.normal(size=_KERNEL.shape).astype(np.float32)
_GROUPS = {"layer": (0, 1, 2), "channel": (0, 1)}

_every_group = pytest.mark.parametrize(("group", "axes"), _GROUPS.items(), ids=_GROUPS)


@_every_group
@pytest.mark.parametrize("bits", range(2, 9))
def test_weights_are_the_papers_levels(bits, group, axes):
    quantizer = Dorefa(bits, group=group)
    steps = min(2**bits - 1, 254)
    bounded = np.tanh(_KERNEL.astype(np.float64))
    unit = bounded / (2 * np.abs(bounded).max(axes, keepdims=True)) + 0.5
    found = ops.convert_to_numpy(quantizer(_KERNEL))
    levels = (2 * np.arange(steps + 1) - steps) / steps
    np.testing.assert_allclose(np.unique(found), levels, atol=1e-6)
    assert quantizer.storage.levels >= len(levels)
    near = np.abs(unit * steps % 1 - 0.5) < 1e-3  # between two levels, a processor's rounding decides
    np.testing.assert_allclose(found[~near], (2 * np.rint(unit * steps) / steps - 1)[~near], atol=1e-6)


@_every_group
def test_of_one_bit_they_are_signs_of_the_mean_magnitude(group, axes):
    found = ops.convert_to_numpy(Dorefa(1, group=group)(_KERNEL))
    np.testing.assert_allclose(found, np.sign(_KERNEL) * np.abs(_KERNEL).mean(axes, keepdims=True), rtol=1e-5)
    _, gradient = value_and_gradient(lambda w: ops.sum(_FACTORS * Dorefa(1, group=group)(w)), _KERNEL)
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), _FACTORS)


@_every_group
def test_the_hyperbolic_tangent_and_the_largest_magnitude_have_their_gradients(group, axes):
    """With t = tanh w, of which the largest magnitude in a group is that of t*: q = t / |t*| but for the rounding."""
    _, gradient = value_and_gradient(lambda w: ops.sum(_FACTORS * Dorefa(3, group=group)(w)), _KERNEL)
    t = np.tanh(_KERNEL.astype(np.float64))
    largest = np.abs(t).max(axes, keepdims=True)
    through_largest = -(_FACTORS * t).sum(axes, keepdims=True) / largest**2 * np.sign(t) * (np.abs(t) == largest)
    expected = (_FACTORS / largest + through_largest) * (1 - t**2)
    np.testing.assert_allclose(ops.convert_to_numpy(gradient), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("bits", range(1, 9))
def test_activations_are_levels_between_zero_and_one(bits, training):
    steps = 2**bits - 1
    x = (np.arange(-20, 2 * steps + 20, dtype=np.float32) / 2 + 0.2) / steps  # none halfway between two levels
    found = ops.convert_to_numpy(DorefaActivation(bits)(x, training=training))
    np.testing.assert_allclose(found, np.rint(np.clip(x, 0, 1) * steps) / steps, atol=1e-6)


@pytest.mark.parametrize("make", [Dorefa, DorefaActivation])
@pytest.mark.parametrize("bits", [0, 9])
def test_bits_that_no_file_has_are_refused(make, bits):
    with pytest.raises(ValueError, match=f"Expected bits from 1 to 8. Received: bits={bits}"):
        make(bits)
