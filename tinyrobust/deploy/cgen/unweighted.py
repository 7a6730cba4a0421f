"""Every operator without learned weights to its layer."""

import math

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
)
from tinyrobust.deploy.cgen.layers import Binary, Concatenation, Lookup, Mean, Pad, Pool, Softmax
from tinyrobust.deploy.cgen.operands import Operands, quantized, scale, zero

_NEGLIGIBLE = 2**11  # an exponential in Q0.31 that neither the sum (Q12.19, rounded) nor an output (at most a 256th) feels
_CODES = np.arange(-128, 128, dtype=np.int64)


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
    axes = sorted({int(axis) % rank for axis in operands.constant(1).reshape(-1)})
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
    """ADD and MUL; an input that is smaller than the output is repeated along leading dimensions."""
    a, b, output = operands.activation(0), operands.activation(1), operands.int8(operands.output)
    add = operands.operator.name == "ADD"
    if add:
        twice = 2 * max(scale(a), scale(b))
        reals = scale(a) / twice, scale(b) / twice, twice / (2**20 * scale(output))
        if reals[2] >= 1:
            operands.refuse("an output scale that is not a millionth of the inputs'", scale(output))
    else:
        reals = 0.0, 0.0, scale(a) * scale(b) / scale(output)
    first, second, result = (quantize_multiplier(real) for real in reals)
    counts = output.count, _repeated(operands, a), _repeated(operands, b)
    low, high = operands.clamp(output)
    return Binary(add, counts, (-zero(a), -zero(b)), (first, second, result), zero(output), low, high)


def _repeated(operands: Operands, tensor: Tensor) -> int:
    """Bytes that repeat to fill the output: those of the tensor, or of the whole output where a constant is spread out."""
    shape, out = (1,) * (len(operands.output.shape) - len(tensor.shape)) + tensor.shape, operands.output.shape
    significant = next((i for i, size in enumerate(shape) if size != 1), len(shape))
    if len(shape) == len(out) and shape[significant:] == out[significant:]:
        return tensor.count
    if tensor.data is not None and all(s in (1, o) for s, o in zip(shape, out, strict=True)):
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


def requantize(operands: Operands) -> Lookup:
    """QUANTIZE from int8 to int8."""
    source, output = operands.activation(0), operands.int8(operands.output)
    return Lookup(_rescaled(source, output), output.count)


def logistic_table(operands: Operands) -> Lookup:
    """LOGISTIC: to scale 1/256, zero point -128."""
    source, output = operands.activation(0), operands.int8(operands.output)
    if zero(output) != -128:
        operands.refuse("an output with zero point -128", zero(output))
    multiplier, shift = quantize_multiplier(scale(source) * 2**27)
    radius = math.floor(15 * 2**27 / 2**shift) if shift < 64 else 0
    centred = _CODES - zero(source)
    inputs = multiply(centred, multiplier, shift)
    table = [
        -128 if c <= -radius else 127 if c >= radius else int(divide_by_power(np.asarray(logistic(int(x)), np.int64), 23)) - 128
        for c, x in zip(centred.tolist(), inputs.tolist(), strict=True)
    ]
    return Lookup(np.clip(np.array(table, np.int64), -128, 127), output.count)


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


def concatenation(operands: Operands) -> Concatenation:
    """CONCATENATION along any axis; integers are copied as they are."""
    if operands.option("fused_activation_function", "NONE") != "NONE":
        operands.refuse("no fused activation", operands.option("fused_activation_function", "NONE"))
    output = operands.int8(operands.output)
    axis = operands.option("axis", 0) % len(output.shape)
    sources = [operands.activation(i) for i in range(operands.count)]
    if any(scale(source) != scale(output) for source in sources):
        operands.refuse(f"inputs with the output's scale, {scale(output)}", [scale(source) for source in sources])
    return Concatenation(math.prod(output.shape[:axis]), tuple(math.prod(source.shape[axis:]) for source in sources))


def pad(operands: Operands) -> Pad:
    """PAD with the zero point, PADV2 with a constant; up to four dimensions."""
    source, output = operands.activation(0), operands.int8(operands.output)
    margins = operands.constant(1)
    rank = len(source.shape)
    if rank > 4 or margins.shape != (rank, 2) or max(output.shape, default=0) >= 2**16:
        operands.refuse("a margin before and after each of at most four dimensions", f"{margins.shape} for {source.shape}")
    value = int(operands.constant(2).reshape(-1)[0]) if operands.given(2) is not None else zero(output)

    def four(sizes: tuple[int, ...], fill: int) -> tuple[int, int, int, int]:
        first, second, third, fourth = (fill,) * (4 - rank) + sizes
        return first, second, third, fourth

    before = tuple(int(margin) for margin in margins[:, 0])
    return Pad(four(source.shape, 1), four(before, 0), four(output.shape, 1), value)


def _rescaled(source: Tensor, output: Tensor) -> Integers:
    multiplier, shift = quantize_multiplier(scale(source) / scale(output))
    return np.clip(multiply(_CODES - zero(source), multiplier, shift) + zero(output), -128, 127)
