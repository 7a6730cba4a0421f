"""The average of the weights has batch-norm statistics of its own, and measuring them changes nothing that is trained."""

from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust.data.arrays import scale
from tinyrobust.graphs.freeze import with_fixed_weights
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.precision import Precision
from tinyrobust.recipe.train import Train
from tinyrobust.training.average import measure_norms

_IMAGES = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 1), np.uint8)


def _network(weights: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = LayerFactory(Precision.model_validate({"rule": [{"layers": ".*", "weights": weights}]}), 1)
    image = keras.Input((6, 6, 1))
    x = layers.relu("one")(layers.norm("one")(layers.conv("one", 4, 3)(image)))
    x = layers.relu("two")(layers.norm("two")(layers.conv("two", 3, 3)(x)))
    return keras.Model(image, layers.dense("logits", 3, bias=True)(keras.layers.Flatten()(x)))


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


@pytest.mark.parametrize("weights", ["float", "stochastic-ternary"])
@pytest.mark.parametrize("size", [16, 50, 128])
def test_statistics_are_the_means_over_whole_batches(weights: str, size: int) -> None:
    """Of what the first convolution puts out, by hand; on one batch, of the second too."""
    network = _network(weights)
    measure_norms(network, _IMAGES, size)
    constant = with_fixed_weights(network)
    outputs = keras.Model(constant.input, constant.get_layer("one").output).predict(scale(_IMAGES), verbose=0)
    batches = [outputs[start : start + size] for start in range(0, 48, size)] if size == 16 else [outputs]
    norm = network.get_layer("one-bn")
    for statistic, expected in (
        (norm.moving_mean, np.mean([batch.mean(axis=(0, 1, 2)) for batch in batches], axis=0)),
        (norm.moving_variance, np.mean([batch.var(axis=(0, 1, 2)) for batch in batches], axis=0)),
    ):
        np.testing.assert_allclose(_array(statistic), expected, rtol=1e-4, atol=1e-6)
    if len(batches) == 1:  # then the network at inference is the network on that batch: mean 0, variance 1 behind each norm
        normal = keras.Model(network.input, network.get_layer("two-bn").output).predict(scale(_IMAGES), verbose=0)
        np.testing.assert_allclose(normal.mean(axis=(0, 1, 2)), 0, atol=1e-4)
        np.testing.assert_allclose(normal.std(axis=(0, 1, 2)), 1, atol=0.05)  # but for the norm's epsilon


def test_the_average_is_validated_and_left_with_its_own_statistics(trial: Any) -> None:
    run = trial("train.ema=0.95", "train.epochs=3", "train.learning_rate=0.02")
    network = run.train()
    validation = run.dataset.validation
    right = (network.predict(scale(validation.x), verbose=0).argmax(axis=1) == validation.y).mean()
    assert run.history[-1]["val_accuracy"] == pytest.approx(right)
    statistics = [_array(variable) for variable in network.non_trainable_variables if "moving" in variable.path]
    measure_norms(network, run.dataset.train.x, run.recipe.train.batch_size)
    again = [_array(variable) for variable in network.non_trainable_variables if "moving" in variable.path]
    assert statistics
    for one, other in zip(statistics, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_validating_an_average_changes_nothing_that_is_trained(trial: Any) -> None:
    """The checkpoint has, to the bit, the weights and statistics of a training without an average."""
    averaged, plain = trial("train.ema=0.9", "train.epochs=2", folder="averaged"), trial("train.epochs=2", folder="plain")
    averaged.train()
    network = plain.train()
    with np.load(averaged.files.checkpoints / "train-0002.npz") as stored:
        arrays = [stored[f"arr_{index}"] for index in range(len(stored.files))]
    for variable in network.variables:
        value = keras.ops.convert_to_numpy(variable)
        assert any(np.array_equal(value, array) for array in arrays), variable.path


def test_stochastic_weight_averaging_is_the_mean_over_epochs_also_when_resumed(trial: Any) -> None:
    """Of six epochs the last three: what is deployed is the mean of the weights in their checkpoints."""
    overrides = ("train.swa=0.5", "train.epochs=6", "train.schedule=constant")
    ends: list[list[np.ndarray]] = []

    def keep(_label: str, done: int, _total: int) -> None:
        if done % 6 == 0 and len(ends) < done // 6:
            ends.append([_array(variable) for variable in run.network.trainable_variables])

    run = trial(*overrides, folder="whole")
    network = run.train(progress=keep)
    assert len(ends) == 6
    expected = [np.mean(weights, axis=0) for weights in zip(*ends[3:], strict=True)]
    for variable, mean in zip(network.trainable_variables, expected, strict=True):
        np.testing.assert_allclose(_array(variable), mean, atol=1e-5, err_msg=variable.path)
    right = (network.predict(scale(run.dataset.validation.x), verbose=0).argmax(axis=1) == run.dataset.validation.y).mean()
    assert run.history[-1]["val_accuracy"] == pytest.approx(right)

    def stop(_label: str, done: int, _total: int) -> None:
        if done == 27:  # in the fifth epoch: the average is of one
            raise KeyboardInterrupt

    broken = trial(*overrides, folder="broken")
    with pytest.raises(KeyboardInterrupt):
        broken.train(progress=stop)
    resumed = broken.train()
    for one, other in zip(resumed.variables, network.variables, strict=True):
        np.testing.assert_array_equal(_array(one), _array(other), err_msg=one.path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"ema": 0.9}, "Expected train.ema or train.swa, not both"),
        ({"watch": {"perturbation": {"kind": "fgsm", "epsilon": 0.1}}}, "Expected train.swa without"),
    ],
)
def test_what_stochastic_weight_averaging_does_not_go_with(settings: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Train.model_validate({"epochs": 4, "swa": 0.5, **settings})
