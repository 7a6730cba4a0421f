"""Adversarial weight perturbation: the ball, the gradient at moved weights, and weights that come back to the bit."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust import recipe as recipes
from tinyrobust.errors import RecipeError
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.precision import Precision
from tinyrobust.recipe.train import Train
from tinyrobust.recipe.update import Awp
from tinyrobust.training.awp import WeightPerturbation, moved
from tinyrobust.training.learner import Learner, compiled
from tinyrobust.training.objectives import Objective

_X, _Y = np.random.default_rng(0).uniform(size=(20, 4, 4, 1)).astype(np.float32), np.arange(20) % 3


def _network(weights: str = "float") -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = LayerFactory(Precision.model_validate({"rule": [{"layers": ".*", "weights": weights}]}), 1)
    image = keras.Input((4, 4, 1))
    x = layers.relu("conv")(layers.norm("conv")(layers.conv("conv", 4, 3)(image)))
    network = keras.Model(image, layers.dense("logits", 3, bias=True)(keras.layers.Flatten()(x)))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    return network


def _learner(network: keras.Model, objective: Objective, gamma: float, warmup: float = 0.0, steps: int = 10) -> Learner:
    settings = Train(epochs=1, optimizer="sgd", schedule="constant", learning_rate=0.5, weight_decay=0.1).model_copy(
        update={"update": Awp(kind="awp", gamma=gamma, warmup=warmup)}
    )
    return compiled(network, [objective], settings, steps)


def _fit(learner: Learner, epochs: int = 1) -> dict[str, list[float]]:
    return learner.fit(_X, _Y, batch_size=20, epochs=epochs, shuffle=False, verbose=0).history


def _latent(network: keras.Model) -> list[np.ndarray]:
    return [np.array(layer.latent_weights.value) for layer in weight_layers(network)]


def _slopes(network: keras.Model) -> tuple[float, list[np.ndarray]]:
    """Of the cross-entropy in training mode, by all that is trained."""
    with tf.GradientTape() as tape:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(_Y, network(_X, training=True))
    return float(loss), [slope.numpy() for slope in tape.gradient(loss, [v.value for v in network.trainable_variables])]


def test_a_move_has_the_length_of_gamma_times_that_of_the_weights_along_the_gradient() -> None:
    weights, slope = (np.random.default_rng(seed).normal(size=(3, 3, 2, 4)).astype(np.float32) for seed in (1, 2))
    move = np.array(moved(weights, slope, 0.01))
    assert np.linalg.norm(move) == pytest.approx(0.01 * np.linalg.norm(weights), rel=1e-5)
    np.testing.assert_allclose(move / np.linalg.norm(move), slope / np.linalg.norm(slope), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(moved(weights, np.zeros_like(slope), 0.01), np.zeros_like(slope))


def test_a_step_is_that_of_the_gradient_at_moved_weights_from_the_weights_as_they_were(objective: Any) -> None:
    """By hand, on another copy: batch norm sees moved weights alone, and decay the weights that were not moved."""
    network, other = _network(), _network()
    _, slopes = _slopes(other)
    before = [variable.numpy() for variable in other.trainable_variables]
    latent = {id(layer.latent_weights) for layer in weight_layers(other)}
    for variable, slope in zip(other.trainable_variables, slopes, strict=True):
        if id(variable) in latent:
            length = np.linalg.norm(variable.numpy()) / np.linalg.norm(slope)
            variable.assign(variable.numpy() + 0.1 * length * slope)
    for variable, start in zip(other.non_trainable_weights, _network().non_trainable_weights, strict=True):
        variable.assign(start)
    higher, slopes = _slopes(other)
    learner = _learner(network, objective("cross-entropy"), gamma=0.1)
    history = _fit(learner)
    assert history["loss"] == [pytest.approx(higher, rel=1e-5)]
    assert history["cross_entropy"] == [pytest.approx(higher, rel=1e-5)]
    for mine, old, slope, peer in zip(network.trainable_variables, before, slopes, other.trainable_variables, strict=True):
        kept = old * (1 - 0.5 * 0.1) if id(peer) in latent else old
        np.testing.assert_allclose(mine.numpy(), kept - 0.5 * 1.9 * slope, atol=1e-5, err_msg=mine.path)  # Nesterov: 1 + 0.9
    for mine, peer in zip(network.non_trainable_weights, other.non_trainable_weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), peer.numpy(), rtol=1e-5, atol=1e-6, err_msg=mine.path)


@pytest.mark.parametrize("weights", ["float", "stochastic-ternary"])
def test_weights_are_restored_to_the_bit(objective: Any, weights: str) -> None:
    """At a rate of zero nothing else changes them; w + v - v would be rounded."""
    network = _network(weights)
    before = _latent(network)
    learner = _learner(network, objective("adversarial", perturbation={"kind": "fgsm", "epsilon": 0.1}), gamma=0.3)
    learner.optimizer.learning_rate.assign(0.0)
    _fit(learner, epochs=3)
    for one, other in zip(_latent(network), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("settings", [{"gamma": 0.0}, {"gamma": 0.1, "warmup": 1.0, "steps": 3}], ids=str)
def test_without_a_move_it_is_the_plain_step(objective: Any, settings: dict[str, float]) -> None:
    """Of no length, or not yet: the same examples, batch-norm statistics, curves and weights.

    Without a clean pass: that moves the statistics before the plain step makes its examples, and after AWP has made them.
    """
    fast = {"perturbation": {"kind": "fgsm", "epsilon": 0.1}, "clean_statistics": False}
    network, other = _network(), _network()
    found = _fit(_learner(network, objective("adversarial", **fast), **settings), epochs=3)
    plain = Train(epochs=1, optimizer="sgd", schedule="constant", learning_rate=0.5, weight_decay=0.1)
    expected = _fit(compiled(other, [objective("adversarial", **fast)], plain, 10), epochs=3)
    assert found == {name: pytest.approx(values, rel=1e-4) for name, values in expected.items()}
    for one, peer in zip(network.variables, other.variables, strict=True):
        np.testing.assert_allclose(np.array(one), np.array(peer), rtol=1e-4, atol=1e-5, err_msg=one.path)


def test_after_its_warm_up_it_moves(objective: Any) -> None:
    """Two steps of three are plain."""
    late, plain, early = (
        _fit(_learner(_network(), objective("cross-entropy"), **settings, steps=3), epochs=3)["loss"]
        for settings in ({"gamma": 0.2, "warmup": 2 / 3}, {"gamma": 0.0}, {"gamma": 0.2})
    )
    assert late[:2] == pytest.approx(plain[:2], rel=1e-4)
    assert late[2] > plain[2] + 1e-3
    assert early[0] > plain[0] + 1e-3


def test_a_recipe_asks_for_it() -> None:
    recipe = recipes.load("digits-stq", ['train.update={kind="awp", gamma=0.01}'])
    assert recipe.train.update == Awp(kind="awp", gamma=0.01)
    assert WeightPerturbation(Awp(kind="awp"), 10)._gamma == 0.005
    with pytest.raises(RecipeError, match="less than or equal to 1"):
        recipes.load("digits-stq", ['train.update={kind="awp", gamma=2}'])
