"""The objectives against their formulas in NumPy."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust.recipe.objectives import LABELS, Adversarial, CrossEntropy, Distillation
from tinyrobust.recipe.perturbation import Fgsm
from tinyrobust.training.objectives import Batch, Supplies, build_objectives

_RANDOM = np.random.default_rng(0)
_LOGITS = _RANDOM.normal(scale=4, size=(32, 10)).astype(np.float32)
_LABELS = _RANDOM.integers(0, 10, 32)
_IMAGES = _RANDOM.uniform(size=(32, 6)).astype(np.float32)
_FGSM = Adversarial(kind="adversarial", perturbation=Fgsm(kind="fgsm", epsilon=0.1))


def _batch() -> Batch:
    logits = keras.ops.convert_to_tensor(_LOGITS)
    return Batch(inputs=_IMAGES, labels=_LABELS, logits=logits, network=None, training=True, features=_IMAGES)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("temperature", [1.0, 5.0, 50.0])
def test_cross_entropy(objective: Any, smoothing: float, temperature: float) -> None:
    targets = np.eye(10)[_LABELS] * (1 - smoothing) + smoothing / 10
    expected = -(targets * _log_softmax(_LOGITS / temperature)).sum(axis=1).mean()
    built = objective("cross-entropy", temperature=temperature, label_smoothing=smoothing)
    assert float(built(_batch())) == pytest.approx(expected, rel=1e-5)


def test_plain_cross_entropy_is_that_of_keras(objective: Any) -> None:
    keras_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(_LABELS, _LOGITS)
    assert float(objective("cross-entropy")(_batch())) == pytest.approx(float(keras_loss), rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_distillation(objective: Any, temperature: float) -> None:
    keras.utils.set_random_seed(0)
    teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dropout(0.5), keras.layers.Dense(10)])
    soft = np.exp(_log_softmax(teacher.predict(_IMAGES, verbose=0) / temperature))
    expected = -(soft * _log_softmax(_LOGITS / temperature)).sum(axis=1).mean()
    built = objective("distillation", temperature=temperature, teacher=teacher)
    batch = replace(_batch(), teacher_logits=teacher(_IMAGES))
    assert float(built(batch)) == pytest.approx(expected, rel=1e-5)
    assert not teacher.trainable


def test_distillation_needs_a_teacher(objective: Any) -> None:
    with pytest.raises(ValueError, match="Expected a teacher"):
        objective("distillation", temperature=2.0)


def test_names_are_keys_of_the_history() -> None:
    """A second one of a kind has a name of its own, and draws of its own."""
    tables = [_FGSM, *LABELS, _FGSM.model_copy(update={"weight": 2.0}), CrossEntropy(kind="cross-entropy", temperature=2.0)]
    objectives = build_objectives(tables, Supplies(seed=5))
    assert [one.name for one in objectives] == ["adversarial", "cross_entropy", "adversarial_2", "cross_entropy_2"]
    assert [one.weight for one in objectives] == [1.0, 1.0, 2.0, 1.0]
    states = [np.array(one.seed_generator.state) for one in objectives if one.seed_generator]
    assert [int(state[0]) for state in states] == [5, 7]


def test_what_they_need() -> None:
    assert LABELS[0].needs == frozenset()
    assert Distillation(kind="distillation", temperature=2).needs == {"teacher", "features"}
    assert _FGSM.needs == {"input-gradient"}
