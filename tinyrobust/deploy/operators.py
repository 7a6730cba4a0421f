"""The Keras layer of every operator of a `.tflite` that has one: what a differentiable twin is made of."""

import functools
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tinyrobust.deploy import slicing
from tinyrobust.deploy.artefact import Artefact, Operator, Options
from tinyrobust.deploy.tensors import Values

_PADDED = 2**20  # values that a window may see with its padding, whatever the size of the image


class Operands:
    """What operators read.

    Attributes:
        file: Whose operators.
        constants: Dequantized, by the index of their tensor.
        values: The Keras tensors that are there so far, by the index of theirs.
    """

    def __init__(self, file: Artefact, constants: dict[int, Values]) -> None:
        self.file = file
        self.constants = constants
        self.values: dict[int, keras.KerasTensor] = {}

    def activation(self, operator: Operator, place: int = 0) -> keras.KerasTensor:
        """The Keras tensor that an operator reads."""
        if operator.inputs[place] not in self.values:
            raise ValueError(f"Expected {operator.name} to read activations. Received: constants as input {place}")
        return self.values[operator.inputs[place]]

    def constant(self, operator: Operator, place: int) -> Values:
        """A constant that an operator reads, dequantized."""
        if operator.inputs[place] not in self.constants:
            raise ValueError(f"Expected constants as input {place} of {operator.name}. Received: activations")
        return self.constants[operator.inputs[place]]

    def bias(self, operator: Operator, channels: int) -> Values:
        """The bias of an operator; zeros where it has none."""
        absent = len(operator.inputs) < 3 or operator.inputs[2] < 0
        return np.zeros(channels) if absent else self.constant(operator, 2)

    def integers(self, operator: Operator, place: int) -> list[int]:
        """A constant that counts: a shape, sizes, axes."""
        return [int(value) for value in self.constant(operator, place).reshape(-1)]

    def shape(self, operator: Operator, part: int = 0) -> tuple[int, ...]:
        """Of an operator's output, for one sample."""
        shape = self.file.tensors[operator.outputs[part]].shape
        if shape[:1] != (1,):
            raise ValueError(f"Expected {operator.name} to put out a batch of 1. Received: shape {shape}")
        return shape[1:]


Build = Callable[[Operands, Operator], keras.KerasTensor | list[keras.KerasTensor]]
WithConstant = Callable[[keras.KerasTensor, Values, int], keras.KerasTensor]


def _weighted(layer: keras.Layer, value: keras.KerasTensor, *weights: Values) -> keras.KerasTensor:
    """`layer` applied to `value`, with these weights."""
    output = layer(value)
    layer.set_weights([np.asarray(weight, dtype=np.float32) for weight in weights])
    return output


def _window(operator: Operator, value: keras.KerasTensor, size: Sequence[int]) -> Options:
    """Strides, padding and dilation of a window of `size` over `value`, as Keras calls them."""
    options = operator.options
    kept = {"strides": (options["stride_h"], options["stride_w"]), "padding": options["padding"].lower()}
    factors = options.get("dilation_h_factor", 1), options.get("dilation_w_factor", 1)
    # A single tap has nothing to be apart from, and TensorFlow would still cut the image into so many pieces.
    dilation = tuple(step if taps > 1 else 1 for step, taps in zip(factors, size, strict=True))
    if "dilation_h_factor" in options:
        kept["dilation_rate"] = dilation
    _, *sides, channels = value.shape
    # TensorFlow lays out the padding too, once for every tap.
    padded = [side + (taps - 1) * step for side, taps, step in zip(sides, size, dilation, strict=True)]
    if channels * math.prod(padded) > max(_PADDED, 4 * channels * math.prod(sides)):
        raise ValueError(f"Expected a window that fits {value.shape}. Received: {size}, every {dilation} values")
    return kept


def _conv(graph: Operands, operator: Operator) -> keras.KerasTensor:
    value, kernel = graph.activation(operator), graph.constant(operator, 1)
    filters, *size, depth = kernel.shape
    groups, window = value.shape[-1] // depth, _window(operator, value, size)
    layer = keras.layers.Conv2D(filters, size, groups=groups, name=f"conv{operator.outputs[0]}", **window)
    return _weighted(layer, value, kernel.transpose(1, 2, 3, 0), graph.bias(operator, filters))


def _depthwise(graph: Operands, operator: Operator) -> keras.KerasTensor:
    value, kernel = graph.activation(operator), graph.constant(operator, 1)
    _, *size, filters = kernel.shape
    multiplier, window = filters // value.shape[-1], _window(operator, value, size)
    layer = keras.layers.DepthwiseConv2D(size, depth_multiplier=multiplier, name=f"depthwise{operator.outputs[0]}", **window)
    return _weighted(layer, value, kernel.reshape(*size, -1, multiplier), graph.bias(operator, filters))


def _dense(graph: Operands, operator: Operator) -> keras.KerasTensor:
    value, kernel = graph.activation(operator), graph.constant(operator, 1)
    units, depth = kernel.shape
    if not operator.options.get("keep_num_dims") and len(value.shape) != 2:
        value = keras.layers.Reshape((depth,), name=f"flat{operator.outputs[0]}")(value)
    if value.shape[-1] != depth:  # Keras would make weights for what is there
        raise ValueError(f"Expected {depth} values for FULLY_CONNECTED. Received: shape {value.shape}")
    layer = keras.layers.Dense(units, name=f"dense{operator.outputs[0]}")
    return _weighted(layer, value, kernel.T, graph.bias(operator, units))


def _arithmetic(merge: type[keras.Layer], with_constant: WithConstant) -> Build:
    """Two activations merged, or one and a constant, whose place among the inputs is given too."""

    def build(graph: Operands, operator: Operator) -> keras.KerasTensor:
        constants = [place for place in (0, 1) if operator.inputs[place] in graph.constants]
        if not constants:
            both = [graph.activation(operator, place) for place in (0, 1)]
            return merge(name=f"{operator.name.lower()}{operator.outputs[0]}")(both)
        values = np.asarray(graph.constant(operator, constants[0]), dtype=np.float32)
        value = graph.activation(operator, 1 - constants[0])
        shape = (1, *value.shape[1:])
        if np.broadcast_shapes(shape, values.shape) != shape:  # a `Rescaling` finds out when it is called
            raise ValueError(f"Expected constants of {operator.name} that fit {shape}. Received: shape {values.shape}")
        return with_constant(value, values, constants[0])

    return build


def _scaled(scale: Values | float, offset: Values | float = 0.0) -> keras.Layer:
    return keras.layers.Rescaling(scale, offset)


def _bounded(bound: Callable[[keras.KerasTensor, Values], keras.KerasTensor]) -> WithConstant:
    return lambda value, constant, _: bound(value, constant)


def _pool(kind: type[keras.Layer]) -> Build:
    def build(graph: Operands, operator: Operator) -> keras.KerasTensor:
        value, size = graph.activation(operator), (operator.options["filter_height"], operator.options["filter_width"])
        return kind(size, name=f"pool{operator.outputs[0]}", **_window(operator, value, size))(value)

    return build


def _reduced(flat: type[keras.Layer], rows: type[keras.Layer]) -> Build:
    """What is left of an image or a sequence when its places are reduced to one."""

    def build(graph: Operands, operator: Operator) -> keras.KerasTensor:
        value, shape = graph.activation(operator), graph.shape(operator)
        rank = len(value.shape)
        axes = sorted(axis % rank for axis in graph.integers(operator, 1))
        if (rank, axes) not in ((4, [1, 2]), (3, [1])):
            raise ValueError(f"Expected {operator.name} over all places. Received: axes {axes} of shape {value.shape}")
        kind = flat if rank == 4 else rows
        return kind(keepdims=len(shape) == rank - 1, name=f"{operator.name.lower()}{operator.outputs[0]}")(value)

    return build


def _transpose(graph: Operands, operator: Operator) -> keras.KerasTensor:
    order = graph.integers(operator, 1)
    if order[:1] != [0]:
        raise ValueError(f"Expected TRANSPOSE to leave the batch where it is. Received: {order}")
    return keras.layers.Permute(order[1:], name=f"transpose{operator.outputs[0]}")(graph.activation(operator))


def _prelu(graph: Operands, operator: Operator) -> keras.KerasTensor:
    value = graph.activation(operator)
    slopes = np.broadcast_to(graph.constant(operator, 1), (1, *value.shape[1:]))[0]
    return _weighted(keras.layers.PReLU(name=f"prelu{operator.outputs[0]}"), value, slopes)


def _leaky(graph: Operands, operator: Operator) -> keras.KerasTensor:
    slope = float(operator.options["alpha"])
    return keras.layers.LeakyReLU(slope, name=f"leaky{operator.outputs[0]}")(graph.activation(operator))


def _curve(activation: str) -> Build:
    def build(graph: Operands, operator: Operator) -> keras.KerasTensor:
        layer = keras.layers.Activation(activation, name=f"{activation}{operator.outputs[0]}")
        return layer(graph.activation(operator))

    return build


def _pad(graph: Operands, operator: Operator) -> keras.KerasTensor:
    widths = graph.constant(operator, 1).tolist()
    if len(widths) != 4 or any(widths[0] + widths[3]):
        raise ValueError(f"Expected {operator.name} of height and width. Received: {widths}")
    if operator.name == "PADV2":
        filling = float(graph.constant(operator, 2).reshape(()))
        return keras.ops.pad(graph.activation(operator), widths, "constant", filling)
    return keras.layers.ZeroPadding2D(tuple(map(tuple, widths[1:3])), name=f"pad{operator.outputs[0]}")(
        graph.activation(operator)
    )


def _reshape(graph: Operands, operator: Operator) -> keras.KerasTensor:
    return keras.layers.Reshape(graph.shape(operator), name=f"reshape{operator.outputs[0]}")(graph.activation(operator))


def _cut(graph: Operands, operator: Operator) -> list[keras.KerasTensor]:
    """Parts of a tensor, or its rows and columns in another order."""
    value = graph.activation(operator, slicing.SOURCE.get(operator.name, 0))
    parts, shape = [], (1, *value.shape[1:])
    for part, index in enumerate(operator.outputs):
        out, constants = graph.file.tensors[index].shape, functools.partial(graph.integers, operator)
        batch, *chosen = slicing.places(operator, shape, out, constants, part)
        if len(batch) != 1 or math.prod(map(len, chosen)) != math.prod(graph.shape(operator, part)):
            raise ValueError(f"Expected {operator.name} to make {out}. Received: places {[list(one)[:8] for one in chosen]}")
        cut = value
        for axis, places in enumerate(chosen, start=1):
            if list(places) != list(range(shape[axis])):
                cut = keras.ops.take(cut, list(places), axis)
        parts.append(keras.layers.Reshape(graph.shape(operator, part), name=f"part{index}")(cut))
    return parts


def _pack(graph: Operands, operator: Operator) -> keras.KerasTensor:
    values = [graph.activation(operator, place) for place in range(len(operator.inputs))]
    axis = slicing.axis_of(int(operator.options.get("axis", 0)), len(values[0].shape) + 1)
    if axis == 0:
        raise ValueError("Expected PACK behind the batch. Received: axis 0")
    return keras.ops.stack(values, axis)


def _concatenate(graph: Operands, operator: Operator) -> keras.KerasTensor:
    values = [graph.activation(operator, place) for place in range(len(operator.inputs))]
    return keras.layers.Concatenate(operator.options["axis"], name=f"concatenate{operator.outputs[0]}")(values)


# What builds the Keras layer of an operator. To support an operator, enter it here.
LAYERS: dict[str, Build] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "ADD": _arithmetic(keras.layers.Add, lambda value, constant, _: _scaled(1.0, constant)(value)),
    "SUB": _arithmetic(
        keras.layers.Subtract,
        lambda value, constant, place: _scaled(1.0, -constant)(value) if place else _scaled(-1.0, constant)(value),
    ),
    "MUL": _arithmetic(keras.layers.Multiply, lambda value, constant, _: _scaled(constant)(value)),
    "MINIMUM": _arithmetic(keras.layers.Minimum, _bounded(keras.ops.minimum)),
    "MAXIMUM": _arithmetic(keras.layers.Maximum, _bounded(keras.ops.maximum)),
    "AVERAGE_POOL_2D": _pool(keras.layers.AveragePooling2D),
    "MAX_POOL_2D": _pool(keras.layers.MaxPooling2D),
    "MEAN": _reduced(keras.layers.GlobalAveragePooling2D, keras.layers.GlobalAveragePooling1D),
    "REDUCE_MAX": _reduced(keras.layers.GlobalMaxPooling2D, keras.layers.GlobalMaxPooling1D),
    "TRANSPOSE": _transpose,
    "LEAKY_RELU": _leaky,
    "PRELU": _prelu,
    "HARD_SWISH": _curve("hard_silu"),
    "LOGISTIC": _curve("sigmoid"),
    "TANH": _curve("tanh"),
    "ELU": _curve("elu"),
    "GELU": _curve("gelu"),
    **dict.fromkeys(("PAD", "PADV2"), _pad),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _reshape),
    **dict.fromkeys(slicing.NAMES, _cut),
    "CONCATENATION": _concatenate,
    "PACK": _pack,
    **dict.fromkeys(
        ("RELU", "RELU6", "RELU_N1_TO_1", "QUANTIZE", "DEQUANTIZE"), lambda graph, operator: graph.activation(operator)
    ),
}
