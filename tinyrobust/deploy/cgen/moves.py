"""Operators that compute nothing: which byte of the output is which of the input."""

import math
from collections.abc import Sequence

import numpy as np

from tinyrobust.deploy import slicing
from tinyrobust.deploy.artefact import Tensor
from tinyrobust.deploy.cgen.layers import MOVE_RANK, Concatenation, Move, Pad, Resize
from tinyrobust.deploy.cgen.operands import Operands, scale, zero


def cut(operands: Operands) -> Move:
    """STRIDED_SLICE, SLICE, SPLIT, SPLIT_V and UNPACK: of each axis, places that are as far apart from each other."""
    source, chosen = _chosen(operands)
    strides, start, sizes, steps = _strides(source.shape), 0, [], []
    for stride, places in zip(strides, chosen, strict=True):
        start += stride * (places[0] if places else 0)
        sizes.append(len(places))
        steps.append(stride * (places[1] - places[0] if len(places) > 1 else 1))
    return _move(operands, source, sizes, steps, start)


def resize_nearest(operands: Operands) -> Resize:
    """RESIZE_NEAREST_NEIGHBOR of one image."""
    source, chosen = _chosen(operands)
    operands.int8(operands.output)
    if source.shape[0] != 1:
        operands.refuse("an image of one batch", list(source.shape))
    rows, columns = (np.array(places, np.int64) for places in chosen[1:3])
    return Resize(rows, columns, source.shape[2], source.shape[3])


def _chosen(operands: Operands) -> tuple[Tensor, list[slicing.Places]]:
    source = operands.activation(slicing.SOURCE.get(operands.operator.name, 0))
    shape, out = source.shape, operands.output.shape
    try:
        return source, slicing.places(operands.operator, shape, out, operands.integers, operands.place)
    except slicing.MisfitError as error:
        operands.refuse(error.expected, error.received)


def transpose(operands: Operands) -> Move:
    """TRANSPOSE."""
    source, order = operands.activation(0), operands.integers(1)
    if sorted(order) != list(range(len(source.shape))):
        operands.refuse(f"every axis of {list(source.shape)} once", order)
    strides = _strides(source.shape)
    return _move(operands, source, [source.shape[axis] for axis in order], [strides[axis] for axis in order], 0)


def _move(operands: Operands, source: Tensor, sizes: Sequence[int], strides: Sequence[int], start: int) -> Move:
    output = operands.int8(operands.output)
    if math.prod(sizes) != output.count or not output.count:
        operands.refuse(f"an output of {math.prod(sizes)} values, at least one", output.count)
    shape, steps = [1], [1]
    for size, stride in reversed(list(zip(sizes, strides, strict=True))):
        if size == 1:
            continue
        if shape[0] == 1:
            shape[0], steps[0] = size, stride
        elif stride == steps[0] * shape[0]:
            shape[0] *= size
        else:
            shape.insert(0, size)
            steps.insert(0, stride)
    if len(shape) > MOVE_RANK:
        operands.refuse(f"at most {MOVE_RANK} dimensions that are apart", f"{shape} of {list(source.shape)}")
    return Move(tuple(shape), tuple(steps), start, source.count)


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def concatenation(operands: Operands) -> Concatenation:
    """CONCATENATION along any axis, and PACK along a new one; integers are copied as they are."""
    if operands.option("fused_activation_function", "NONE") != "NONE":
        operands.refuse("no fused activation", operands.option("fused_activation_function", "NONE"))
    output = operands.int8(operands.output)
    axis = operands.axis(operands.option("axis", 0), len(output.shape))
    sources = [operands.activation(i) for i in range(operands.count)]
    if any(scale(source) != scale(output) for source in sources):
        operands.refuse(f"inputs with the output's scale, {scale(output)}", [scale(source) for source in sources])
    return Concatenation(math.prod(output.shape[:axis]), tuple(math.prod(source.shape[axis:]) for source in sources))


def pad(operands: Operands) -> Pad:
    """PAD with the zero point, PADV2 with a constant; up to four dimensions."""
    source, output = operands.activation(0), operands.int8(operands.output)
    margins = operands.constant(1)
    rank = len(source.shape)
    if rank > 4 or margins.shape != (rank, 2) or margins.min(initial=0) < 0 or max(output.shape, default=0) >= 2**16:
        operands.refuse("a margin before and after each of at most four dimensions", f"{margins.shape} for {source.shape}")
    if tuple(int(size) for size in source.shape + margins.sum(axis=1)) != output.shape:
        operands.refuse("an output as large as the input with its margins", list(output.shape))
    filling = operands.integers(2) if operands.given(2) is not None else [zero(output)]
    if len(filling) != 1:
        operands.refuse("one value to fill with", filling)

    def four(sizes: tuple[int, ...], fill: int) -> tuple[int, int, int, int]:
        first, second, third, fourth = (fill,) * (4 - rank) + sizes
        return first, second, third, fourth

    before = tuple(int(margin) for margin in margins[:, 0])
    return Pad(four(source.shape, 1), four(before, 0), four(output.shape, 1), filling[0])
