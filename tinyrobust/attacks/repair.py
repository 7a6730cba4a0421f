"""Gradient repair: networks that name the same classes and whose gradients do not vanish.

A distilled net has logits so far apart that the cross-entropy saturates: in single precision its gradient is exactly zero, and
an attack that follows it stands still (Carlini & Wagner 2017, section V). Clipped and rounded activations have slopes of zero.
A transform changes the logits, not the class; `smoothed` changes the slopes, not the outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from tinyrobust.graphs.clone import clone, same
from tinyrobust.quantizers.activations import ActivationQuantizer, OnGrid
from tinyrobust.quantizers.stochastic import StochasticQuantizer

# What is left of the slope where an activation is flat, and how soon it gets there, as a share of the activation's range.
_LEAK = 0.1


@dataclass(frozen=True)
class Temperature:
    """`logits / t`: what a net distilled at temperature t was trained with (Papernot et al. 2016)."""

    t: float

    def __call__(self, logits: tf.Tensor) -> tf.Tensor:
        """[n, classes] in, [n, classes] out."""
        return logits / self.t


@dataclass(frozen=True)
class UnitMargin:
    """Logits divided by their own margin, largest minus second largest, which gets no gradient: the margin becomes 1.

    The cross-entropy can then neither saturate nor be flat, whatever the scale of the logits: the same idea as the ratio of
    differences in the DLR loss (Croce & Hein 2020, eq. 6). Close to a decision boundary the divisor stays above a thousandth
    of the range of the logits.
    """

    def __call__(self, logits: tf.Tensor) -> tf.Tensor:
        """[n, classes] in, [n, classes] out."""
        top = tf.math.top_k(logits, 2).values
        spread = top[:, :1] - tf.reduce_min(logits, axis=1, keepdims=True)
        margin = tf.maximum(top[:, :1] - top[:, 1:], 1e-3 * spread)
        return logits / tf.stop_gradient(tf.maximum(margin, 1e-12))


@tf.custom_gradient
def with_value(differentiable: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None]]]:
    """`value`, bit for bit, with the gradient of `differentiable`: backward-pass approximation (Athalye et al. 2018, BPDA)."""
    del differentiable
    return tf.identity(value), lambda upstream: (upstream, None)


def smoothed(model: keras.Model) -> keras.Model:
    """The same network with slopes that are nowhere zero: rectifiers and clips keep a tenth of it where they are flat.

    Quantizers that draw have a slope of 1.

    The outputs are equal bit for bit; only the backward pass differs (smoother slopes in the backward pass alone strengthen
    attacks: Xie et al. 2020, arXiv 2006.14536, section 3).

    Args:
        model: Of plain Keras layers and ours, with frozen weights; rectifiers as layers or as the activation of a layer.
    """

    def replaced(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
        copy = same(layer)
        if isinstance(layer, StochasticQuantizer):
            return [layer.opened()]
        if isinstance(layer, keras.layers.ReLU | ActivationQuantizer | OnGrid):
            return [_Smoothed(copy, name=layer.name)]
        if getattr(layer, "activation", None) in (keras.activations.relu, keras.activations.relu6):
            copy.activation = _leaking(layer.activation)
        return [copy]

    return clone(model, replaced)


class _Smoothed(keras.layers.Layer):
    """The outputs of an activation layer, with leaking slopes."""

    def __init__(self, layer: keras.layers.Layer, name: str) -> None:
        super().__init__(name=name)
        self.layer = layer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.layer.build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _leaking(self.layer)(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def _leaking(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """`function`, elementwise, with the slope `(1 - leak) * its own + leak`."""

    def call(x: tf.Tensor) -> tf.Tensor:
        value = function(x)
        return with_value((1 - _LEAK) * value + _LEAK * x, value)

    return call
