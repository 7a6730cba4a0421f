"""TRADES: its value in NumPy, the gradient that its examples follow, and what it is without a divergence."""

from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust import recipe as recipes
from tinyrobust.errors import RecipeError
from tinyrobust.training.objectives import Batch
from tinyrobust.training.objectives.attacking import divergences

_RANDOM = np.random.default_rng(0)
_IMAGES = _RANDOM.uniform(0.3, 0.7, size=(32, 6)).astype(np.float32)
_LABELS = _RANDOM.integers(0, 3, 32)


def _linear() -> Batch:
    """A network without bias, x W: its divergences are known."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, use_bias=False, kernel_initializer="normal")])
    network.set_weights([_RANDOM.normal(size=(6, 3)).astype(np.float32)])
    return Batch(_IMAGES, _LABELS, network(_IMAGES), network, training=True)


def _softmax(logits: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits)).astype(np.float64)


def test_divergences_by_hand() -> None:
    """Of (3/4, 1/4) and (1/2, 1/2): 3/4 log 3/2 + 1/4 log 1/2; of equal ones: none."""
    p, q = np.log([[0.75, 0.25]]).astype(np.float32), np.zeros((1, 2), np.float32)
    expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(divergences(p, q + 7), [expected], rtol=1e-5)
    np.testing.assert_allclose(divergences(p, p - 3), [0], atol=1e-6)


def test_examples_follow_the_gradient_of_the_divergence(objective: Any) -> None:
    """One step from a start d beside x: along sign((softmax(z + dW) - softmax(z)) W^T)."""
    batch = _linear()
    (weights,) = batch.network.get_weights()
    settings = {"kind": "pgd", "epsilon": 0.1, "steps": 1, "start": "gaussian"}
    beside, moved = (
        objective("trades", perturbation={**settings, "step": step}, seed=3).examples(batch) for step in (1e-9, 1.0)
    )
    gradient = (_softmax(batch.network(beside)) - _softmax(batch.logits)) @ weights.T
    clear = np.abs(gradient) > 1e-5  # the softmaxes are apart by a thousandth, with seven digits
    assert clear.mean() > 0.9
    steps = (np.array(moved) - np.array(beside))[clear]
    np.testing.assert_allclose(steps, 0.1 * np.sign(gradient[clear]), atol=5e-3)  # clipped to the ball around x


@pytest.mark.parametrize("beta", [1.0, 6.0])
def test_its_value(objective: Any, beta: float) -> None:
    batch, trades = _linear(), objective("trades", beta=beta, label_smoothing=0.1, seed=1)
    attacked = _softmax(batch.network(objective("trades", seed=1).examples(batch)))
    clean = _softmax(batch.logits)
    targets = np.eye(3)[_LABELS] * 0.9 + 0.1 / 3
    expected = -(targets * np.log(clean)).sum(axis=1).mean()
    expected += beta * (clean * np.log(clean / attacked)).sum(axis=1).mean()
    assert float(trades(batch)) == pytest.approx(expected, rel=1e-5)


def test_without_divergence_it_is_training_on_clean_inputs_to_the_bit(trial: Any, objective: Any) -> None:
    one, other = trial("train.epochs=1", folder="one"), trial("train.epochs=1", folder="other")
    one.train(objective("trades", beta=0.0))
    other.train(objective("cross-entropy"))
    for first, second in zip(one.network.variables, other.network.variables, strict=True):
        np.testing.assert_array_equal(first, second, err_msg=first.path)
    assert one.history[0]["trades"] == other.history[0]["cross_entropy"]


def test_its_gradient_goes_through_the_clean_answers_too(objective: Any) -> None:
    """KL(p || q) by the clean logits: p (log p - log q - KL)."""
    import tensorflow as tf

    clean, attacked = (tf.constant(_RANDOM.normal(size=(4, 3)).astype(np.float32)) for _ in range(2))
    trades = objective("trades", beta=2.0)
    with tf.GradientTape() as tape:
        tape.watch(clean)
        value = trades.value(Batch(_IMAGES[:4], _LABELS[:4], clean, None, training=True), attacked)
    p, q = _softmax(clean), _softmax(attacked)
    divergence = (p * np.log(p / q)).sum(axis=1, keepdims=True)
    expected = (p - np.eye(3)[_LABELS[:4]] + 2 * p * (np.log(p / q) - divergence)) / 4
    np.testing.assert_allclose(tape.gradient(value, clean), expected, atol=1e-6)


def test_a_negative_beta_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"beta: .*greater than or equal to 0"):
        recipes.load("digits-stq", ['train.objective=[{kind="trades", beta=-1}]'])
