"""Rounded rectifiers: levels, ranges, gradients to the input and to the learned bound."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.deploy import grids
from tinyrobust.quantizers.activations import OnGrid, Pact, QuantizedReLU6
from tinyrobust.quantizers.dorefa import DorefaActivation
from tinyrobust.quantizers.lsq import LsqActivation

_X = np.linspace(-3, 9, 24_001).astype(np.float32)


@pytest.mark.parametrize("bits", [8, 4, 1])
@pytest.mark.parametrize(("kind", "upper"), [(QuantizedReLU6, 6.0), (Pact, 6.0), (Pact, 2.5)])
def test_values_are_the_levels_of_the_grid(kind, upper, bits):
    layer, steps = kind(bits), 2**bits - 1
    layer.build((None,))
    if kind is Pact:
        layer.alpha.assign(upper)
    assert layer.upper == upper
    y = layer(_X).numpy()
    assert len(np.unique(y)) == steps + 1
    np.testing.assert_allclose(y, np.rint(np.clip(_X, 0, upper) * steps / upper) * upper / steps, atol=upper / steps * 1.001)
    levels = y / (upper / steps)
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
    assert y.min() == 0
    assert y.max() == pytest.approx(upper, rel=1e-6)
    assert grids.trained(keras.Sequential([keras.Input((1,)), layer])) == {layer.name: grids.Grid(upper / steps, 127 - steps)}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("bits", "rounding"), [(8, True), (8, False), (2, True), (1, True)])
def test_the_gradient_to_the_learned_bound_counts_what_is_above_it(bits, rounding, training):
    layer = Pact(bits, rounding)
    x, factors = tf.constant([-1.0, 0.5, 2.9, 3.1, 8.0]), tf.constant([1.0, 2.0, 4.0, 8.0, 16.0])
    layer.build(x.shape)
    layer.alpha.assign(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(factors * layer(x, training=training))
    to_bound, to_x = tape.gradient(total, [layer.alpha.value, x])
    assert to_bound == 8 + 16
    np.testing.assert_array_equal(to_x, [0, 2, 4, 0, 0])


@pytest.mark.parametrize("make", [QuantizedReLU6, Pact, DorefaActivation, LsqActivation])
@pytest.mark.parametrize("bits", range(1, 9))
def test_one_kernel_in_training_gives_the_same_levels(make, bits):
    layer, steps = make(bits), 2**bits - 1
    layer.build((None,))
    x = np.arange(-10, 2 * steps + 10, dtype=np.float32) / 2 + 0.2  # none halfway between two levels
    layer(x, training=True)
    x *= layer.upper / steps
    np.testing.assert_allclose(layer(x, training=True), layer(x, training=False), rtol=1e-5)


def test_the_learned_bound_is_penalised_and_trained():
    network = keras.Sequential([keras.Input((4,)), Pact(name="relu")])
    assert float(sum(network.losses)) == pytest.approx(36e-4)
    network.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
    x = np.full((8, 4), 7.0, np.float32)
    network.fit(x, np.full_like(x, 2.0), epochs=20, verbose=0)
    assert network.get_layer("relu").upper == pytest.approx(2.0, abs=0.1)


def test_a_bound_that_was_driven_to_nothing_stays_finite():
    layer = Pact()
    layer.build((None,))
    layer.alpha.assign(-1.0)
    assert layer(_X).numpy().max() == pytest.approx(layer.upper)
    assert layer.upper > 0


@pytest.mark.parametrize("make", [QuantizedReLU6, Pact, DorefaActivation, LsqActivation])
@pytest.mark.parametrize("bits", [1, 4])
def test_slopes_have_slopes_in_one_kernel_too(make, bits):
    """A penalty on gradients, as an objective may be, is differentiated once more."""
    layer, random = make(bits), np.random.default_rng(0)
    x, kernel = (tf.constant(random.normal(size=shape).astype(np.float32)) for shape in ((16, 5), (5, 3)))
    layer(x @ kernel, training=True)
    found = []
    for training in (True, False):
        with tf.GradientTape() as outer:
            outer.watch(kernel)
            with tf.GradientTape() as inner:
                inner.watch(x)
                total = tf.reduce_sum(layer(x @ kernel, training=training) ** 2)
            penalty = tf.reduce_sum(inner.gradient(total, x) ** 2)
        found.append(outer.gradient(penalty, kernel))
    np.testing.assert_allclose(*found, rtol=1e-3, atol=1e-3 * np.abs(found[1]).max())
    assert np.abs(found[1]).max() > 1


@pytest.mark.parametrize("bits", [0, 9])
def test_bits_that_no_file_has_are_refused(bits):
    with pytest.raises(ValueError, match=f"Expected bits from 1 to 8. Received: bits={bits}"):
        QuantizedReLU6(bits)


def test_a_grid_rounds_clips_and_lets_gradients_through():
    layer = OnGrid(0.25, -1.0, 2.0)
    x = tf.constant([-3.0, -0.6, 0.1, 1.3, 5.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    np.testing.assert_array_equal(y, [-1, -0.5, 0, 1.25, 2])
    np.testing.assert_array_equal(tape.gradient(y, x), [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(OnGrid.from_config(layer.get_config())(x), y)


@pytest.mark.parametrize("arguments", [(0.0, 0.0, 1.0), (0.1, 1.0, 1.0)])
def test_an_impossible_grid_is_refused(arguments):
    with pytest.raises(ValueError, match="Expected scale > 0 and low < high"):
        OnGrid(*arguments)
