"""Every operator that computes without learned weights to its layer."""

import math
from collections.abc import Callable

import numpy as np

from tinyrobust.deploy.artefact import Tensor
from tinyrobust.deploy.cgen.fixedpoint import (
    Integers,
    divide_by_power,
    exp_on_negative,
    high_product,
    logistic,
    multiply,
    quantize_multiplier,
    tanh,
)
from tinyrobust.deploy.cgen.layers import Binary, Kind, Lookup, Mean, Pool, Softmax
from tinyrobust.deploy.cgen.operands import Operands, quantized, scale, zero

_NEGLIGIBLE = 2**11  # an exponential in Q0.31 that neither the sum (Q12.19, rounded) nor an output (at most a 256th) feels
_CODES = np.arange(-128, 128, dtype=np.int64)
_KINDS: dict[str, Kind] = {
    "ADD": "add",
    "SUB": "sub",
    "MUL": "mul",
    "MINIMUM": "minimum",
    "MAXIMUM": "maximum",
}


def pool(operands: Operands) -> Pool:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""
    source, output = operands.activation(0), operands.int8(operands.output)
    window = operands.window(source.shape, operands.option("filter_height", 0), operands.option("filter_width", 0))
    if window.source.channels != window.out.channels:
        operands.refuse("as many channels as before", window.out.channels)
    return Pool(window, operands.operator.name == "AVERAGE_POOL_2D", *operands.clamp(output))


def mean(operands: Operands) -> Mean:
    """MEAN over neighbouring axes."""
    source, output = operands.activation(0), operands.int8(operands.output)
    rank = len(source.shape)
    axes = sorted({operands.axis(axis, rank) for axis in operands.integers(1)})
    wide = [axis for axis in axes if source.shape[axis] > 1] or axes[:1]
    if any(source.shape[axis] > 1 and axis not in axes for axis in range(wide[0], wide[-1])):
        operands.refuse("a mean over neighbouring axes", f"axes {axes} of shape {list(source.shape)}")
    outer, inner = math.prod(source.shape[: wide[0]]), math.prod(source.shape[wide[-1] + 1 :])
    count = math.prod(source.shape[wide[0] : wide[-1] + 1])
    multiplier, shift = quantize_multiplier(scale(source) / scale(output))
    # TensorFlow Lite divides the multiplier, not the sum, and keeps as many bits as the shift allows.
    raised = min(count.bit_length() - 1, 31 + shift)
    return Mean(outer, count, inner, zero(source), (multiplier << raised) // count, shift - raised, zero(output))


def binary(operands: Operands) -> Binary:
    """ADD, SUB, MUL, MINIMUM, MAXIMUM; an input that is smaller than the output is repeated along leading dimensions."""
    a, b, output = operands.activation(0), operands.activation(1), operands.int8(operands.output)
    kind = _KINDS[operands.operator.name]
    reals = 0.0, 0.0, 0.0
    if kind in ("add", "sub"):
        twice = 2 * max(scale(a), scale(b))
        reals = scale(a) / twice, scale(b) / twice, twice / (2**20 * scale(output))
        if reals[2] >= 1:
            operands.refuse("an output scale that is not a millionth of the inputs'", scale(output))
    elif kind == "mul":
        reals = 0.0, 0.0, scale(a) * scale(b) / scale(output)
    return _binary(operands, kind, reals)


def prelu(operands: Operands) -> Binary:
    """PRELU: slopes of their own for negative values, one a channel or one a value."""
    a, slopes, output = operands.activation(0), operands.activation(1), operands.int8(operands.output)
    ratio = scale(a) / scale(output)
    return _binary(operands, "prelu", (ratio, 0.0, scale(a) * scale(slopes) / scale(output)))


def _binary(operands: Operands, kind: Kind, reals: tuple[float, float, float]) -> Binary:
    a, b, output = operands.activation(0), operands.activation(1), operands.output
    first, second, result = (quantize_multiplier(real) for real in reals)
    counts = output.count, _repeated(operands, a), _repeated(operands, b)
    return Binary(kind, counts, (-zero(a), -zero(b)), (first, second, result), zero(output), *operands.clamp(output))


def _repeated(operands: Operands, tensor: Tensor) -> int:
    """Bytes that repeat to fill the output: those of the tensor, or of the whole output where a constant is spread out."""
    shape, out = (1,) * (len(operands.output.shape) - len(tensor.shape)) + tensor.shape, operands.output.shape
    significant = next((i for i, size in enumerate(shape) if size != 1), len(shape))
    if len(shape) == len(out) and shape[significant:] == out[significant:]:
        return tensor.count
    if tensor.data is not None and len(shape) == len(out) and all(s in (1, o) for s, o in zip(shape, out, strict=True)):
        return operands.output.count
    return operands.refuse("inputs of one shape, or one that repeats along leading dimensions", f"{tensor.shape} in {out}")


def relu(operands: Operands) -> Lookup:
    """RELU with its own output scale."""
    source, output = operands.activation(0), operands.int8(operands.output)
    return Lookup(np.maximum(_rescaled(source, output), zero(output)), output.count)


def relu6(operands: Operands) -> Lookup:
    """RELU6: TensorFlow Lite Micro clamps the stored integers, whatever the output's scale."""
    source = operands.activation(0)
    six = max(-128, min(127, quantized(6.0, source)))
    return Lookup(np.clip(_CODES, zero(source), six), source.count)


def leaky_relu(operands: Operands) -> Lookup:
    """LEAKY_RELU: TensorFlow Lite computes both factors in float32."""
    source, output = operands.activation(0), operands.int8(operands.output)
    step, out = np.float32(scale(source)), np.float32(scale(output))
    with np.errstate(over="ignore"):
        slopes = step / out, step * np.float32(operands.option("alpha", 0.0)) / out
    if not all(np.isfinite(slopes)) or slopes[1] < 0:
        operands.refuse("slopes from 0 that float32 holds", slopes)
    centred = _CODES - zero(source)
    above, below = (multiply(centred, *quantize_multiplier(float(slope))) for slope in slopes)
    return Lookup(np.clip(np.where(centred >= 0, above, below) + zero(output), -128, 127), output.count)


def hard_swish(operands: Operands) -> Lookup:
    """HARD_SWISH, in the 16 bits that TensorFlow Lite's reference kernel computes in."""
    source, output = operands.activation(0), operands.int8(operands.output)
    fine = np.float32(1 / 128) * np.float32(scale(source))
    with np.errstate(over="ignore"):
        ratios = fine / np.float32(scale(output)), fine / np.float32(3 / 32768)
    if not all(np.isfinite(ratios)):
        operands.refuse("scales whose ratio float32 holds", ratios)
    (result, result_shift), (gate, gate_shift) = (_half(float(ratio)) for ratio in ratios)
    if result_shift > 0:
        operands.refuse("an output scale of at least a 128th of the input's", scale(output))
    values = (_CODES - zero(source)) * 128
    opened = _saturated16(values << max(gate_shift - 1, 0))
    opened = opened * gate + (1 << 14) >> 15
    opened = _saturated16(opened << 1) if gate_shift > 0 else divide_by_power(opened, max(-gate_shift, 0))
    opened = (opened + (1 << 15)) >> 1
    product = opened * _saturated16(values * result + (1 << 14) >> 15)
    halves = np.sign(product) * (np.abs(product) >> 15)  # C's division, towards zero
    return Lookup(np.clip(divide_by_power(halves, -result_shift) + zero(output), -128, 127), output.count)


def _half(real: float) -> tuple[int, int]:
    """A multiplier in 16 bits, and the shift."""
    multiplier, shift = quantize_multiplier(real)
    return min(multiplier + (1 << 15) >> 16, 2**15 - 1), shift


def _saturated16(values: Integers) -> Integers:
    return np.clip(values, -(2**15), 2**15 - 1)


def requantize(operands: Operands) -> Lookup:
    """QUANTIZE from int8 or uint8 to int8 or uint8."""
    source, output = operands.byte(operands.input(0)), operands.byte(operands.output)
    return Lookup(_rescaled(source, output), output.count)


def logistic_table(operands: Operands) -> Lookup:
    """LOGISTIC: to scale 1/256, zero point -128."""
    if zero(operands.int8(operands.output)) != -128:
        operands.refuse("an output with zero point -128", zero(operands.output))
    return _sigmoid(operands, lambda x: int(divide_by_power(np.asarray(logistic(x), np.int64), 23)) - 128)


def tanh_table(operands: Operands) -> Lookup:
    """TANH: to scale 1/128, zero point 0."""
    if zero(operands.int8(operands.output)) != 0:
        operands.refuse("an output with zero point 0", zero(operands.output))
    return _sigmoid(operands, lambda x: int(divide_by_power(np.asarray(tanh(x), np.int64), 24)))


def _sigmoid(operands: Operands, curve: Callable[[int], int]) -> Lookup:
    """A curve of inputs with four integer bits; -128 and 127 beyond."""
    source = operands.activation(0)
    multiplier, shift = quantize_multiplier(scale(source) * 2**27)
    radius = math.floor(15 * 2**27 / 2**shift) if shift < 64 else 0
    centred = _CODES - zero(source)
    inputs = multiply(centred, multiplier, shift)
    table = [
        -128 if c <= -radius else 127 if c >= radius else curve(int(x))
        for c, x in zip(centred.tolist(), inputs.tolist(), strict=True)
    ]
    return Lookup(np.clip(np.array(table, np.int64), -128, 127), source.count)


def softmax(operands: Operands) -> Softmax:
    """SOFTMAX over the last axis, to scale 1/256, zero point -128."""
    source, output = operands.activation(0), operands.int8(operands.output)
    if zero(output) != -128 or scale(output) != 1 / 256:
        operands.refuse("an output with scale 1/256 and zero point -128", f"scale {scale(output)}, zero point {zero(output)}")
    real = min(float(operands.option("beta", 1.0)) * scale(source) * 2**26, 2.0**31 - 1)
    if real <= 1:
        operands.refuse("an input scale times beta above 2^-26", scale(source))
    multiplier, shift = quantize_multiplier(real)
    reach = math.floor(31 * 2**26 / 2**shift)
    distances = range(min(reach, 255) + 1)
    table = [exp_on_negative(int(high_product(-d << shift, multiplier)), 5) for d in distances]
    while table[-1] < _NEGLIGIBLE:
        table.pop()
    width = source.shape[-1]
    return Softmax(np.array(table, np.int64), source.count // width, width)


def _rescaled(source: Tensor, output: Tensor) -> Integers:
    """For each byte, as int8 has it: the value on the output's grid, as int8 has its byte."""
    multiplier, shift = quantize_multiplier(scale(source) / scale(output))
    codes = _CODES % 256 if source.dtype == "uint8" else _CODES
    low, high = (0, 255) if output.dtype == "uint8" else (-128, 127)
    values = np.clip(multiply(codes - zero(source), multiplier, shift) + zero(output), low, high)
    return (values + 128) % 256 - 128
