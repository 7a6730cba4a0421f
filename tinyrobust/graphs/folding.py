"""Batch norm at inference is a scale and a shift per channel: part of the weight layer before it, or a layer of its own."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.graphs.topology import readers, uses, writer

WEIGHT_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)

_TINY = 1e-12  # keeps a kernel of zeros finite

Doubles = npt.NDArray[np.float64]
Weights = list[npt.NDArray[np.float32]]


@runtime_checkable
class Quantized(Protocol):
    """A weight layer of ours: it computes with other weights than it holds."""

    use_bias: bool
    bias_quantizer_internal: object

    def quantized_weights(self) -> np.ndarray:
        """The kernel that the layer computes with at inference."""

    def deployed_weights(self) -> Tensor:
        """That kernel, with gradients to the one that the layer holds."""

    def unquantized(self, **changes: object) -> keras.Layer:
        """A new layer like this one without a weight quantizer; `changes` are other constructor arguments."""


def foldable(model: keras.Model) -> dict[str, str]:
    """Which batch norm each weight layer can swallow: names, weight layer -> batch norm.

    One is left out where its input is not the output of a linear weight layer that nothing else reads, where it normalises
    another axis than the channels, or where one of the two is used several times.

    Args:
        model: A functional or sequential model with one input and one output.
    """
    read_by, used = readers(model), uses(model)
    folds = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization) or used[layer.name] != 1:
            continue
        before = writer(layer.input)
        alone = read_by[before.name] == [layer.name] and used[before.name] == 1
        if alone and _is_linear(before) and over_channels(layer):
            folds[before.name] = layer.name
    return folds


def over_channels(norm: keras.layers.BatchNormalization) -> bool:
    """Whether a batch norm has a scale for every channel, the last axis of its input."""
    return norm.axis in (-1, len(norm.output.shape) - 1)


def folded(layer: keras.Layer, norm: keras.layers.BatchNormalization | None = None) -> Weights:
    """Kernel and bias of a weight layer with `norm` behind it, computed in double precision.

    Args:
        layer: A convolution or dense layer; where its weights are quantized, the kernel is what it computes with.
        norm: The batch norm; None: there is none.
    """
    kernel = layer.quantized_weights().astype(np.float64) if isinstance(layer, Quantized) else numbers(layer.kernel)
    bias = numbers(layer.bias) if layer.use_bias else np.zeros(layer.output.shape[-1])
    if norm is not None:
        kernel, bias = _normed(kernel, bias, norm, _per_channel(layer, kernel))
    return [kernel.astype(np.float32), bias.astype(np.float32)]


def deployed(layer: keras.Layer, norm: keras.layers.BatchNormalization | None = None) -> tuple[Tensor, Tensor]:
    """The same for training: in float32, with the kernel's gradients to the latent weights and to the norm's scale.

    The moving mean and variance are held. The variance is that of what the kernel puts out, and follows the square of the
    kernel's length. So what is held of it is its ratio to that square: a longer kernel alone does not change the folded one, as
    it would not in training, and no gradient makes kernels shrink or grow for nothing. Other influences of the kernel on the
    statistics are left out.

    Args:
        layer: See `folded`.
        norm: See `folded`.

    Returns:
        Kernel, and bias, which has no gradients.
    """
    kernel = layer.deployed_weights() if isinstance(layer, Quantized) else ops.convert_to_tensor(layer.kernel)
    bias = ops.convert_to_tensor(layer.bias) if layer.use_bias else ops.zeros(layer.output.shape[-1])
    if norm is not None:
        shape = _per_channel(layer, kernel)
        length = ops.sum(ops.square(kernel), axis=tuple(range(len(kernel.shape) - len(shape))))
        longer = ops.reshape((length + _TINY) / (ops.stop_gradient(length) + _TINY), (-1,))  # 1; its gradient is not 0
        scale = ops.rsqrt(norm.moving_variance * longer + norm.epsilon) * (norm.gamma if norm.scale else 1.0)
        kernel = kernel * ops.reshape(scale, shape)
        bias = (bias - norm.moving_mean) * scale + (norm.beta if norm.center else 0.0)
    return kernel, ops.stop_gradient(bias)


def affine(norm: keras.layers.BatchNormalization) -> Weights:
    """Kernel, [1, 1, channels, 1], and bias of the depthwise 1x1 convolution that computes what `norm` does at inference."""
    channels = norm.output.shape[-1]
    kernel, bias = _normed(np.ones((1, 1, channels, 1)), np.zeros(channels), norm, (channels, 1))
    return [kernel.astype(np.float32), bias.astype(np.float32)]


def numbers(variable: keras.Variable) -> Doubles:
    """The value of a Keras variable in double precision."""
    return np.asarray(keras.ops.convert_to_numpy(variable), dtype=np.float64)


def _per_channel(layer: keras.Layer, kernel: Tensor) -> tuple[int, ...]:
    """The shape of a value per output channel beside the kernel: its last axes.

    A depthwise kernel is [h, w, channels, multiplier]: its output channels run over the last two.
    """
    return tuple(kernel.shape[-2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1 :])


def _normed(
    kernel: Doubles, bias: Doubles, norm: keras.layers.BatchNormalization, shape: Sequence[int]
) -> tuple[Doubles, Doubles]:
    """Kernel and bias with `norm` behind them; `shape`: that of a value per output channel beside the kernel."""
    scale = (numbers(norm.gamma) if norm.scale else 1.0) / np.sqrt(numbers(norm.moving_variance) + norm.epsilon)
    bias = (bias - numbers(norm.moving_mean)) * scale + (numbers(norm.beta) if norm.center else 0.0)
    return kernel * scale.reshape(shape), bias


def _is_linear(layer: keras.Operation) -> bool:
    """Whether a layer is a convolution or dense layer and nothing more: of Keras itself, or of ours."""
    if not isinstance(layer, Quantized):
        # Subclasses may compute anything, and further variables belong to kernels that are not what they seem.
        if type(layer) not in WEIGHT_LAYERS or len(layer.weights) != 1 + layer.use_bias:
            return False
    elif layer.use_bias and layer.bias_quantizer_internal is not None:
        return False
    linear = getattr(layer, "activation", None) in (None, keras.activations.linear)
    return linear and getattr(layer, "data_format", None) in (None, "channels_last")
