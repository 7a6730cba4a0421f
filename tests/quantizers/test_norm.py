"""The fused batch norm is Keras' batch norm."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.quantizers.norm import FusedBatchNormalization

_KINDS = (keras.layers.BatchNormalization, FusedBatchNormalization)


def _trained(kind: type[keras.Layer], x: np.ndarray) -> tuple[keras.Layer, list[np.ndarray]]:
    """The layer after two steps, and all that a step computes: outputs and gradients."""
    layer = kind(momentum=0.9)
    layer.build(x.shape)
    layer.gamma.assign(np.linspace(0.5, 2, x.shape[-1]))
    found: list[Any] = []
    for inputs in (tf.constant(x), tf.constant(2 * x + 1)):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = layer(inputs, training=True)
            loss = tf.reduce_sum(y**3)
        found += [y, *tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])]
    return layer, [np.asarray(value) for value in found]


@pytest.mark.parametrize("shape", [(8, 5, 3, 6), (2, 3, 2, 4), (16, 6)])
def test_it_is_keras_own(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(3).normal(1, 2, shape).astype(np.float32)
    (plain, expected), (fused, found) = (_trained(kind, x) for kind in _KINDS)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(other).max())
    for one, other in zip(fused.weights, plain.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fused(x), plain(x), rtol=1e-4, atol=1e-5)


def test_it_is_stored_and_loaded(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4, 4, 2)), FusedBatchNormalization()])
    model.save(tmp_path / "model.keras")
    (layer,) = keras.models.load_model(tmp_path / "model.keras", compile=False).layers
    assert isinstance(layer, FusedBatchNormalization)
