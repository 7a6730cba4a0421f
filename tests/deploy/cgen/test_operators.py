"""Operators that compute little or nothing: each alone, and several in a row, equal to TensorFlow Lite Micro."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cgen.generate import generate


class _Random:
    """Random numbers of one seed, and the graph that they make."""

    def __init__(self, graph: Any, seed: int) -> None:
        self.graph, self.random = graph, np.random.default_rng(seed)

    def source(self, rank: int = 4) -> int:
        shape = [self.number(1, 6) for _ in range(rank)]
        return self.graph.tensor([1, *shape[1:]], self.scale(), self.zero())

    def number(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def pick(self, options: Any) -> Any:
        return options[self.number(0, len(options) - 1)]

    def scale(self) -> float:
        return float(2.0 ** self.random.uniform(-9, 1))

    def zero(self) -> int:
        return int(self.pick([-128, 0, 127, self.number(-128, 127)]))

    def like(self, x: int, shape: Any = None) -> int:
        """A tensor on the grid of `x`."""
        return int(self.graph.tensor(self.graph.shapes[x] if shape is None else shape, *self.graph.grids[x]))

    def like_constant(self, x: int, shape: Any) -> int:
        """Constant values on the grid of `x`."""
        return int(self.graph.tensor(shape, *self.graph.grids[x], self.random.integers(-128, 128, shape)))

    def constant(self, values: Any) -> int:
        values = np.asarray(values)
        return int(self.graph.tensor(values.shape, data=values, dtype="int32"))


def _second(made: _Random, x: int, shape: Any = None) -> int:
    """Another operand of the same shape, or a constant of another."""
    if shape is None and made.random.random() < 0.5:
        wander = made.graph.grids[x][0] * 2.0 ** made.random.uniform(-2, 2)
        return int(made.graph.op("QUANTIZE", [x], made.graph.tensor(made.graph.shapes[x], wander, made.zero())))
    shape = made.graph.shapes[x] if shape is None else shape
    scale = made.graph.grids[x][0] * 2.0 ** made.random.uniform(-2, 2)
    return int(made.graph.tensor(shape, scale, made.zero(), made.random.integers(-128, 128, shape)))


def _sub(made: _Random, x: int) -> int:
    y = _second(made, x)
    scale = max(made.graph.grids[x][0], made.graph.grids[y][0]) * 2.0 ** made.random.uniform(-1, 2)
    pair = made.pick([[x, y], [y, x]])
    output = made.graph.tensor(made.graph.shapes[x], scale, made.zero())
    return int(made.graph.op("SUB", pair, output, fusedActivationFunction=made.pick((0, 1, 3))))


def _extreme(name: str) -> Callable[[_Random, int], int]:
    def build(made: _Random, x: int) -> int:
        shape = made.graph.shapes[x]
        shape = made.pick([shape, (1,) * (len(shape) - 1) + shape[-1:]])
        grid = made.graph.grids[x]
        y = made.graph.tensor(shape, *grid, made.random.integers(-128, 128, shape))
        return int(made.graph.op(name, made.pick([[x, y], [y, x]]), made.like(x)))

    return build


def _prelu(made: _Random, x: int) -> int:
    shape = made.graph.shapes[x]
    slopes = _second(made, x, made.pick([shape[1:], (1,) * (len(shape) - 2) + shape[-1:]]))
    output = made.graph.tensor(shape, made.graph.grids[x][0] * 2.0 ** made.random.uniform(-1, 1), made.zero())
    return int(made.graph.op("PRELU", [x, slopes], output))


def _leaky(made: _Random, x: int) -> int:
    scale = made.graph.grids[x][0] * 2.0 ** made.random.uniform(-2, 2)
    output = made.graph.tensor(made.graph.shapes[x], scale, made.zero())
    return int(made.graph.op("LEAKY_RELU", [x], output, alpha=float(made.pick([0.01, 0.2, 0.3, 1.5]))))


def _hard_swish(made: _Random, x: int) -> int:
    output = made.graph.tensor(made.graph.shapes[x], made.graph.grids[x][0] * 2.0 ** made.random.uniform(-6, 1), made.zero())
    return int(made.graph.op("HARD_SWISH", [x], output))


def _tanh(made: _Random, x: int) -> int:
    return int(made.graph.op("TANH", [x], made.graph.tensor(made.graph.shapes[x], 1 / 128, 0)))


def _strided_slice(made: _Random, x: int) -> int:
    shape, masks = made.graph.shapes[x], {"beginMask": made.number(0, 15), "endMask": made.number(0, 15)}
    begins, ends, steps, out = [], [], [], []
    for axis, size in enumerate(shape):
        step = made.pick([1, 1, 2, -1, 3])
        first, last = made.number(0, size - 1), made.number(0, size - 1)
        low, high = min(first, last), max(first, last)
        begin, end = (low, high + 1) if step > 0 else (high, low - 1 if low else -size - 1)
        begins.append(made.pick([begin, begin - size]))
        ends.append(end)
        steps.append(step)
        chosen = range(size)[
            None if masks["beginMask"] >> axis & 1 else begin : None if masks["endMask"] >> axis & 1 else end : step
        ]
        out.append(len(chosen))
    operands = [x, *(made.constant(values) for values in (begins, ends, steps))]
    return int(made.graph.op("STRIDED_SLICE", operands, made.like(x, out), **masks))


def _shrunk(made: _Random, x: int) -> int:
    shape = made.graph.shapes[x]
    place = made.number(0, shape[1] - 1)
    begins, ends = [0, place, *(0 for _ in shape[2:])], [shape[0], place + 1, *shape[2:]]
    operands = [x, *(made.constant(values) for values in (begins, ends, [1] * len(shape)))]
    return int(made.graph.op("STRIDED_SLICE", operands, made.like(x, (shape[0], *shape[2:])), shrinkAxisMask=2))


def _slice(made: _Random, x: int) -> int:
    shape = made.graph.shapes[x]
    begins = [made.number(0, size - 1) for size in shape]
    sizes = [made.number(1, size - begin) for size, begin in zip(shape, begins, strict=True)]
    said = [made.pick([n, -1]) if begin + n == size else n for size, begin, n in zip(shape, begins, sizes, strict=True)]
    return int(made.graph.op("SLICE", [x, made.constant(begins), made.constant(said)], made.like(x, sizes)))


def _split(made: _Random, x: int) -> int:
    """Parts of which one is left out."""
    shape = made.graph.shapes[x]
    axis = made.number(1, len(shape) - 1)
    doubled = made.graph.op("CONCATENATION", [x, x, x], made.like(x, _with(shape, axis, 3 * shape[axis])), axis=axis)
    parts = [made.like(x) for _ in range(3)]
    made.graph.op("SPLIT", [made.constant(axis), doubled], *parts, numSplits=3)
    return int(made.graph.op("MAXIMUM", [parts[2], parts[0]], made.like(x)))


def _split_v(made: _Random, x: int) -> int:
    shape = made.graph.shapes[x]
    axis = made.number(1, len(shape) - 1)
    longer = _with(shape, axis, shape[axis] + 2)
    wide = made.graph.op("CONCATENATION", [x, made.like_constant(x, _with(shape, axis, 2))], made.like(x, longer), axis=axis)
    parts = [made.like(x, _with(shape, axis, 2)), made.like(x)]
    sizes = made.pick([[2, shape[axis]], [2, -1]])
    made.graph.op("SPLIT_V", [wide, made.constant(sizes), made.constant(axis)], *parts, numSplits=2)
    return parts[1]


def _packed(made: _Random, x: int) -> int:
    """Unpacked along an axis, packed along another."""
    shape = made.graph.shapes[x]
    axis = made.number(1, len(shape) - 1)
    rest = shape[:axis] + shape[axis + 1 :]
    parts = [made.like(x, rest) for _ in range(shape[axis])]
    made.graph.op("UNPACK", [x], *parts, axis=made.pick([axis, axis - len(shape)]), num=len(parts))
    other = made.number(1, len(rest))
    packed = made.like(x, (*rest[:other], len(parts), *rest[other:]))
    return int(made.graph.op("PACK", parts[::-1], packed, axis=other, valuesCount=len(parts)))


def _transpose(made: _Random, x: int) -> int:
    shape = made.graph.shapes[x]
    order = [0, *(1 + int(axis) for axis in made.random.permutation(len(shape) - 1))]
    return int(made.graph.op("TRANSPOSE", [x, made.constant(order)], made.like(x, [shape[axis] for axis in order])))


def _resize(made: _Random, x: int) -> int:
    shape = made.graph.shapes[x]
    size = [made.number(1, 9), made.number(1, 9)]
    corners = made.random.random() < 0.3
    options = {"alignCorners": corners, "halfPixelCenters": not corners and made.random.random() < 0.5}
    output = made.like(x, (1, *size, shape[3]))
    return int(made.graph.op("RESIZE_NEAREST_NEIGHBOR", [x, made.constant(size)], output, **options))


def _with(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


CASES: dict[str, Callable[[_Random, int], int]] = {
    "SUB": _sub,
    "MINIMUM": _extreme("MINIMUM"),
    "MAXIMUM": _extreme("MAXIMUM"),
    "PRELU": _prelu,
    "LEAKY_RELU": _leaky,
    "HARD_SWISH": _hard_swish,
    "TANH": _tanh,
    "STRIDED_SLICE": _strided_slice,
    "STRIDED_SLICE of one place": _shrunk,
    "SLICE": _slice,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "UNPACK, PACK": _packed,
    "TRANSPOSE": _transpose,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
}


def _alone(graph: Any, name: str, seed: int, path: Path) -> Path:
    made = _Random(graph, seed)
    x = made.source(4 if name == "RESIZE_NEAREST_NEIGHBOR" else made.pick([3, 4]))
    y = CASES[name](made, x)
    return Path(graph.save(path, x, graph.op("MAXIMUM", [y, y], made.like(y))))  # a network that moves nothing is refused


def _several(graph: Any, seed: int, path: Path) -> Path:
    made = _Random(graph, seed)
    x = first = made.source()
    for _ in range(made.number(2, 5)):
        shape = graph.shapes[x]
        flat = len(shape) < 4 or shape[0] != 1
        names = [name for name in CASES if not (flat and name.startswith("RESIZE")) and (len(shape) > 2)]
        if names and math.prod(shape) < 2000:
            x = CASES[made.pick(names)](made, x)
    return Path(graph.save(path, first, x))


@pytest.mark.parametrize("name", CASES)
def test_each_equals_the_golden(name, graph, assert_exact, inputs_for, tmp_path):
    models = [_alone(graph(), name, seed, tmp_path / f"g{seed}.tflite") for seed in range(8)]
    assert_exact(models, [inputs_for(model, 6, i) for i, model in enumerate(models)])


def test_several_in_a_row(graph, assert_exact, inputs_for, tmp_path):
    models = [_several(graph(), seed, tmp_path / f"g{seed}.tflite") for seed in range(30)]
    assert_exact(models, [inputs_for(model, 6, i) for i, model in enumerate(models)])


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1600, 60))
def test_many_random_graphs(start, graph, assert_exact, inputs_for, tmp_path):
    models = [_several(graph(), start + i, tmp_path / f"g{i}.tflite") for i in range(60)]
    assert_exact(models, [inputs_for(model, 8, i) for i, model in enumerate(models)])


def test_every_byte_of_every_curve(graph, assert_exact, tmp_path):
    models = []
    for name, scale in itertools.product(("HARD_SWISH", "TANH", "LEAKY_RELU"), (2.0**-9, 0.02, 0.06, 0.3, 3.0)):
        made, grid = graph(), (1 / 128, 0) if name == "TANH" else (scale * 0.9, -11)
        x = made.tensor((1, 256), scale, 7)
        options = {"alpha": 0.1} if name == "LEAKY_RELU" else {}
        y = made.op(name, [x], made.tensor((1, 256), *grid), **options)
        models.append(made.save(tmp_path / f"{name}{scale}.tflite", x, y))
    assert_exact(models, [np.arange(-128, 128).astype(np.int8)[None]] * len(models))


def test_unsigned_bytes_outside_of_a_signed_network(graph, assert_exact, inputs_for, tmp_path):
    made = graph()
    x = made.tensor((1, 4, 4, 2), 0.02, 131, dtype="uint8")
    inner = made.op("QUANTIZE", [x], made.tensor((1, 4, 4, 2), 0.02, 3))
    active = made.op("RELU", [inner], made.tensor((1, 4, 4, 2), 0.01, -128))
    result = made.op("QUANTIZE", [active], made.tensor((1, 4, 4, 2), 0.01, 0, dtype="uint8"))
    model = made.save(tmp_path / "unsigned.tflite", x, result)
    assert_exact([model], [inputs_for(model, 40, 0)])
    header = next(f for f in generate(read(model), "m", tmp_path).files if f.name == "m.h").read_text()
    assert "INPUT_TYPE uint8_t" in header
    assert "OUTPUT_TYPE uint8_t" in header
