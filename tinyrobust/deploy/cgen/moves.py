"""Operators that compute nothing: which byte of the output is which of the input."""

import math
from collections.abc import Sequence

import numpy as np

from tinyrobust.deploy.artefact import Tensor
from tinyrobust.deploy.cgen.fixedpoint import Integers
from tinyrobust.deploy.cgen.layers import Concatenation, Move, Pad, Resize
from tinyrobust.deploy.cgen.operands import Operands, scale, zero

_RANK = 5  # TR_MOVE_RANK of tr_runtime.h
_MASKS = ("ellipsis_mask", "new_axis_mask", "offset")  # of STRIDED_SLICE, which TensorFlow Lite Micro does not run


def strided_slice(operands: Operands) -> Move:
    """STRIDED_SLICE: each axis from a place to a place in steps, or one place of it."""
    for mask in _MASKS:
        if operands.option(mask, 0):
            operands.refuse(f"no {mask}", operands.option(mask, 0))
    source = operands.activation(0)
    begins, ends, steps = (operands.integers(position) for position in (1, 2, 3))
    if not len(begins) == len(ends) == len(steps) <= len(source.shape) or 0 in steps:
        operands.refuse("begin, end and a step that is not 0 for each axis", f"{begins}, {ends}, {steps}")
    ranges = []
    for axis, size in enumerate(source.shape):
        if axis >= len(begins):
            ranges.append(range(size))
            continue
        begin = None if operands.option("begin_mask", 0) >> axis & 1 else begins[axis]
        end = None if operands.option("end_mask", 0) >> axis & 1 else ends[axis]
        if operands.option("shrink_axis_mask", 0) >> axis & 1:
            first = operands.axis(begins[axis], size)
            ranges.append(range(first, first + 1))
        else:
            ranges.append(range(size)[begin : end : steps[axis]])
    return _cut(operands, source, ranges)


def slice_(operands: Operands) -> Move:
    """SLICE: each axis from a place on, so many places."""
    source = operands.activation(0)
    begins, sizes = operands.integers(1), operands.integers(2)
    if not len(begins) == len(sizes) == len(source.shape):
        operands.refuse("begin and size for each axis", f"{begins}, {sizes}")
    whole = [range(size) for size in source.shape]
    ranges = [
        axis[begin:] if size == -1 else axis[begin : begin + size]
        for axis, begin, size in zip(whole, begins, sizes, strict=True)
    ]
    return _cut(operands, source, ranges)


def split(operands: Operands) -> Move:
    """SPLIT: one of equal parts along an axis."""
    source, parts = operands.activation(1), len(operands.operator.outputs)
    axis = operands.axis(operands.integers(0)[0], len(source.shape))
    return _part(operands, source, axis, [source.shape[axis] // parts] * parts)


def split_v(operands: Operands) -> Move:
    """SPLIT_V: one of parts along an axis whose sizes are given, one of them perhaps as -1."""
    source, sizes = operands.activation(0), operands.integers(1)
    axis = operands.axis(operands.integers(2)[0], len(source.shape))
    rest = source.shape[axis] - sum(size for size in sizes if size >= 0)
    return _part(operands, source, axis, [rest if size < 0 else size for size in sizes])


def unpack(operands: Operands) -> Move:
    """UNPACK: one place of an axis."""
    source = operands.activation(0)
    axis = operands.axis(operands.option("axis", 0), len(source.shape))
    return _part(operands, source, axis, [1] * source.shape[axis])


def _part(operands: Operands, source: Tensor, axis: int, sizes: Sequence[int]) -> Move:
    if sum(sizes) != source.shape[axis] or len(sizes) != len(operands.operator.outputs):
        operands.refuse(f"parts that make {source.shape[axis]}", list(sizes))
    ranges = [range(size) for size in source.shape]
    first = sum(sizes[: operands.place])
    ranges[axis] = range(first, first + sizes[operands.place])
    return _cut(operands, source, ranges)


def _cut(operands: Operands, source: Tensor, ranges: Sequence[range]) -> Move:
    strides = _strides(source.shape)
    start = sum(chosen.start * stride for chosen, stride in zip(ranges, strides, strict=True) if chosen)
    return _move(
        operands,
        source,
        [len(chosen) for chosen in ranges],
        [chosen.step * stride for chosen, stride in zip(ranges, strides, strict=True)],
        start,
    )


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
    if len(shape) > _RANK:
        operands.refuse(f"at most {_RANK} dimensions that are apart", f"{shape} of {list(source.shape)}")
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
    if rank > 4 or margins.shape != (rank, 2) or max(output.shape, default=0) >= 2**16:
        operands.refuse("a margin before and after each of at most four dimensions", f"{margins.shape} for {source.shape}")
    value = int(operands.constant(2).reshape(-1)[0]) if operands.given(2) is not None else zero(output)

    def four(sizes: tuple[int, ...], fill: int) -> tuple[int, int, int, int]:
        first, second, third, fourth = (fill,) * (4 - rank) + sizes
        return first, second, third, fourth

    before = tuple(int(margin) for margin in margins[:, 0])
    return Pad(four(source.shape, 1), four(before, 0), four(output.shape, 1), value)


def resize_nearest(operands: Operands) -> Resize:
    """RESIZE_NEAREST_NEIGHBOR: places are computed in float32, as TensorFlow Lite does."""
    source, output = operands.activation(0), operands.int8(operands.output)
    shape, out = source.shape, output.shape
    if len(shape) != 4 or len(out) != 4 or (shape[0], out[0]) != (1, 1) or shape[3] != out[3] or max(*shape, *out) >= 2**16:
        operands.refuse("an image of one batch and as many channels as before", f"{list(shape)} to {list(out)}")
    corners, centers = bool(operands.option("align_corners", False)), bool(operands.option("half_pixel_centers", False))

    def places(before: int, after: int) -> Integers:
        step = (
            np.float32(before - 1) / np.float32(after - 1) if corners and after > 1 else np.float32(before) / np.float32(after)
        )
        at = (np.arange(after, dtype=np.float32) + np.float32(0.5 if centers else 0.0)) * step
        nearest = np.floor(at + np.float32(0.5)) if corners else np.floor(at)
        return np.asarray(np.clip(nearest, 0, before - 1), np.int64)

    return Resize(places(shape[1], out[1]), places(shape[2], out[2]), shape[2], shape[3])
