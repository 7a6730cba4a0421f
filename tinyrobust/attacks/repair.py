"""Gradient repair: networks that name the same classes and whose gradients do not vanish.

A distilled net has logits so far apart that the cross-entropy saturates: in single precision its gradient is exactly zero, and
an attack that follows it stands still (Carlini & Wagner 2017, section V). Clipped and rounded activations have slopes of zero.
A transform changes the logits, not the class; `smoothed` changes the slopes, not the outputs.

One slope for all that is flat is not enough: of two steep rectifiers that are subtracted, as a step is made of, it cancels. So
restarts of an attack have other slopes (`Slopes`): those of the function averaged over noise, which do not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tinyrobust.graphs.clone import clone, same
from tinyrobust.quantizers.activations import ActivationQuantizer, OnGrid
from tinyrobust.quantizers.stochastic import StochasticQuantizer

# What is left of the slope where an activation is flat.
_LEAK = 0.1
# Secants that a slope averaged over noise is the mean of: half of their widths, as multiples of the noise.
_WIDTHS = (0.5, 1.0, 4.0, 16.0)
# The noise of restarts, as a multiple of the root mean square of what enters the layer; behind the last of them they come
# again, times a factor that is drawn for every channel, between a quarter and four times.
_STRENGTHS = (0.3, 0.1, 1.0, 0.03)
_DIFFERENT = 2 * len(_STRENGTHS)  # noises; then the first comes again


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


class Slopes:
    """Which slopes a smoothed network has in the backward pass; attacks change them from restart to restart.

    In the first run, 0, and every second after it an activation keeps a tenth of its slope where it is flat. Two slopes that
    are equal cancel where activations are subtracted, and a network can be built so that they do. In the runs between, the
    slope at t is the mean of the secants from t - w s to t + w s, w in 1/2, 1, 4, 16: that of the function on average, under
    uniform noise of these widths. Of a step, made of whatever, it has the right sign. s is the root mean square of what enters
    the layer, over all values of one sample, to the nearest power of two (what is subtracted in two layers has the same), times
    0.3, 0.1, 1 and 0.03, one after the other; then again, times a factor that is drawn for every channel: what masks at one
    strength does not at all.

    Attributes:
        averaged: Whether slopes are averaged: graphs are traced for these or for the others.
    """

    def __init__(self) -> None:
        self.averaged = False
        self._noise = tf.Variable(0, trainable=False, dtype=tf.int32)  # which one
        self._layers = 0

    def redraw(self, restart: int) -> None:
        """Sets the run, counted from 0."""
        self.averaged = restart % 2 == 1
        self._noise.assign(restart // 2 % _DIFFERENT)

    def leaking(self, function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
        """`function`, elementwise, with these slopes."""
        self._layers += 1
        number = self._layers

        def call(x: tf.Tensor) -> tf.Tensor:
            value = function(x)
            if not self.averaged:
                return with_value((1 - _LEAK) * value + _LEAK * x, value)
            strength = tf.constant(_strengths(number, int(x.shape[-1])))[self._noise]
            return _with_slope(x, value, lambda: _secants(function, x, strength))

        return call


def _with_slope(x: tf.Tensor, value: tf.Tensor, slope: Callable[[], tf.Tensor]) -> tf.Tensor:
    """`value`, whose slope in x is what `slope` gives; that is asked in the backward pass alone."""

    @tf.custom_gradient
    def call(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        del x
        return tf.identity(value), lambda upstream: upstream * slope()

    return call(x)


def smoothed(model: keras.Model, slopes: Slopes | None = None) -> keras.Model:
    """The same network with slopes that are nowhere zero, of rectifiers, clips and curves that saturate.

    Quantizers that draw have a slope of 1.

    The outputs are equal bit for bit; only the backward pass differs (smoother slopes in the backward pass alone strengthen
    attacks: Xie et al. 2020, arXiv 2006.14536, section 3).

    Args:
        model: Of plain Keras layers and ours, with frozen weights; activations as layers or as the activation of a layer.
        slopes: Which they are; when absent those of a first run.
    """
    slopes = slopes or Slopes()

    def replaced(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
        copy = same(layer)
        if isinstance(layer, StochasticQuantizer):
            return [layer.opened()]
        if isinstance(layer, keras.layers.ReLU | ActivationQuantizer | OnGrid):
            return [_Smoothed(copy, slopes, name=layer.name)]
        if getattr(layer, "activation", None) in _FLAT:
            copy.activation = slopes.leaking(layer.activation)
        return [copy]

    return clone(model, replaced)


_FLAT = (
    keras.activations.relu,
    keras.activations.relu6,
    keras.activations.tanh,
    keras.activations.sigmoid,
    keras.activations.hard_sigmoid,
    keras.activations.hard_silu,
)


class _Smoothed(keras.layers.Layer):
    """The outputs of an activation layer, with other slopes."""

    def __init__(self, layer: keras.layers.Layer, slopes: Slopes, name: str) -> None:
        super().__init__(name=name)
        self.layer = layer
        self._leaking = slopes.leaking(layer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.layer.build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self._leaking(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def _strengths(number: int, channels: int) -> npt.NDArray[np.float32]:
    """Every noise in every channel of the layer of that number, [noises, channels], as a multiple of what enters it."""
    factor = np.ones((_DIFFERENT, channels))
    drawn = len(_STRENGTHS)
    factor[drawn:] = 4 ** np.random.default_rng(number).uniform(-1, 1, (_DIFFERENT - drawn, channels))
    strengths: npt.NDArray[np.float32] = (np.resize(_STRENGTHS, (_DIFFERENT, 1)) * factor).astype(np.float32)
    return strengths


def _secants(function: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """The mean of secants of `function` around x [n, ...]; see `Slopes`."""
    size = tf.sqrt(tf.reduce_mean(tf.square(x), list(range(1, x.shape.rank)), keepdims=True))
    noise = 2.0 ** tf.round(tf.math.log(tf.maximum(size, 1e-6)) / tf.math.log(2.0)) * strength
    widths = tf.concat([width * noise for width in _WIDTHS], axis=0)
    around = tf.tile(x, [len(_WIDTHS), *[1] * (x.shape.rank - 1)])
    slopes = (function(around + widths) - function(around - widths)) / (2 * widths)
    return tf.reduce_mean(tf.reshape(slopes, tf.concat([[len(_WIDTHS)], tf.shape(x)], axis=0)), axis=0)
