"""Every evaluation target keeps the contract of `tinyrobust.attacks.target.Target`, on one small network."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.attacks.estimator import GraphClassifier
from tinyrobust.attacks.target import Target
from tinyrobust.robustness import targets


@keras.saving.register_keras_serializable("tests")
class Jitter(keras.layers.Layer):
    """Random whenever it is called."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs: Any) -> Any:
        return inputs + keras.random.normal(keras.ops.shape(inputs), stddev=0.1, seed=self.generator)


def _random(net: Any) -> keras.Model:
    image = keras.Input((8, 8, 1))
    return keras.Model(image, net.model(Jitter()(image)))


# From a `DigitsNet` to a target. A new target is entered here and tested by all that follows.
_TARGETS: dict[str, Callable[[Any], Any]] = {
    "BpdaTarget": lambda net: targets.BpdaTarget(targets.int8(net.tflite), net.model),
    "EnsembleTarget": lambda net: targets.EnsembleTarget([net.model, net.model]),
    "Int8Target": lambda net: targets.int8(net.tflite),
    "KerasTarget": lambda net: targets.KerasTarget(net.model),
    "StochasticTarget": lambda net: targets.StochasticTarget(_random(net), passes=3, seed=1),
}


@pytest.fixture(scope="module", params=_TARGETS)
def target(request: pytest.FixtureRequest, digits_net: Any) -> Target:
    made: Target = _TARGETS[request.param](digits_net)
    return made


@pytest.fixture(scope="module")
def images(digits_net: Any) -> np.ndarray:
    return digits_net.x[:24].astype(np.float32) / 255


@pytest.fixture(autouse=True)
def _forgotten(target: Target) -> None:
    target.forget()


def test_no_target_is_left_out() -> None:
    files = pkgutil.iter_modules(targets.__path__, f"{targets.__name__}.")
    modules = [importlib.import_module(file.name) for file in files]
    classes = {name for module in modules for name, value in vars(module).items() if isinstance(value, type)}
    assert {name for name in classes if name.endswith("Target")} - {"Target"} == set(_TARGETS)


def test_it_says_what_it_takes_and_gives(target: Target, images: np.ndarray) -> None:
    assert tuple(target.input_shape) == (8, 8, 1)
    assert target.nb_classes == 10
    assert [float(value) for value in target.clip_values] == [0.0, 1.0]
    low, high = target.input_range
    assert low < high
    scores = target.predict(images)
    assert (scores.shape, scores.dtype) == ((24, 10), np.float32)
    assert target.predict(images[:0]).shape == (0, 10)


def test_logits_agree_with_the_scores(target: Any, images: np.ndarray) -> None:
    scores = target.predict(images)
    target.forget()
    logits = np.asarray(target.logits(tf.constant(images) if isinstance(target, GraphClassifier) else images))
    np.testing.assert_allclose(logits, scores, atol=1e-4)  # the file of this network ends in logits too


def test_it_counts_what_goes_through_it(target: Any, images: np.ndarray) -> None:
    samples = 24 * getattr(target, "passes", 1)
    before = (target.queries, target.forward_passes, target.backward_passes)
    target.predict(images)
    assert (target.queries - before[0], target.forward_passes - before[1]) == (samples, samples)
    assert target.backward_passes == before[2]
    if isinstance(target, GraphClassifier):
        gradient = target.loss_gradient(images, np.arange(24) % 10)
        assert gradient.shape == images.shape
        assert np.abs(gradient).max() > 0
        assert target.backward_passes - before[2] == samples


def test_what_it_forgot_changes_nothing(target: Target, images: np.ndarray) -> None:
    first = target.predict(images)
    target.predict(images[::-1])
    target.forget()
    asked = target.queries
    np.testing.assert_array_equal(target.predict(images), first)
    assert target.queries > asked


def test_deterministic_is_what_answers_the_same_again(target: Target, images: np.ndarray) -> None:
    assert target.deterministic == np.array_equal(target.predict(images), target.predict(images))
