"""Operators that take a part of a tensor, or its places in another order along an axis: which places, in plain integers.

The generated C and the differentiable twin both read them here.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tinyrobust.deploy.subgraphs import Operator

Places = Sequence[int]
Constant = Callable[[int], list[int]]

_MASKS = ("ellipsis_mask", "new_axis_mask", "offset")  # of STRIDED_SLICE, which TensorFlow Lite Micro does not run
_LARGEST = 2**16 - 1  # the generated C has places in 16 bits
SOURCE = {"SPLIT": 1}  # the place of what is cut among the inputs; the first where it is not named


class MisfitError(ValueError):
    """What an operator says does not fit its tensors.

    Attributes:
        expected: What would.
        received: What it says.
    """

    def __init__(self, expected: str, received: object) -> None:
        super().__init__(f"Expected {expected}. Received: {received}")
        self.expected, self.received = expected, received


def places(operator: Operator, shape: Sequence[int], out: Sequence[int], constant: Constant, part: int) -> list[Places]:
    """For each axis of what is cut, the places that output `part` has of it, in its order. Axes may be missing in the output.

    Args:
        operator: STRIDED_SLICE, SLICE, SPLIT, SPLIT_V, UNPACK or RESIZE_NEAREST_NEIGHBOR.
        shape: Of what is cut.
        out: Of the output.
        constant: The integers of an input, by its position.
        part: Which output.

    Raises:
        MisfitError: The operator contradicts its tensors.
    """
    if 0 in shape:
        raise MisfitError("values", f"shape {list(shape)}")
    return _CUTS[operator.name](operator, shape, out, constant, part)


def axis_of(value: int, size: int) -> int:
    """A place among `size`, counted from the end where it is negative.

    Raises:
        MisfitError: There is no such place.
    """
    if not -size <= value < size:
        raise MisfitError(f"an axis or place from {-size} to {size - 1}", value)
    return value % size


def _strided(operator: Operator, shape: Sequence[int], _out: Sequence[int], constant: Constant, _part: int) -> list[Places]:
    options = operator.options
    if given := [mask for mask in _MASKS if options.get(mask)]:
        raise MisfitError(f"no {given[0]}", options[given[0]])
    begins, ends, steps = (constant(position) for position in (1, 2, 3))
    if not len(begins) == len(ends) == len(steps) <= len(shape) or 0 in steps:
        raise MisfitError("begin, end and a step that is not 0 for each axis", f"{begins}, {ends}, {steps}")
    masks = [int(options.get(name, 0)) for name in ("begin_mask", "end_mask", "shrink_axis_mask")]
    chosen: list[Places] = []
    for axis, size in enumerate(shape):
        if axis >= len(begins):
            chosen.append(range(size))
            continue
        first, last, shrinks = (mask >> axis & 1 for mask in masks)
        if shrinks:
            chosen.append((axis_of(begins[axis], size),))
        else:
            chosen.append(range(size)[None if first else begins[axis] : None if last else ends[axis] : steps[axis]])
    return chosen


def _slice(_operator: Operator, shape: Sequence[int], _out: Sequence[int], constant: Constant, _part: int) -> list[Places]:
    begins, sizes = constant(1), constant(2)
    if not len(begins) == len(sizes) == len(shape) or min(begins, default=0) < 0:
        raise MisfitError("begin and size for each axis", f"{begins}, {sizes}")
    return [
        range(whole)[begin:] if size == -1 else range(whole)[begin : begin + size]
        for whole, begin, size in zip(shape, begins, sizes, strict=True)
    ]


def _split(operator: Operator, shape: Sequence[int], _out: Sequence[int], constant: Constant, part: int) -> list[Places]:
    axis, parts = axis_of(_only(constant(0)), len(shape)), len(operator.outputs)
    return _part(operator, shape, axis, [shape[axis] // parts] * parts, part)


def _split_v(operator: Operator, shape: Sequence[int], _out: Sequence[int], constant: Constant, part: int) -> list[Places]:
    sizes, axis = constant(1), axis_of(_only(constant(2)), len(shape))
    rest = shape[axis] - sum(size for size in sizes if size >= 0)
    return _part(operator, shape, axis, [rest if size < 0 else size for size in sizes], part)


def _unpack(operator: Operator, shape: Sequence[int], _out: Sequence[int], _constant: Constant, part: int) -> list[Places]:
    axis = axis_of(int(operator.options.get("axis", 0)), len(shape))
    return _part(operator, shape, axis, [1] * shape[axis], part)


def _part(operator: Operator, shape: Sequence[int], axis: int, sizes: Sequence[int], part: int) -> list[Places]:
    if sum(sizes) != shape[axis] or len(sizes) != len(operator.outputs) or min(sizes) < 0:
        raise MisfitError(f"parts that make {shape[axis]}", list(sizes))
    chosen: list[Places] = [range(size) for size in shape]
    first = sum(sizes[:part])
    chosen[axis] = range(first, first + sizes[part])
    return chosen


def _nearest(operator: Operator, shape: Sequence[int], out: Sequence[int], _constant: Constant, _part: int) -> list[Places]:
    """Places are computed in float32, as TensorFlow Lite does."""
    fits = len(shape) == len(out) == 4 and (shape[0], shape[3]) == (out[0], out[3])
    if not fits or 0 in out or max(*shape, *out) > _LARGEST:
        raise MisfitError(f"as many channels as before, and sides of 1 to {_LARGEST}", f"{list(shape)} to {list(out)}")
    corners, centers = (bool(operator.options.get(name)) for name in ("align_corners", "half_pixel_centers"))

    def nearest(before: int, after: int) -> Places:
        sides = (before - 1, after - 1) if corners and after > 1 else (before, after)
        step = np.float32(sides[0]) / np.float32(sides[1])
        at = (np.arange(after, dtype=np.float32) + np.float32(0.5 if centers else 0.0)) * step
        whole = np.floor(at + np.float32(0.5)) if corners else np.floor(at)
        return [int(place) for place in np.clip(whole, 0, before - 1)]

    return [range(shape[0]), nearest(shape[1], out[1]), nearest(shape[2], out[2]), range(shape[3])]


def _only(values: list[int]) -> int:
    if len(values) != 1:
        raise MisfitError("one axis", values)
    return values[0]


_CUTS: dict[str, Callable[[Operator, Sequence[int], Sequence[int], Constant, int], list[Places]]] = {
    "STRIDED_SLICE": _strided,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "UNPACK": _unpack,
    "RESIZE_NEAREST_NEIGHBOR": _nearest,
}
NAMES = tuple(_CUTS)
