"""Random networks: answers and gradients are means over fresh passes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.attacks.specs import Pgd
from tinyrobust.attacks.target import Target
from tinyrobust.errors import ModelFileError
from tinyrobust.robustness.targets import KerasTarget, StochasticTarget, doubled


@keras.saving.register_keras_serializable("tests")
class Noisy(keras.layers.Layer):
    """Adds noise whenever it is called, at inference too."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), stddev=0.3, seed=self.generator)


@pytest.fixture(scope="module")
def noisy(digits_net) -> keras.Model:
    image = keras.Input((8, 8, 1))
    return keras.Model(image, digits_net.model(Noisy()(image)))


@pytest.fixture(scope="module")
def batch(digits_net) -> tuple[np.ndarray, np.ndarray]:
    return digits_net.x[:40].astype(np.float32) / 255, digits_net.y[:40]


def _passes(model: keras.Model, count: int, x: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean over passes, one after the other: logits, and the gradients of one of them."""
    logits, gradients = [], []
    for _ in range(count):
        with tf.GradientTape() as tape:
            inputs = tf.constant(x)
            tape.watch(inputs)
            row = model(inputs, training=False)
            chosen = tf.reduce_sum(row[:, label])
        logits.append(row)
        gradients.append(tape.gradient(chosen, inputs))
    return np.mean(logits, axis=0), np.mean(gradients, axis=0)


@pytest.mark.parametrize("passes", [1, 5])
def test_the_gradient_is_that_of_the_mean_over_passes(passes, noisy, batch) -> None:
    x, _ = batch
    target = StochasticTarget(noisy, passes=passes, seed=3)
    logits = target.predict(x)
    target.forget()
    gradients = target.class_gradient(x, 7)[:, 0]
    target.forget()
    expected = _passes(noisy, passes, x, 7)
    np.testing.assert_allclose(logits, expected[0], atol=1e-4)
    np.testing.assert_allclose(gradients, expected[1], atol=1e-4)
    assert (target.forward_passes, target.backward_passes) == (80 * passes, 40 * passes)


def test_every_answer_is_drawn_anew_and_the_seed_repeats_all(noisy, batch) -> None:
    target = StochasticTarget(noisy, passes=2, seed=3)
    first, second = target.predict(batch[0]), target.predict(batch[0])
    assert np.abs(first - second).max() > 0.1
    target.forget()
    np.testing.assert_array_equal(target.predict(batch[0]), first)
    assert np.abs(StochasticTarget(noisy, passes=2, seed=4).predict(batch[0]) - first).max() > 0.1


def test_more_passes_vary_less(noisy, batch) -> None:
    spread = []
    for passes in (1, 16):
        target = StochasticTarget(noisy, passes=passes)
        spread.append(np.std([target.predict(batch[0]) for _ in range(6)], axis=0).mean())
    assert spread[1] < spread[0] / 3


def test_layers_that_are_random_only_in_training(digits_net, batch) -> None:
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, digits_net.model(keras.layers.GaussianNoise(0.3)(image)))
    assert _varies(StochasticTarget(model, passes=1, training=True), batch[0])
    assert not _varies(StochasticTarget(model, passes=1), batch[0])
    assert not _varies(KerasTarget(digits_net.model), batch[0])


def _varies(target: Target, x: np.ndarray) -> bool:
    return not np.array_equal(target.predict(x), target.predict(x))


def test_a_deterministic_network_is_refused(digits_net) -> None:
    with pytest.raises(ModelFileError, match="Expected a network with random layers"):
        StochasticTarget(digits_net.model, passes=2)


def test_passes_are_doubled_until_robust_accuracy_rests() -> None:
    curve = {1: 0.60, 2: 0.40, 4: 0.31, 8: 0.305, 16: 0.304}
    found = doubled(curve.__getitem__)
    assert (found.passes, found.settled) == (4, True)
    assert found.accuracies == curve
    unsettled = doubled(curve.__getitem__, limit=8)
    assert (unsettled.passes, unsettled.settled) == (8, False)
    assert set(unsettled.accuracies) == {1, 2, 4, 8}


@pytest.mark.parametrize("first_quiet", [0.266, 0.260])
def test_one_quiet_doubling_is_chance(first_quiet: float) -> None:
    """Where the next one breaks more, or both together do, although neither alone."""
    curve = {1: 0.319, 2: 0.266, 4: first_quiet, 8: first_quiet - 0.008 if first_quiet < 0.266 else 0.238, 16: 0.224}
    found = doubled({**curve, 32: 0.2235, 64: 0.223}.__getitem__)
    assert (found.passes, found.settled) == (16, True)


def test_expectation_makes_a_stronger_attack(noisy, batch) -> None:
    x, y = batch
    judge = StochasticTarget(noisy, passes=16, seed=9)
    left = []
    for passes in (1, 8):
        target = StochasticTarget(noisy, passes=passes, seed=1)
        attack = Pgd.of(steps=10).build(target, 0.15, drop=False)
        left.append(np.mean(judge.predict(attack.generate(x, y)).argmax(axis=1) == y))
    assert np.mean(judge.predict(x).argmax(axis=1) == y) > 0.8
    assert left[1] < left[0]
