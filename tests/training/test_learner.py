"""Optimizer and schedules: the shape of the learning rate, and who is decayed."""

import keras
import numpy as np
import pytest

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.precision import Precision
from tinyrobust.recipe.train import Train
from tinyrobust.training.learner import Learner, compiled
from tinyrobust.training.objectives import Batch, CrossEntropy, Objective

_STEPS = 100


def _network() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = LayerFactory(
        Precision.model_validate({"rule": [{"layers": ".*", "weights": "stochastic-ternary", "activations": "pact"}]}), 1
    )
    image = keras.Input((4, 4, 1))
    x = layers.relu("conv")(layers.norm("conv")(layers.conv("conv", 4, 3)(image)))
    x = layers.depthwise("depthwise", 3, bias=True)(x)
    return keras.Model(image, layers.dense("logits", 3, bias=True)(keras.layers.Flatten()(x)))


def _learner(objective: Objective | None = None, **settings: object) -> Learner:
    return compiled(_network(), [objective or CrossEntropy()], Train(epochs=1, **settings), _STEPS)


def _rates(**settings: object) -> np.ndarray:
    optimizer = _learner(learning_rate=0.01, **settings).optimizer
    rates = []
    for step in range(_STEPS + 1):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    return np.array(rates)


def test_one_cycle_rises_in_a_line_and_falls_in_half_a_cosine():
    rates = _rates(schedule="one-cycle", warmup=0.3)
    np.testing.assert_allclose(rates[:31], np.linspace(0.01 / 25, 0.01, 31), rtol=1e-5)
    np.testing.assert_allclose(rates[30:], 0.005 * (1 + np.cos(np.pi * np.linspace(0, 1, 71))), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("settings", [{"schedule": "cosine"}, {"schedule": "one-cycle", "warmup": 0.0}], ids=str)
def test_cosine_starts_at_the_peak(settings):
    np.testing.assert_allclose(_rates(**settings), 0.005 * (1 + np.cos(np.pi * np.linspace(0, 1, 101))), atol=1e-8)


def test_one_cycle_that_only_rises():
    np.testing.assert_allclose(
        _rates(schedule="one-cycle", warmup=1.0)[:100], np.linspace(0.01 / 25, 0.01, 101)[:100], rtol=1e-5
    )


def test_constant_stays():
    np.testing.assert_allclose(_rates(schedule="constant"), 0.01)


class _Nothing(Objective):
    """No gradient anywhere: what changes was changed by the decay."""

    name = "nothing"

    def __call__(self, batch: Batch) -> object:
        return 0 * keras.ops.mean(batch.logits)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_only_latent_weights_decay(optimizer):
    learner = _learner(_Nothing(), optimizer=optimizer, learning_rate=0.1, schedule="constant", weight_decay=0.5)
    learner.network.get_layer("conv-relu").alpha.regularizer = None
    latent = {id(layer.latent_weights) for layer in weight_layers(learner.network)}
    for variable in learner.trainable_variables:
        variable.assign(variable + 1.5)  # no zeros among the biases
    before = [variable.numpy() for variable in learner.trainable_variables]
    learner.fit(np.ones((8, 4, 4, 1)), np.zeros(8, int), batch_size=8, epochs=3, verbose=0)
    for variable, old in zip(learner.trainable_variables, before, strict=True):
        kept = (1 - 0.1 * 0.5) ** 3 if id(variable) in latent else 1
        np.testing.assert_allclose(variable.numpy(), old * kept, rtol=1e-5, err_msg=variable.path)


def test_the_loss_is_the_weighted_sum_of_objectives_and_penalties():
    class Constant(Objective):
        name = "constant"

        def __call__(self, batch: Batch) -> object:
            return keras.ops.mean(batch.logits) * 0 + 2.0

    network = _network()
    learner = compiled(network, [CrossEntropy(), Constant(weight=3.0)], Train(epochs=1), _STEPS)
    x, y = np.random.default_rng(0).uniform(size=(20, 4, 4, 1)).astype(np.float32), np.arange(20) % 3
    found = learner.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)  # the last batch is smaller
    logits = network.predict(x, verbose=0)
    cross_entropy = float(keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, logits))
    assert found["cross_entropy"] == pytest.approx(cross_entropy, rel=1e-5)
    assert found["constant"] == pytest.approx(2)
    assert found["loss"] == pytest.approx(cross_entropy + 6 + 36e-4, rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(axis=1) == y).mean())
