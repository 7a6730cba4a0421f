"""Gradient repair: same classes, and slopes where there were none."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.attacks.repair import Slopes, Temperature, UnitMargin, smoothed, with_value
from tinyrobust.attacks.specs import Apgd, Pgd
from tinyrobust.graphs.freeze import freeze
from tinyrobust.networks.catalog import build
from tinyrobust.quantizers.activations import OnGrid, Pact, QuantizedReLU6
from tinyrobust.recipe import Recipe
from tinyrobust.robustness.targets import KerasTarget


@pytest.fixture(scope="module")
def batch(distilled_net) -> tuple[np.ndarray, np.ndarray]:
    return distilled_net.x[:200].astype(np.float32) / 255, distilled_net.y[:200]


def _vanished(estimator: KerasTarget, x: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(~estimator.loss_gradient(x, y).reshape(len(x), -1).any(axis=1)))


def _left_by_pgd(estimator: KerasTarget, judge: KerasTarget, x: np.ndarray, y: np.ndarray) -> float:
    attack = Pgd.of(steps=20).build(estimator, 0.3, seed=1)
    return float(np.mean(judge.predict(attack.generate(x, y)).argmax(axis=1) == y))


def test_a_distilled_net_looks_robust_and_is_not(distilled_net, batch) -> None:
    plain = KerasTarget(distilled_net.model)
    mended = KerasTarget(smoothed(distilled_net.model), transform=UnitMargin())
    assert np.mean(plain.predict(batch[0]).argmax(axis=1) == batch[1]) > 0.9
    assert _vanished(plain, *batch) > 0.7
    assert _vanished(mended, *batch) == 0
    assert _left_by_pgd(plain, plain, *batch) > 0.7
    assert _left_by_pgd(mended, plain, *batch) <= 0.02


def test_neither_half_of_the_repair_does_it_alone(distilled_net, batch) -> None:
    plain = KerasTarget(distilled_net.model)
    for half in (
        KerasTarget(smoothed(distilled_net.model)),
        KerasTarget(distilled_net.model, transform=UnitMargin()),
    ):
        assert _left_by_pgd(half, plain, *batch) > 0.1


@pytest.mark.parametrize("transform", [Temperature(50.0), UnitMargin()])
def test_a_transform_keeps_every_class(transform, distilled_net, batch) -> None:
    plain, mended = (KerasTarget(distilled_net.model, transform=t) for t in (None, transform))
    np.testing.assert_array_equal(plain.predict(batch[0]).argmax(axis=1), mended.predict(batch[0]).argmax(axis=1))


def test_temperature_divides() -> None:
    np.testing.assert_allclose(Temperature(4.0)(tf.constant([[8.0, -2.0]])), [[2.0, -0.5]])


def test_the_margin_becomes_one() -> None:
    logits = (
        np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32) * np.logspace(-3, 3, 50, dtype=np.float32)[:, None]
    )
    top = np.sort(UnitMargin()(tf.constant(logits)), axis=1)
    np.testing.assert_allclose(top[:, -1] - top[:, -2], 1, rtol=1e-2)


def test_ties_stay_finite() -> None:
    tied = tf.constant([[3.0, 3.0, -1.0], [0.0, 0.0, 0.0], [1e-30, 0.0, 0.0]])
    assert np.isfinite(UnitMargin()(tied)).all()
    assert np.abs(UnitMargin()(tied)).max() <= 1000


def test_the_divisor_gets_no_gradient() -> None:
    logits = tf.constant([[5.0, 1.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        first = UnitMargin()(logits)[:, 0]
    np.testing.assert_allclose(tape.gradient(first, logits), [[0.25, 0, 0]])


def test_with_value_has_one_tensors_value_and_the_others_slope() -> None:
    x = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = with_value(x**2, 7 * x)
    np.testing.assert_array_equal(y, [7, 14])
    np.testing.assert_array_equal(tape.gradient(y, x), [2, 4])


_ACTIVATIONS = {
    "relu": (lambda: keras.layers.ReLU(), [0.1, 1, 1, 1]),
    "relu6": (lambda: keras.layers.ReLU(6.0), [0.1, 1, 1, 0.1]),
    "fused": (lambda: keras.layers.Activation("relu6"), [0.1, 1, 1, 0.1]),
    "quantized": (QuantizedReLU6, [0.1, 1, 1, 0.1]),
    "learned": (Pact, [0.1, 1, 1, 0.1]),
    "grid": (lambda: OnGrid(0.1, -1.0, 6.0), [0.1, 1, 1, 0.1]),
}


@pytest.mark.parametrize("name", _ACTIVATIONS)
def test_flat_parts_keep_a_tenth_of_the_slope(name) -> None:
    make, slopes = _ACTIVATIONS[name]
    model = keras.Sequential([keras.Input((4,)), make()])
    x = tf.constant([[-2.0, 0.52, 3.33, 9.0]])
    mended = smoothed(model)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = mended(x)
    np.testing.assert_array_equal(y, model(x))
    np.testing.assert_allclose(tape.gradient(y, x)[0], slopes, rtol=1e-5)


def test_a_frozen_network_of_ours_keeps_its_outputs_bit_for_bit() -> None:
    recipe = Recipe(
        name="tiny",
        data={"name": "digits"},
        network={"kind": "stqnet", "width": 0.25},
        train={"epochs": 1},
        precision={"rule": [{"layers": ".*", "weights": "stochastic-ternary", "activations": "pact"}]},
    )
    keras.utils.set_random_seed(0)
    model = freeze(build(recipe, (8, 8, 1), 10))
    mended = smoothed(model)
    x = np.random.default_rng(0).random((20, 8, 8, 1), dtype=np.float32)
    np.testing.assert_array_equal(mended(x, training=False), model(x, training=False))
    assert not mended.trainable_variables


def _slope(model, slopes: Slopes, x: tf.Tensor, restart: int) -> np.ndarray:
    mended = smoothed(model, slopes)
    slopes.redraw(restart)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = mended(x)
    slopes.redraw(0)
    np.testing.assert_array_equal(y, model(x))
    return np.asarray(tape.gradient(y, x))


def _stepped(value):
    """Steps at 0, from 0 to 1 over a hundredth, as the difference of two rectifiers."""
    steep = keras.layers.Rescaling(100.0)(value)
    both = [keras.layers.ReLU()(steep), keras.layers.ReLU()(keras.layers.Rescaling(1.0, -1.0)(steep))]
    return keras.layers.Subtract()(both)


def _steps() -> keras.Model:
    x = keras.Input((4,))
    return keras.Model(x, _stepped(x))


def test_equal_leaks_cancel_and_slopes_averaged_over_noise_do_not() -> None:
    x, slopes = tf.constant([[-2.0, 0.52, 3.33, -4.0]]), Slopes()
    np.testing.assert_allclose(_slope(_steps(), slopes, x, 0), 0, atol=1e-5)
    averaged = _slope(_steps(), slopes, x, 1)
    assert (averaged > 0).all()
    # The nearer the step, the steeper.
    assert averaged[0, 1] == averaged.max()
    for restart in (3, 5, 9):
        assert not np.allclose(_slope(_steps(), slopes, x, restart), averaged)
    np.testing.assert_array_equal(_slope(_steps(), slopes, x, 1), averaged)
    np.testing.assert_array_equal(_slope(_steps(), slopes, x, 2), _slope(_steps(), slopes, x, 0))


def test_the_slope_of_a_rectifier_under_noise() -> None:
    # The root mean square of 3 and -3 is 3, next to 4, and the fifth restart's noise is 4: secants to 2, 4, 16 and 64 either
    # way have slopes 1, 7/8, 19/32 and 67/128 at 3.
    x = tf.constant([[3.0, -3.0]])
    model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU()])
    positive = (1 + 7 / 8 + 19 / 32 + 67 / 128) / 4
    np.testing.assert_allclose(_slope(model, Slopes(), x, 5), [[positive, 1 - positive]], rtol=1e-5)


def test_a_sample_s_slopes_do_not_depend_on_its_neighbours() -> None:
    x = tf.constant([[-2.0, 0.52, 3.33, -4.0], [90.0, 1.0, 2.0, 3.0]])
    for restart in (1, 11):
        together = _slope(_steps(), Slopes(), x, restart)
        np.testing.assert_allclose(_slope(_steps(), Slopes(), x[:1], restart), together[:1], rtol=1e-5)


@pytest.mark.parametrize("curve", ["tanh", "sigmoid", "hard_silu"])
def test_curves_that_saturate_keep_a_slope(curve) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Activation(curve)])
    x = tf.constant([[-80.0, 80.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x)
    assert (np.asarray(tape.gradient(y, x)) < 1e-6).any()
    for restart in (0, 1):
        assert (_slope(model, Slopes(), x, restart) > 1e-4).all()


def test_restarts_have_other_slopes_and_the_first_ones_come_back() -> None:
    """Logits that count steps below 0.5: the first run finds no way there, a restart does."""
    slopes, image = Slopes(), keras.Input((4,))
    logits = keras.layers.Dense(2)
    masked = keras.Model(image, logits(_stepped(keras.layers.Rescaling(1.0, -0.5)(image))))
    logits.set_weights([np.stack([-np.ones(4), np.ones(4)], axis=1), np.zeros(2)])
    target = KerasTarget(smoothed(masked, slopes), slopes=slopes, transform=UnitMargin())
    x, y = np.full((8, 4), 0.7, np.float32), np.ones(8, np.int64)
    once, twice = (Apgd.of(steps=10, restarts=restarts).build(target, 0.25, seed=0) for restarts in (1, 2))
    left = [float(np.mean(target.predict(attack.generate(x, y)).argmax(axis=1) == y)) for attack in (once, twice)]
    assert left[1] < left[0]
    assert not slopes.averaged
