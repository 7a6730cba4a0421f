"""The objectives against their formulas in NumPy."""

import keras
import numpy as np
import pytest

from tinyrobust.training.objectives import Batch, CrossEntropy, Distillation

_RANDOM = np.random.default_rng(0)
_LOGITS = _RANDOM.normal(scale=4, size=(32, 10)).astype(np.float32)
_LABELS = _RANDOM.integers(0, 10, 32)
_IMAGES = _RANDOM.uniform(size=(32, 6)).astype(np.float32)


def _batch() -> Batch:
    return Batch(inputs=_IMAGES, labels=_LABELS, logits=keras.ops.convert_to_tensor(_LOGITS), network=None, training=True)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("temperature", [1.0, 5.0, 50.0])
def test_cross_entropy(smoothing, temperature):
    targets = np.eye(10)[_LABELS] * (1 - smoothing) + smoothing / 10
    expected = -(targets * _log_softmax(_LOGITS / temperature)).sum(axis=1).mean()
    assert float(CrossEntropy(smoothing, temperature)(_batch())) == pytest.approx(expected, rel=1e-5)


def test_plain_cross_entropy_is_that_of_keras():
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(_LABELS, _LOGITS)
    assert float(CrossEntropy()(_batch())) == pytest.approx(float(keras_loss), rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_distillation(temperature):
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(10)])
    soft = np.exp(_log_softmax(teacher.predict(_IMAGES, verbose=0) / temperature))
    expected = -(soft * _log_softmax(_LOGITS / temperature)).sum(axis=1).mean()
    assert float(Distillation(teacher, temperature)(_batch())) == pytest.approx(expected, rel=1e-5)
    assert not teacher.trainable


@pytest.mark.parametrize(("objective", "name"), [(CrossEntropy, "cross_entropy"), (Distillation, "distillation")])
def test_names_are_keys_of_the_history(objective, name):
    assert objective.name == name
