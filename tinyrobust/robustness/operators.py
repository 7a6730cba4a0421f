"""The layers of a network as operators in L2: how much each can lengthen a vector, and all of them together."""

import math
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from tinyrobust.graphs.folding import affine
from tinyrobust.graphs.topology import calls
from tinyrobust.quantizers.activations import ActivationQuantizer

_STEPS = 500
_TOLERANCE = 1e-5
_TINY = 1e-12
# The norm of what these do is 1, or at most 1.
_HARMLESS = (
    ActivationQuantizer,
    keras.layers.InputLayer,
    keras.layers.ReLU,
    keras.layers.Flatten,
    keras.layers.Reshape,
    keras.layers.ZeroPadding2D,
    keras.layers.Dropout,
)


def spectral_norm(layer: keras.Layer, seed: int = 0) -> float:
    """The largest singular value of a convolution or dense layer as a linear operator, without its bias.

    With stride and padding, on inputs of the size that the layer has: not the norm of its kernel as a matrix. By power
    iteration `x = A^T A x / |A^T A x|` (as Yoshida and Miyato 2017, arXiv 1705.10941, of the kernel as a matrix), where A^T is
    the gradient; it approaches the norm from below, and ends where a step gains less than a part in 100,000.

    Args:
        layer: A layer without an activation of its own, called in a graph.
        seed: Of the vector that the iteration starts from.
    """
    shape = (1, *layer.input.shape[1:])
    offset = layer(tf.zeros(shape))

    @tf.function
    def step(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            half = tf.nn.l2_loss(layer(x) - offset)
        onward = tape.gradient(half, x)
        return tf.sqrt(2 * half), onward / (tf.norm(onward) + _TINY)

    start = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    x, norm = tf.constant(start / np.linalg.norm(start)), 0.0
    for _ in range(_STEPS):
        before = norm
        value, x = step(x)
        norm = float(value)
        if norm - before <= _TOLERANCE * norm:
            break
    return norm


def lipschitz_bound(network: keras.Model, spectral_norms: Mapping[str, float]) -> float | None:
    """How much longer a change of the input can become at most on its way to the outputs; rounding is left out.

    Products along chains; sums where branches are added; roots of the sum of squares where they are concatenated.

    Args:
        network: A functional or sequential model with one input and one output.
        spectral_norms: Of the layers with weights, by name.

    Returns:
        The bound; None where an operation has none that is known here.
    """
    bounds: dict[int, float] = {id(network.input): 1.0}
    for operation, inputs, outputs in calls(network):
        if not inputs:
            continue
        before = [bounds[id(tensor)] for tensor in inputs]
        factor = spectral_norms[operation.name] if operation.name in spectral_norms else _factor(operation)
        if factor is None:
            return None
        together = sum(before) if isinstance(operation, keras.layers.Add) else math.hypot(*before)
        bounds.update({id(tensor): factor * together for tensor in outputs})
    return bounds[id(network.output)]


def _factor(operation: keras.Operation) -> float | None:
    """The norm of an operation without weights, or a bound of it."""
    if isinstance(operation, (*_HARMLESS, keras.layers.Add, keras.layers.Concatenate)):
        return 1.0
    if isinstance(operation, keras.layers.BatchNormalization):
        return float(np.abs(affine(operation)[0]).max())
    if isinstance(operation, keras.layers.GlobalAveragePooling2D):
        return 1 / math.sqrt(math.prod(operation.input.shape[1:-1]))
    if isinstance(operation, keras.layers.AveragePooling2D | keras.layers.MaxPooling2D):
        overlaps = zip(operation.pool_size, operation.strides, strict=True)
        most = math.prod(math.ceil(size / stride) for size, stride in overlaps)  # windows that read one value
        # The mean over a window is shorter than the window by the root of its size, but for windows that padding cuts.
        whole = isinstance(operation, keras.layers.AveragePooling2D) and operation.padding == "valid"
        return math.sqrt(most / math.prod(operation.pool_size) if whole else most)
    return None
