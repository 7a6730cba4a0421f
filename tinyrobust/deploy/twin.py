"""The twin: the same network in plain Keras layers, batch norm folded and quantized weights written in.

Converting a QKeras graph directly leaves hundreds of operators; the twin converts to one operator a layer.
"""

import math
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.clone import clone, same
from tinyrobust.graphs.folding import WEIGHT_LAYERS, Quantized, affine, foldable, folded, over_channels
from tinyrobust.graphs.operators import SAME_GRID_LAYERS
from tinyrobust.graphs.topology import uses, writer
from tinyrobust.quantizers.activations import ActivationQuantizer
from tinyrobust.quantizers.stochastic import StochasticQuantizer

_BATCH = 100
_KEPT = {
    keras.layers.Conv2D: ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups"),
    keras.layers.DepthwiseConv2D: ("depth_multiplier", "kernel_size", "strides", "padding", "dilation_rate"),
    keras.layers.Dense: ("units",),
}
# Layers whose outputs are some of their inputs.
_SAME_VALUES = SAME_GRID_LAYERS - {keras.layers.AveragePooling2D}


def build_twin(model: keras.Model, batch_size: int | None = None, *, clip: bool = True) -> keras.Model:
    """The network in plain Keras layers, with the layers' names; batch norms vanish into the weight layer before them.

    A batch norm that has no linear weight layer of its own before it becomes a depthwise 1x1 convolution with its name. Average
    pooling of activations below 8 bits becomes a depthwise convolution, too, or a mean where its window is the whole map: its
    kernel would round to the grid of its inputs, which has few levels. Outputs equal those of
    `graphs.freeze.without_rounding(model)` to float precision.

    Args:
        model: A functional or sequential model of our layers and plain Keras layers, with one input.
        batch_size: A fixed batch, 1 for conversion: a dynamic one leaves SHAPE, STRIDED_SLICE and PACK in the file.
        clip: False leaves out PACT's learned upper bound. The converter has no operator for it: in the file, the largest
            int8 value of the trained grid is the bound.

    Raises:
        ModelFileError: A layer is used twice or nested, is of a kind that has no plain twin, is a batch norm over another axis
            than the last, or pools activations below 8 bits with padding.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelFileError(
            f"Expected a network with one input and one output. Received: {len(model.inputs)} and {len(model.outputs)}"
        )
    for name, count in uses(model).items():
        if count > 1:
            raise ModelFileError(f"Expected layers that are used once. Received: {name!r}, used several times.")
    folds = foldable(model)
    norms = set(folds.values())

    def replaced(layer: keras.Layer) -> list[keras.Layer]:
        if isinstance(layer, keras.layers.BatchNormalization):
            return [] if layer.name in norms else _affine(layer)
        return [_average(layer) if _averages_few_levels(layer) else _plain(layer, clip)]

    def weights(layer: keras.Layer) -> Sequence[np.ndarray]:
        if isinstance(layer, keras.layers.BatchNormalization):
            return affine(layer)
        if isinstance(layer, WEIGHT_LAYERS):
            return folded(layer, model.get_layer(folds[layer.name]) if layer.name in folds else None)
        if isinstance(layer, keras.layers.AveragePooling2D):
            shape = (*layer.pool_size, layer.input.shape[-1], 1)
            return [np.full(shape, 1 / math.prod(layer.pool_size)), np.zeros(shape[2])]
        own: list[np.ndarray] = layer.get_weights()
        return own

    source = model.inputs[0]
    inputs = keras.Input(source.shape[1:], batch_size=batch_size, dtype=source.dtype, name=writer(source).name)
    return clone(model, replaced, weights, inputs)


def source_layers(model: keras.Model) -> dict[str, str]:
    """The layer of `model` that puts out what each of its twin's layers puts out: names, twin -> model."""
    folds = foldable(model)
    norms = set(folds.values())
    return {layer.name: folds.get(layer.name, layer.name) for layer in model.layers if layer.name not in norms}


def _affine(norm: keras.layers.BatchNormalization) -> list[keras.Layer]:
    """What computes a batch norm's scale and shift of every channel.

    The kernel of one weight a channel is exact in int8: it is the largest of its channel. Inputs that are not images become
    images of one column for it and back, which the converter takes out again: one operator is left, also where a dense layer
    with the scales on its diagonal would have as many weights as features squared.
    """
    if not over_channels(norm):
        raise ModelFileError(
            f"Expected batch norm {norm.name!r} over the last axis, the channels. Received: axis={norm.axis}",
            hint="Only a convolution or dense layer has an int8 operator, and its scales are per output channel.",
        )
    layer = keras.layers.DepthwiseConv2D(1, name=norm.name)
    *places, channels = norm.output.shape[1:]
    if len(places) == 2:
        return [layer]
    column = keras.layers.Reshape((math.prod(places), 1, channels), name=f"{norm.name}-column")
    return [column, layer, keras.layers.Reshape((*places, channels), name=f"{norm.name}-back")]


def _averages_few_levels(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.AveragePooling2D) and _few_levels(layer.input)


def _few_levels(tensor: keras.KerasTensor) -> bool:
    """Whether a tensor has the grid of activations below 8 bits: their output, or that of layers that only pick values."""
    layer = writer(tensor)
    if isinstance(layer, ActivationQuantizer):
        return layer.rounding and layer.bits < 8
    return type(layer) in _SAME_VALUES and any(_few_levels(source) for source in keras.tree.flatten(layer.input))


def _average(layer: keras.layers.AveragePooling2D) -> keras.Layer:
    """What computes an average on a grid of its own: a mean, or a depthwise convolution, whose one weight is exact in int8."""
    height, width, _ = layer.input.shape[1:]
    if tuple(layer.pool_size) == (height, width):
        return keras.layers.GlobalAveragePooling2D(keepdims=True, name=layer.name)
    if layer.padding == "same" and any(
        size > stride or length % stride
        for size, stride, length in zip(layer.pool_size, layer.strides, (height, width), strict=True)
    ):
        raise ModelFileError(
            f"Expected average pooling {layer.name!r} of activations below 8 bits without padding. Received: "
            f"pool_size={layer.pool_size}, strides={layer.strides}, padding='same' on {height} x {width}",
            hint="Use padding='valid', or 8 bits for the activations before it.",
        )
    return keras.layers.DepthwiseConv2D(layer.pool_size, strides=layer.strides, padding=layer.padding, name=layer.name)


def _plain(layer: keras.Layer, clip: bool) -> keras.Layer:
    for kind, kept in _KEPT.items():
        if type(layer) is kind or (isinstance(layer, kind) and isinstance(layer, Quantized)):
            if layer.activation not in (None, keras.activations.linear):
                raise ModelFileError(
                    f"Expected layer {layer.name!r} without an activation of its own. Received: {layer.activation}",
                    hint="Give the activation a layer of its own, such as QuantizedReLU6.",
                )
            config = layer.get_config()
            return kind(**{key: config[key] for key in kept}, use_bias=True, name=layer.name)
    if isinstance(layer, ActivationQuantizer):
        return layer.plain(bounded=clip)
    if isinstance(layer, StochasticQuantizer):
        raise ModelFileError(
            f"Expected a network that is a function of its inputs. Received: {layer.name!r}, which draws at inference: there "
            "is no int8 file of such a network yet.",
            hint="Train without [[stochastic]] what is to be flashed.",
        )
    if isinstance(layer, keras.Model) or not type(layer).__module__.startswith("keras."):
        raise ModelFileError(
            f"Layer {layer.name!r} has no plain Keras twin. Received: {type(layer).__module__}.{type(layer).__name__}",
            hint="Build the network from tinyrobust's and Keras' own layers, without nested models.",
        )
    return same(layer)


def outputs(model: keras.Model, images: npt.NDArray[np.float32]) -> Iterator[list[npt.NDArray[np.float32]]]:
    """The outputs of `model` at inference, as a list for each batch of images: memory stays small, and nothing is compiled."""
    for start in range(0, len(images), _BATCH):
        values = keras.tree.flatten(model(images[start : start + _BATCH], training=False))
        yield [keras.ops.convert_to_numpy(value) for value in values]
