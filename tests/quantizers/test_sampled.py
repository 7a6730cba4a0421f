"""Weights drawn one by one: frequencies against QKeras' formulas and against QKeras itself."""

import keras
import numpy as np
import pytest
import qkeras
from keras import ops

from tinyrobust.quantizers.sampled import StochasticBinary, StochasticTernaryQKeras

# Every column is a channel of the same nine weights: one call draws each of them so many times.
_TIMES = 4000
_CHANNEL = np.array([-1.1, -0.5, -0.31, -0.05, 0.0, 0.12, 0.28, 0.6, 0.9], np.float32)
_KERNEL = np.repeat(_CHANNEL[:, np.newaxis], _TIMES, axis=1)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _scale(kept: np.ndarray) -> float:
    return float(np.abs(_CHANNEL)[kept].mean())


def _probabilities(temperature: float) -> dict[int, np.ndarray]:
    """Of +a, 0 and -a, by `qkeras.stochastic_ternary`."""
    scale = 2 / 3 * np.abs(_CHANNEL).max()
    for _ in range(5):
        scale = _scale(np.abs(_CHANNEL) >= scale / 2)
    deviation = _CHANNEL.std()
    upper = _sigmoid(temperature * (_CHANNEL / deviation - scale / 2 / deviation))
    lower = _sigmoid(temperature * (_CHANNEL / deviation + scale / 2 / deviation))
    return {1: upper * lower, 0: upper * (1 - lower) + lower * (1 - upper), -1: (1 - upper) * (1 - lower)}


def _near(found: np.ndarray, expected: np.ndarray) -> None:
    """Shares of `_TIMES` draws, within five standard deviations."""
    assert (np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / _TIMES) + 1e-4).all(), (found, expected)


def _drawn(quantizer: StochasticBinary | StochasticTernaryQKeras) -> np.ndarray:
    quantizer.state = {"seed_state": keras.random.SeedGenerator(3)}
    quantizer.training = True
    return ops.convert_to_numpy(quantizer(_KERNEL))


@pytest.mark.parametrize("temperature", [1.0, 8.0])
def test_ternary_weights_are_as_frequent_as_qkeras_has_them(temperature):
    ours = _drawn(StochasticTernaryQKeras(temperature=temperature))
    theirs = qkeras.stochastic_ternary(alpha="auto", temperature=temperature)
    assert theirs.scale is None
    np.random.seed(0)  # noqa: NPY002 - what QKeras draws from, outside of graphs
    for drawn in (ours, ops.convert_to_numpy(theirs(ops.convert_to_tensor(_KERNEL), training=True))):
        for sign, expected in _probabilities(temperature).items():
            _near((np.sign(drawn) == sign).mean(axis=1), expected)
    assert len(np.unique(ours)) == 3


@pytest.mark.parametrize("temperature", [1.0, 6.0])
def test_binary_weights_are_as_frequent_as_qkeras_has_them(temperature):
    ours = _drawn(StochasticBinary(temperature=temperature))
    _near((ours > 0).mean(axis=1), _sigmoid(temperature * _CHANNEL / _CHANNEL.std()))
    np.testing.assert_allclose(np.abs(ours), np.abs(_CHANNEL).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(StochasticTernaryQKeras, qkeras.stochastic_ternary), (StochasticBinary, qkeras.stochastic_binary)],
)
def test_at_inference_they_are_qkeras(ours, theirs):
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 8)).astype(np.float32)
    np.testing.assert_allclose(ours()(kernel), theirs(alpha="auto")(ops.convert_to_tensor(kernel)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", [StochasticTernaryQKeras, StochasticBinary])
def test_every_step_draws_anew(make):
    quantizer = make(temperature=1.0)
    first = _drawn(quantizer)
    assert 0.1 < (ops.convert_to_numpy(quantizer(_KERNEL)) != first).mean() < 0.9


@pytest.mark.parametrize("make", [StochasticTernaryQKeras, StochasticBinary])
def test_a_layer_may_share_scale_and_deviation(make):
    """Two channels of which one is ten times the other: together the small one's signs are left to chance."""
    kernel = np.stack([_CHANNEL, 10 * _CHANNEL], axis=1)
    together, apart = (ops.convert_to_numpy(make(group=group)(kernel)) for group in ("layer", "channel"))
    np.testing.assert_allclose(apart[:, 1], 10 * apart[:, 0], rtol=1e-5)
    assert len(np.unique(np.abs(together[together != 0]))) == 1
    assert (make is StochasticBinary) == together[:, 0].all()
