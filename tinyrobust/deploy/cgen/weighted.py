"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED to `Conv`."""

import numpy as np

from tinyrobust.deploy.artefact import Tensor
from tinyrobust.deploy.cgen.fixedpoint import Integers, quantize_multiplier
from tinyrobust.deploy.cgen.layers import Conv, Shape, Window
from tinyrobust.deploy.cgen.operands import Operands, scale, zero


def conv2d(operands: Operands) -> Conv:
    """A convolution with groups."""
    source, weights = operands.activation(0), _weights(operands, 4)
    out_channels, height, width, depth = weights.shape
    window = operands.window(source.shape, height, width)
    groups = window.source.channels // depth
    if groups * depth != window.source.channels or out_channels != window.out.channels or out_channels % groups:
        operands.refuse("weights that fit the input and the output", f"{weights.shape} on {source.shape}")
    return _conv(operands, window, weights, _values(weights), groups=groups)


def depthwise(operands: Operands) -> Conv:
    """A depthwise convolution with any multiplier; weights [1, height, width, channels] become a row per channel.

    Over a single channel it is an ordinary convolution, whose kernels gather a window once for all outputs.
    """
    source, weights = operands.activation(0), _weights(operands, 4)
    _, height, width, channels = weights.shape
    window = operands.window(source.shape, height, width)
    if weights.shape[0] != 1 or channels != window.out.channels or channels % window.source.channels:
        operands.refuse("weights that fit the input and the output", f"{weights.shape} on {source.shape}")
    return _conv(operands, window, weights, np.moveaxis(_values(weights), 3, 0), depthwise=window.source.channels > 1)


def fully_connected(operands: Operands) -> Conv:
    """A fully connected layer as a pointwise convolution over a row of pixels, one for each row of the input."""
    source, weights = operands.activation(0), _weights(operands, 2)
    out_channels, depth = weights.shape
    rows = source.count // depth if depth else 0
    if rows * depth != source.count or operands.output.count != rows * out_channels or max(rows, *weights.shape) >= 2**16:
        operands.refuse("weights that fit the input and the output", f"{weights.shape} on {source.shape}")
    window = Window(Shape(1, rows, depth), Shape(1, rows, out_channels), 1, 1, 1, 1, 1, 1, 0, 0)
    return _conv(operands, window, weights, _values(weights))


def _conv(
    operands: Operands, window: Window, weights: Tensor, rows: np.ndarray, *, depthwise: bool = False, groups: int = 1
) -> Conv:
    source, output = operands.activation(0), operands.int8(operands.output)
    channels = window.out.channels
    multipliers, shifts = _multipliers(operands, source, weights, output, channels)
    low, high = operands.clamp(output)
    return Conv(
        window=window,
        weights=np.ascontiguousarray(rows).reshape(channels, -1),
        bias=_bias(operands, channels),
        multipliers=multipliers,
        shifts=shifts,
        depthwise=depthwise,
        groups=groups,
        source_zero=zero(source),
        zero=zero(output),
        low=low,
        high=high,
    )


def _multipliers(
    operands: Operands, source: Tensor, weights: Tensor, output: Tensor, channels: int
) -> tuple[Integers, Integers]:
    """Input scale * weight scale / output scale per channel; a fully connected layer with one scale multiplies in float32."""
    scales = np.broadcast_to(weights.scales, channels).astype(np.float64)
    products = scale(source) * scales
    if operands.operator.name == "FULLY_CONNECTED" and not weights.per_channel:
        products = (source.scales[0] * np.broadcast_to(weights.scales, channels)).astype(np.float64)
    pairs = [quantize_multiplier(float(product) / scale(output)) for product in products]
    return np.array([m for m, _ in pairs], np.int64), np.array([s for _, s in pairs], np.int64)


def _weights(operands: Operands, rank: int) -> Tensor:
    tensor = operands.input(1)
    operands.constant(1)
    axis = 3 if operands.operator.name == "DEPTHWISE_CONV_2D" else 0
    if tensor.dtype not in ("int8", "int4") or len(tensor.shape) != rank or not tensor.count or not tensor.quantized:
        operands.refuse(f"quantized int8 or int4 weights of {rank} dimensions", f"{tensor.dtype} of shape {list(tensor.shape)}")
    if tensor.zero_points.any():
        operands.refuse("weights with zero point 0", f"zero point {int(tensor.zero_points[tensor.zero_points != 0][0])}")
    if tensor.per_channel and tensor.quantized_dimension != axis:
        operands.refuse(f"weight scales along axis {axis}", f"axis {tensor.quantized_dimension}")
    return tensor


def _values(weights: Tensor) -> np.ndarray:
    return np.asarray(weights.data, np.int8)


def _bias(operands: Operands, channels: int) -> Integers:
    tensor = operands.given(2)
    if tensor is None:
        return np.zeros(channels, np.int64)
    values = operands.constant(2)
    if tensor.dtype != "int32" or tensor.count != channels:
        operands.refuse(f"an int32 bias of {channels} values", f"{tensor.dtype} of shape {list(tensor.shape)}")
    return values.reshape(-1).astype(np.int64)
