"""A differentiable twin of any `.tflite`: the file's own graph in Keras layers, weights dequantized.

White-box attacks on a file need gradients, and a stranger's file comes without the network it was made from. Here every
operator becomes a Keras layer, every quantized tensor is rounded to the file's grid with a straight-through gradient, and a
softmax at the end is dropped: what is left answers like the file, up to the rounding of its multipliers, and has a slope.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust.deploy import artefact as artefacts
from tinyrobust.deploy.artefact import Artefact, Operator, Tensor
from tinyrobust.deploy.matching import along_channels
from tinyrobust.errors import ModelFileError
from tinyrobust.quantizers.activations import OnGrid

# Fused and single activations: what they clip to.
_BOUNDS: dict[str, tuple[float, float]] = {
    "NONE": (-np.inf, np.inf),
    "RELU": (0.0, np.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
# They copy values that are on the grid already.
_COPIES = {"RESHAPE", "PAD", "MAX_POOL_2D", "CONCATENATION", "DEQUANTIZE"}


def rebuild(source: Path | Artefact) -> keras.Model:
    """The twin of a file.

    Args:
        source: A classifier with one input and one output, quantized in any way or float, batch 1.

    Returns:
        A model from inputs [n, ...] in the file's input units (real numbers) to logits [n, classes], its weights frozen. The
        logits are not rounded and not bounded. Layers are named after the index of the tensor that they compute.

    Raises:
        ModelFileError: The file is broken, or holds an operator that has no twin here; it is named.
    """
    file = source if isinstance(source, Artefact) else artefacts.read(source)
    if len(file.inputs) != 1 or len(file.outputs) != 1:
        raise ModelFileError(
            f"{file.path}: expected one input and one output. Received: {len(file.inputs)} and {len(file.outputs)}"
        )
    last = file.last_operator
    inner = [operator for operator in file.operators if operator is not last or last.name != "SOFTMAX"]
    unknown = sorted({operator.name for operator in inner} - set(_LAYERS))
    if unknown:
        raise ModelFileError(
            f"{file.path}: expected operators that have a differentiable twin ({', '.join(sorted(_LAYERS))}). "
            f"Received: {', '.join(unknown)}",
            hint="The file can be attacked as a black box only.",
        )
    try:
        return _Graph(file).model()
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:  # Keras refuses what TensorFlow Lite may run
        raise ModelFileError(
            f"{file.path} has no differentiable twin: {error}", hint="The file can be attacked as a black box only."
        ) from error


class _Graph:
    """The file's graph, operator by operator, as Keras tensors by index."""

    def __init__(self, file: Artefact) -> None:
        self.file = file
        self.constants = {tensor.index: dequantized(tensor) for tensor in file.tensors if tensor.data is not None}
        self.values: dict[int, Any] = {}

    def model(self) -> keras.Model:
        place, last = self.file.tensors[self.file.inputs[0]], self.file.last_operator
        if last is None:
            raise ValueError("Expected an operator that computes the output. Received: none")
        source = keras.Input(place.shape[1:], name="input")
        self.values[place.index] = self._on_grid(source, place, "NONE")
        for operator in self.file.operators:
            if operator.index < last.index or (operator is last and last.name != "SOFTMAX"):
                self._add(operator, last)
        logits = self.values[last.inputs[0] if last.name == "SOFTMAX" else last.outputs[0]]
        if last.name == "SOFTMAX" and last.options.get("beta", 1.0) != 1.0:
            logits = keras.layers.Rescaling(last.options["beta"], name="beta")(logits)
        if len(logits.shape) != 2:
            logits = keras.layers.Flatten(name="row")(logits)
        model = keras.Model(source, logits, name="rebuilt")
        model.trainable = False
        return model

    def activation(self, operator: Operator, place: int = 0) -> Any:
        """The Keras tensor that an operator reads."""
        if operator.inputs[place] not in self.values:
            raise ValueError(f"Expected {operator.name} to read activations. Received: constants as input {place}")
        return self.values[operator.inputs[place]]

    def constant(self, operator: Operator, place: int) -> npt.NDArray[Any]:
        """A constant that an operator reads, dequantized."""
        if operator.inputs[place] not in self.constants:
            raise ValueError(f"Expected constants as input {place} of {operator.name}. Received: activations")
        return self.constants[operator.inputs[place]]

    def bias(self, operator: Operator, channels: int) -> npt.NDArray[Any]:
        """The bias of an operator; zeros where it has none."""
        absent = len(operator.inputs) < 3 or operator.inputs[2] < 0
        return np.zeros(channels) if absent else self.constant(operator, 2)

    def shape(self, operator: Operator) -> tuple[int, ...]:
        """Of an operator's output, for one sample."""
        shape = self.file.tensors[operator.outputs[0]].shape
        if shape[:1] != (1,):
            raise ValueError(f"Expected {operator.name} to put out a batch of 1. Received: shape {shape}")
        return shape[1:]

    def _add(self, operator: Operator, last: Operator) -> None:
        if operator.inputs[0] in self.constants and operator.name in ("DEQUANTIZE", "QUANTIZE"):  # weights of another type
            self.constants[operator.outputs[0]] = self.constants[operator.inputs[0]]
            return
        output = _LAYERS[operator.name](self, operator)
        tensor = self.file.tensors[operator.outputs[0]]
        bounds = operator.name if operator.name in _BOUNDS else operator.options.get("fused_activation_function", "NONE")
        if bounds not in _BOUNDS:
            raise ValueError(f"Expected an activation of {', '.join(_BOUNDS)}. Received: {bounds}")
        # Logits stay between the levels: rounded ones tie.
        logits = bounds == "NONE" and tensor.index in (last.outputs if last.name != "SOFTMAX" else last.inputs)
        self.values[tensor.index] = output if operator.name in _COPIES or logits else self._on_grid(output, tensor, bounds)

    def _on_grid(self, value: Any, tensor: Tensor, bounds: str) -> Any:
        """`value` within the bounds and, in a quantized tensor, rounded to its grid."""
        low, high = _BOUNDS[bounds]
        if tensor.quantized and tensor.data is None:
            scale, zero, limits = float(tensor.scales[0]), int(tensor.zero_points[0]), np.iinfo(tensor.dtype)
            lowest = max(limits.min, low if np.isinf(low) else zero + round(low / scale))
            highest = min(limits.max, high if np.isinf(high) else zero + round(high / scale))
            return OnGrid(scale, (lowest - zero) * scale, (highest - zero) * scale, name=f"grid{tensor.index}")(value)
        if bounds == "NONE":
            return value
        clip = keras.layers.ReLU(None if np.isinf(high) else high - low, name=f"relu{tensor.index}")
        return clip(value) if low == 0 else keras.layers.Rescaling(1, low)(clip(keras.layers.Rescaling(1, -low)(value)))


def dequantized(tensor: Tensor) -> npt.NDArray[Any]:
    """The constant values of a tensor as real numbers, in double precision; those that are not quantized as they are."""
    values = np.asarray(tensor.data)
    if not tensor.quantized:
        return values
    scales, zeros = tensor.scales.astype(np.float64), tensor.zero_points
    if tensor.per_channel:
        scales, zeros = along_channels(scales, tensor), along_channels(zeros, tensor)
    return np.asarray((values - zeros) * scales)


def _weighted(layer: Any, value: Any, *weights: npt.NDArray[Any]) -> Any:
    """`layer` applied to `value`, with these weights."""
    output = layer(value)
    layer.set_weights([np.asarray(weight, dtype=np.float32) for weight in weights])
    return output


def _window(operator: Operator) -> dict[str, Any]:
    """Strides, padding and dilation as Keras calls them."""
    options = operator.options
    kept = {"strides": (options["stride_h"], options["stride_w"]), "padding": options["padding"].lower()}
    if "dilation_h_factor" in options:
        kept["dilation_rate"] = (options["dilation_h_factor"], options["dilation_w_factor"])
    return kept


def _conv(graph: _Graph, operator: Operator) -> Any:
    value, kernel = graph.activation(operator), graph.constant(operator, 1)
    filters, *size, depth = kernel.shape
    layer = keras.layers.Conv2D(
        filters, size, groups=value.shape[-1] // depth, name=f"conv{operator.outputs[0]}", **_window(operator)
    )
    return _weighted(layer, value, kernel.transpose(1, 2, 3, 0), graph.bias(operator, filters))


def _depthwise(graph: _Graph, operator: Operator) -> Any:
    value, kernel = graph.activation(operator), graph.constant(operator, 1)
    _, *size, filters = kernel.shape
    multiplier = filters // value.shape[-1]
    layer = keras.layers.DepthwiseConv2D(
        size, depth_multiplier=multiplier, name=f"depthwise{operator.outputs[0]}", **_window(operator)
    )
    return _weighted(layer, value, kernel.reshape(*size, -1, multiplier), graph.bias(operator, filters))


def _dense(graph: _Graph, operator: Operator) -> Any:
    value, kernel = graph.activation(operator), graph.constant(operator, 1)
    units, depth = kernel.shape
    if not operator.options.get("keep_num_dims") and len(value.shape) != 2:
        value = keras.layers.Reshape((depth,), name=f"flat{operator.outputs[0]}")(value)
    layer = keras.layers.Dense(units, name=f"dense{operator.outputs[0]}")
    return _weighted(layer, value, kernel.T, graph.bias(operator, units))


def _arithmetic(merge: Any, with_constant: Callable[[npt.NDArray[Any]], Any]) -> Callable[[_Graph, Operator], Any]:
    """Two activations merged, or one and a constant, in either order."""

    def build(graph: _Graph, operator: Operator) -> Any:
        constants = [place for place in (0, 1) if operator.inputs[place] in graph.constants]
        if not constants:
            return merge(name=f"{operator.name.lower()}{operator.outputs[0]}")(
                [graph.activation(operator, 0), graph.activation(operator, 1)]
            )
        values = np.asarray(graph.constant(operator, constants[0]), dtype=np.float32)
        return with_constant(values)(graph.activation(operator, 1 - constants[0]))

    return build


def _pool(kind: Any) -> Callable[[_Graph, Operator], Any]:
    def build(graph: _Graph, operator: Operator) -> Any:
        size = operator.options["filter_height"], operator.options["filter_width"]
        return kind(size, name=f"pool{operator.outputs[0]}", **_window(operator))(graph.activation(operator))

    return build


def _mean(graph: _Graph, operator: Operator) -> Any:
    axes = sorted(int(axis) % 4 for axis in graph.constant(operator, 1).reshape(-1))
    value, shape = graph.activation(operator), graph.shape(operator)
    if len(value.shape) != 4 or axes != [1, 2]:
        raise ValueError(f"Expected MEAN over height and width. Received: axes {axes} of shape {value.shape}")
    return keras.layers.GlobalAveragePooling2D(keepdims=len(shape) == 3, name=f"mean{operator.outputs[0]}")(value)


def _pad(graph: _Graph, operator: Operator) -> Any:
    widths = graph.constant(operator, 1).tolist()
    if len(widths) != 4 or any(widths[0] + widths[3]):
        raise ValueError(f"Expected PAD of height and width. Received: {widths}")
    return keras.layers.ZeroPadding2D(tuple(map(tuple, widths[1:3])), name=f"pad{operator.outputs[0]}")(
        graph.activation(operator)
    )


def _reshape(graph: _Graph, operator: Operator) -> Any:
    return keras.layers.Reshape(graph.shape(operator), name=f"reshape{operator.outputs[0]}")(graph.activation(operator))


def _concatenate(graph: _Graph, operator: Operator) -> Any:
    values = [graph.activation(operator, place) for place in range(len(operator.inputs))]
    return keras.layers.Concatenate(operator.options["axis"], name=f"concatenate{operator.outputs[0]}")(values)


# What builds the Keras layer of an operator. To support an operator, enter it here.
_LAYERS: dict[str, Callable[[_Graph, Operator], Any]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "ADD": _arithmetic(keras.layers.Add, lambda values: keras.layers.Rescaling(1.0, values)),
    "MUL": _arithmetic(keras.layers.Multiply, lambda values: keras.layers.Rescaling(values)),
    "AVERAGE_POOL_2D": _pool(keras.layers.AveragePooling2D),
    "MAX_POOL_2D": _pool(keras.layers.MaxPooling2D),
    "MEAN": _mean,
    "PAD": _pad,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenate,
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "QUANTIZE", "DEQUANTIZE"), _Graph.activation),
}
