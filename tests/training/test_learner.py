"""The learner: optimizer and schedules, the sum of objectives, what they are shown, and update rules."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.objectives import LABELS
from tinyrobust.recipe.precision import Precision
from tinyrobust.recipe.train import Train
from tinyrobust.training.learner import Learner, compiled
from tinyrobust.training.objectives import Batch, Objective, Supplies, build_objectives
from tinyrobust.training.update import Logs

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


def _labels() -> Objective:
    (objective,) = build_objectives(LABELS, Supplies())
    return objective


def _learner(objective: Objective | None = None, **settings: object) -> Learner:
    return compiled(_network(), [objective or _labels()], Train(epochs=1, **settings), _STEPS)


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


@pytest.mark.parametrize(
    ("drops", "expected"),
    [((0.5, 0.75), [0.01] * 50 + [1e-3] * 25 + [1e-4] * 26), ((0.0,), [1e-3] * 101), ((), [0.01] * 101)],
)
def test_step_takes_a_tenth_at_every_drop(drops: tuple[float, ...], expected: list[float]):
    np.testing.assert_allclose(_rates(schedule="step", drops=drops), expected, rtol=1e-6)


def test_drops_that_do_not_rise_are_refused():
    with pytest.raises(ValueError, match=r"Expected drops that rise. Received: \[0.75, 0.5\]"):
        Train(epochs=1, drops=(0.75, 0.5))


class _Bare(Objective):
    """Without a table."""

    def __init__(self) -> None:
        """Weight 1, no needs."""


class _Nothing(_Bare):
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
    class Constant(_Bare):
        name = "constant"
        weight = 3.0

        def __call__(self, batch: Batch) -> object:
            return keras.ops.mean(batch.logits) * 0 + 2.0

    network = _network()
    learner = compiled(network, [_labels(), Constant()], Train(epochs=1), _STEPS)
    x, y = np.random.default_rng(0).uniform(size=(20, 4, 4, 1)).astype(np.float32), np.arange(20) % 3
    found = learner.evaluate(x, y, batch_size=8, verbose=0, return_dict=True)  # the last batch is smaller
    logits = network.predict(x, verbose=0)
    cross_entropy = float(keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, logits))
    assert found["cross_entropy"] == pytest.approx(cross_entropy, rel=1e-5)
    assert found["constant"] == pytest.approx(2)
    assert found["loss"] == pytest.approx(cross_entropy + 6 + 36e-4, rel=1e-5)
    assert found["accuracy"] == pytest.approx((logits.argmax(axis=1) == y).mean())


class _Looks(Objective):
    """Squares of what the hidden layers put out, and of what the network was given."""

    name = "looks"
    needs = frozenset({"activations", "features"})

    def __init__(self) -> None:
        self.seen: dict[str, tuple[int, ...]] = {}

    def __call__(self, batch: Batch) -> object:
        assert batch.activations is not None
        assert batch.features is batch.inputs
        self.seen = {name: tuple(activation.shape[1:]) for name, activation in batch.activations.items()}
        mean = [keras.ops.mean(keras.ops.square(activation)) for activation in batch.activations.values()]
        return keras.ops.sum(keras.ops.stack(mean)) + keras.ops.mean(keras.ops.square(batch.features))


def test_objectives_see_the_activations_of_the_one_forward_pass():
    x, y = np.random.default_rng(0).uniform(size=(20, 4, 4, 1)).astype(np.float32), np.arange(20) % 3
    network, looks = _network(), _Looks()
    learner = compiled(network, [_labels(), looks], Train(epochs=1), _STEPS)
    value = learner.evaluate(x, y, batch_size=20, verbose=0, return_dict=True)
    assert list(looks.seen) == [layer.name for layer in network.layers[1:-1]]
    assert looks.seen["conv-relu"] == (4, 4, 4)
    hidden = keras.Model(network.input, [layer.output for layer in network.layers[1:-1]]).predict(x, verbose=0)
    expected = sum((outputs.astype(np.float64) ** 2).mean() for outputs in hidden) + (x.astype(np.float64) ** 2).mean()
    assert value["looks"] == pytest.approx(expected, rel=1e-4)
    # One pass: batch norm moved once, and looking changes nothing else.
    blind, keeps = _network(), {}
    for name, one, objectives in (("looks", network, [_labels(), looks]), ("blind", blind, [_labels()])):
        learner = compiled(one, objectives, Train(epochs=1, learning_rate=0.0, schedule="constant"), _STEPS)
        learner.fit(x, y, batch_size=10, epochs=1, shuffle=False, verbose=0)
        keeps[name] = [keras.ops.convert_to_numpy(variable) for variable in one.variables]
    for seen, unseen in zip(keeps["looks"], keeps["blind"], strict=True):
        np.testing.assert_array_equal(seen, unseen)
    assert {variable.path for variable in learner.variables} >= {variable.path for variable in blind.variables}
    assert len(learner.trainable_variables) == len(blind.trainable_variables)


def test_nobody_who_does_not_look_is_shown_anything():
    class Blind(_Bare):
        name = "blind"

        def __call__(self, batch: Batch) -> object:
            assert batch.activations is None
            assert batch.features is None
            return 0 * keras.ops.mean(batch.logits)

    _learner(Blind()).evaluate(np.ones((2, 4, 4, 1)), np.zeros(2, int), verbose=0)


# Update rules

_X, _Y = np.random.default_rng(0).uniform(size=(20, 4, 4, 1)).astype(np.float32), np.arange(20) % 3


class _KerasLearner(Learner):
    """Takes Keras' step, whatever the rule."""

    train_step = keras.Model.train_step


class _WeightPerturbation:
    """The shape of adversarial weight perturbation: the gradient is taken where the loss is higher, the weights come back."""

    share = 0.1

    def step(self, learner: Learner, batch: tuple[tf.Tensor, tf.Tensor]) -> Logs:
        weights = [variable.value for variable in learner.trainable_variables]
        with tf.GradientTape() as tape:
            loss = learner.loss_of(*batch)
        moves = [self.share * slope for slope in tape.gradient(loss, weights)]
        for weight, move in zip(weights, moves, strict=True):
            weight.assign_add(move)
        logs = learner.plain_step(batch)
        for weight, move in zip(weights, moves, strict=True):
            weight.assign_sub(move)
        return logs


def _fitted(network: keras.Model, kind: type[Learner] = Learner) -> list[Any]:
    """Every variable after two epochs, and the history."""
    learner = kind(network, [_labels()])
    learner.compile(keras.optimizers.AdamW(1e-2, weight_decay=0.1), jit_compile=False)
    history = learner.fit(_X, _Y, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    return [*(np.array(variable) for variable in [*learner.variables, *learner.optimizer.variables]), history]


@pytest.mark.filterwarnings("ignore:__array__")
def test_the_plain_rule_is_keras_step_to_the_bit():
    ours, theirs = _fitted(_network()), _fitted(_network(), _KerasLearner)
    assert ours[-1] == theirs[-1]
    for one, other in zip(ours[:-1], theirs[:-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rule_takes_the_gradient_at_other_weights_and_restores_them():
    def dense() -> keras.Model:
        keras.utils.set_random_seed(0)
        return keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])

    def loss_and_slopes(network: keras.Model) -> tuple[float, list[np.ndarray]]:
        with tf.GradientTape() as tape:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(_Y, network(_X))
        return float(loss), [slope.numpy() for slope in tape.gradient(loss, network.trainable_variables)]

    network, other = dense(), dense()
    before = network.get_weights()
    plain_loss, slopes = loss_and_slopes(other)
    other.set_weights([weight + 0.1 * slope for weight, slope in zip(before, slopes, strict=True)])
    higher_loss, slopes = loss_and_slopes(other)
    learner = Learner(network, [_labels()], rule=_WeightPerturbation())
    learner.compile(keras.optimizers.SGD(0.5), jit_compile=False)
    history = learner.fit(_X, _Y, batch_size=20, epochs=1, shuffle=False, verbose=0).history
    for after, weight, slope in zip(network.get_weights(), before, slopes, strict=True):
        np.testing.assert_allclose(after, weight - 0.5 * slope, atol=1e-6)
    assert history["cross_entropy"] == history["loss"] == [pytest.approx(higher_loss, rel=1e-5)]
    assert higher_loss > plain_loss
