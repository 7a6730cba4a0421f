"""Objectives of ensembles of draws: their formulas by hand; temperatures that fall, and bins that collapse."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from tinyrobust.errors import TrainingError
from tinyrobust.graphs.members import Answers
from tinyrobust.quantizers.stochastic import StochasticQuantizer
from tinyrobust.training.bins import StochasticBins, closest_bins
from tinyrobust.training.objectives import Batch
from tinyrobust.training.objectives.ensemble import log_diversity
from tinyrobust.training.remarks import remarks

# Two members, two inputs, three classes.
_P = np.array([[[0.5, 0.25, 0.25], [0.2, 0.6, 0.2]], [[0.7, 0.1, 0.2], [0.1, 0.8, 0.1]]])
_BITS = np.array([[[0.25, 0.5], [0.5, 0.5]], [[0.75, 0.5], [0.5, 0.5]]])
_LABELS = np.array([0, 1])
# H(0.5) - H(0.25) for the first feature of the first input, 0 for the other three: the mean of four.
_INFORMATION = (np.log(2) + 0.25 * np.log(0.25) + 0.75 * np.log(0.75)) / 4


def _answers() -> Answers:
    return Answers(ops.convert_to_tensor(np.log(_P) + 3.0, "float32"), ops.convert_to_tensor(_BITS, "float32"))


def _batch() -> Batch:
    return Batch(np.zeros((2, 1)), ops.convert_to_tensor(_LABELS), None, None, training=True)


def _cross_entropies() -> tuple[float, float]:
    """Of the mean prediction, and the mean of the members'."""
    mean = _P.mean(axis=0)
    return -float(np.log([mean[0, 0], mean[1, 1]]).mean()), -float(np.log(_P[:, [0, 1], _LABELS]).mean())


@pytest.mark.parametrize("beta", [0.0, 1.0, 8.0])
def test_the_ensemble_objective_is_that_of_the_formula(objective: Any, beta: float):
    together, alone = _cross_entropies()
    value = float(objective("ensemble", members=2, beta=beta).value(_batch(), _answers()))
    assert value == pytest.approx(together + alone - beta * _INFORMATION, rel=1e-4)


def test_labels_are_smoothed_in_both_terms(objective: Any):
    targets = 0.7 * np.eye(3)[_LABELS] + 0.1
    together = -(targets * np.log(_P.mean(axis=0))).sum(axis=1).mean()
    alone = -(targets * np.log(_P)).sum(axis=2).mean()
    value = float(objective("ensemble", members=2, beta=0.0, label_smoothing=0.3).value(_batch(), _answers()))
    assert value == pytest.approx(together + alone, rel=1e-4)


def test_adp_is_that_of_the_formula(objective: Any):
    """Non-maximal predictions: (1, 1) and (1, 2) over their lengths for the first input; (1, 1) twice for the second."""
    first = np.array([[1, 1], [1, 2]]) / np.sqrt([[2], [5]])
    determinants = [np.linalg.det(first @ first.T + 1e-4 * np.eye(2)), np.linalg.det(np.ones((2, 2)) + 1e-4 * np.eye(2))]
    found = np.asarray(log_diversity(ops.convert_to_tensor(_P, "float32"), ops.convert_to_tensor(_LABELS)))
    assert found[0] == pytest.approx(np.log(determinants[0]), rel=1e-3)
    assert found[0] == pytest.approx(np.log(0.1), rel=2e-3)  # sin^2 of the angle between them: 1 - 9 / 10
    assert found[1] == pytest.approx(np.log(determinants[1]), abs=0.01)  # 2e-4, in single precision
    mean = _P.mean(axis=0)
    entropy = -(mean * np.log(mean)).sum(axis=1).mean()
    value = float(objective("adp", members=2, alpha=2.0, beta=0.0).value(_batch(), _answers()))
    assert value == pytest.approx(2 * _cross_entropies()[1] - 2 * entropy, rel=1e-4)
    more = float(objective("adp", members=2, alpha=2.0, beta=0.5).value(_batch(), _answers()))
    assert more == pytest.approx(value - 0.5 * float(found.mean()), rel=1e-4)


def test_orthogonal_wrong_answers_are_as_diverse_as_can_be():
    p = np.array([[[0.8, 0.2, 0.0]], [[0.8, 0.0, 0.2]]], np.float32)
    assert float(log_diversity(ops.convert_to_tensor(p), ops.convert_to_tensor([0]))[0]) == pytest.approx(2e-4, rel=0.01)


class _Holder(keras.Model):
    """What a callback sees of a learner."""

    def __init__(self, layer: StochasticQuantizer) -> None:
        super().__init__()
        self.network = keras.Sequential([keras.Input((3,)), layer])


def _callback(layer: StochasticQuantizer, steps: int, epochs: int) -> StochasticBins:
    callback = StochasticBins(steps, epochs)
    callback.set_model(_Holder(layer))
    return callback


def test_the_temperature_falls_geometrically_to_its_end():
    layer = StochasticQuantizer(start=1.0, end=0.01)
    callback = _callback(layer, 3, 1 + 1)
    found = []
    for epoch in range(2):
        callback.on_epoch_begin(epoch)
        for batch in range(3):
            callback.on_train_batch_begin(batch)
            found.append(float(ops.convert_to_numpy(layer.temperature)))
    np.testing.assert_allclose(found, 0.01 ** (np.arange(6) / 5), rtol=1e-5)


def test_bins_that_collapse_are_told_of_and_then_stop_the_training():
    layer = StochasticQuantizer(3)
    callback = _callback(layer, 1, 1)
    logs: dict[str, float] = {}
    callback.on_epoch_end(0, logs)
    assert logs["closest_bins"] == pytest.approx(1)
    layer.bins.assign([0.0, 0.04, 2.0])  # distances 0.04 and 1.96, mean 1
    assert closest_bins(layer.bins) == pytest.approx(0.04)
    callback.on_epoch_end(1, logs)
    assert logs["closest_bins"] == pytest.approx(0.04)
    (said,) = remarks({"closest_bins": [1.0, 0.04]})
    assert "4 % of the mean distance apart" in said
    assert "spacing" in said
    assert remarks({"closest_bins": [0.04, 0.5]}) == []
    layer.bins.assign([0.0, 0.01, 2.0])
    with pytest.raises(TrainingError, match=r"bins of the stochastic quantizer .* have collapsed in epoch 3"):
        callback.on_epoch_end(2, logs)


def test_the_penalties_are_in_the_loss():
    """Bins 0, 1 and 3: 1/9 by hand (`tests/quantizers/test_stochastic.py`)."""
    layer = StochasticQuantizer(3, spacing=9.0)
    layer.build((None, 1))
    layer.bins.assign([0.0, 1.0, 3.0])
    assert float(sum(layer.losses)) == pytest.approx(1)
