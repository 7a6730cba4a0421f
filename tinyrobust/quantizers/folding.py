"""Batch norm folded into the weight layer before it: one layer computes what two did.

The graph of a network is read here too: who writes a tensor, and who reads it.
"""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

WEIGHT_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)

Doubles = npt.NDArray[np.float64]


def foldable(model: keras.Model) -> dict[str, str]:
    """Which batch norm each weight layer can swallow: names, weight layer -> batch norm.

    One is left out where its input is not the output of a linear weight layer that nothing else reads, where it normalises
    another axis than the channels, or where one of the two is used several times.

    Args:
        model: A functional or sequential model with one input and one output.
    """
    read_by, uses = readers(model), _uses(model)
    folds = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization) or uses[layer.name] != 1:
            continue
        before = writer(layer.input)
        alone = read_by.get(before.name) == [layer.name] and uses[before.name] == 1
        if alone and _is_linear(before) and layer.axis in (-1, len(layer.output.shape) - 1):
            folds[before.name] = layer.name
    return folds


def folded(layer: Any, norm: Any = None) -> list[npt.NDArray[np.float32]]:
    """Kernel and bias of a weight layer with `norm` behind it, computed in double precision.

    Args:
        layer: A convolution or dense layer; where its weights are quantized, the kernel is what it computes with.
        norm: The batch norm; None: there is none.
    """
    quantized = hasattr(layer, "quantized_weights")
    kernel = layer.quantized_weights().astype(np.float64) if quantized else numbers(layer.kernel)
    bias = numbers(layer.bias) if layer.use_bias else np.zeros(layer.output.shape[-1])
    if norm is not None:
        scale = (numbers(norm.gamma) if norm.scale else 1.0) / np.sqrt(numbers(norm.moving_variance) + norm.epsilon)
        bias = (bias - numbers(norm.moving_mean)) * scale + (numbers(norm.beta) if norm.center else 0.0)
        # A depthwise kernel is [h, w, channels, multiplier]: its output channels run over the last two axes.
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        kernel = kernel * (scale.reshape(kernel.shape[-2:]) if depthwise else scale)
    return [kernel.astype(np.float32), bias.astype(np.float32)]


def writer(tensor: Any) -> Any:
    """The layer that puts out a symbolic tensor."""
    return tensor._keras_history.operation


def readers(model: keras.Model) -> dict[str, list[str]]:
    """The names of the layers that read each layer's output; "the output" where the model puts it out."""
    read_by: dict[str, list[str]] = {layer.name: [] for layer in model.layers}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            for tensor in keras.tree.flatten(layer.input):
                read_by.setdefault(writer(tensor).name, []).append(layer.name)
    for tensor in model.outputs:
        read_by.setdefault(writer(tensor).name, []).append("the output")
    return read_by


def numbers(variable: Any) -> Doubles:
    """The value of a Keras variable in double precision."""
    return np.asarray(keras.ops.convert_to_numpy(variable), dtype=np.float64)


def _uses(model: keras.Model) -> dict[str, int]:
    """How often each layer is called in the graph."""
    graph = keras.Model(model.inputs, model.outputs)
    uses: dict[str, int] = {}
    for nodes in graph._nodes_by_depth.values():
        for node in nodes:
            uses[node.operation.name] = uses.get(node.operation.name, 0) + 1
    return uses


def _is_linear(layer: Any) -> bool:
    """Whether a layer is a convolution or dense layer and nothing more: of Keras itself, or of ours."""
    if not hasattr(layer, "quantized_weights"):
        # Subclasses may compute anything, and further variables belong to kernels that are not what they seem.
        if type(layer) not in WEIGHT_LAYERS or len(layer.weights) != 1 + layer.use_bias:
            return False
    elif layer.use_bias and layer.bias_quantizer_internal is not None:
        return False
    linear = layer.activation in (None, keras.activations.linear)
    return linear and getattr(layer, "data_format", None) in (None, "channels_last")
