"""The generated C equals TensorFlow Lite Micro's kernels on every output: peer files, and small graphs of every kind."""

import math
from pathlib import Path

import numpy as np
import pytest

from tinyrobust.deploy.cgen import fusion

PEERS = ("ds-cnn-ternary", "mlperf-tiny-ic", "mlperf-tiny-kws")
ACTIVATIONS = (0, 0, 1, 3, 2)  # NONE, RELU, RELU6, RELU_N1_TO_1 by the schema's numbers
PLAUSIBLE = 2.0**-18, 2.0**12  # scales: TensorFlow Lite Micro refuses some networks beyond


@pytest.mark.parametrize("name", PEERS)
def test_peers(name, shared, assert_exact, inputs_for, tmp_path):
    model = tmp_path / f"{name}.tflite"
    model.write_bytes((shared / "peers" / model.name).read_bytes())
    assert_exact([model], [inputs_for(model, 12, 0)])


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_peers_on_a_thousand_inputs(name, shared, assert_exact, inputs_for, tmp_path):
    model = tmp_path / f"{name}.tflite"
    model.write_bytes((shared / "peers" / model.name).read_bytes())
    assert_exact([model], [inputs_for(model, 1000, 1)], "-O2")


def test_a_converted_model(small_tflite, assert_exact, inputs_for, tmp_path):
    model = tmp_path / "small.tflite"
    model.write_bytes(small_tflite.read_bytes())
    assert_exact([model], [inputs_for(model, 50, 0)])


@pytest.mark.parametrize("start", range(0, 60, 30))
def test_random_graphs(start, graph, assert_exact, inputs_for, tmp_path):
    models = [_Random(graph(), start + i).save(tmp_path / f"g{i}.tflite") for i in range(30)]
    assert_exact(models, [inputs_for(model, 8, i) for i, model in enumerate(models)])


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 1600, 60))
def test_many_random_graphs(start, graph, assert_exact, inputs_for, tmp_path, monkeypatch):
    """In every other part all sums are fused that can be, also where it does not pay."""
    monkeypatch.setattr(fusion, "SUM_BYTES", fusion.SUM_BYTES if start % 120 else -(10**6))
    models = [_Random(graph(), start + i).save(tmp_path / f"g{i}.tflite") for i in range(60)]
    assert_exact(models, [inputs_for(model, 12, i) for i, model in enumerate(models)])


@pytest.mark.parametrize("kind", ["lines", "vectors"])
def test_random_graphs_of_lines_and_vectors(kind, graph, assert_exact, inputs_for, tmp_path):
    models = [_RANDOM[kind](graph(), seed).save(tmp_path / f"g{seed}.tflite") for seed in range(10)]
    assert_exact(models, [inputs_for(model, 8, i) for i, model in enumerate(models)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lines", "vectors"])
@pytest.mark.parametrize("start", range(1000, 1240, 60))
def test_many_random_graphs_of_lines_and_vectors(kind, start, graph, assert_exact, inputs_for, tmp_path):
    models = [_RANDOM[kind](graph(), start + i).save(tmp_path / f"g{i}.tflite") for i in range(60)]
    assert_exact(models, [inputs_for(model, 12, i) for i, model in enumerate(models)])


def test_groups(graph, assert_exact, inputs_for, tmp_path):
    made, random = graph(), np.random.default_rng(0)
    image = made.tensor((1, 5, 4, 6), 0.02, -3)
    weights = made.tensor((9, 3, 2, 2), 0.01, 0, random.integers(-127, 128, (9, 3, 2, 2)))
    bias = made.tensor((9,), 0.0002, 0, random.integers(-900, 900, 9), dtype="int32")
    options = {"strideH": 1, "strideW": 2, "dilationHFactor": 1, "dilationWFactor": 1}
    answer = made.op("CONV_2D", [image, weights, bias], made.tensor((1, 5, 2, 9), 0.1, 5), **options)
    model = made.save(tmp_path / "groups.tflite", image, answer)
    assert_exact([model], [inputs_for(model, 30, 0)])


class _Random:
    """A graph of one to five random layers with random shapes, scales and zero points: a function of its seed."""

    def __init__(self, graph, seed: int) -> None:
        self.graph, self.random = graph, np.random.default_rng(seed)
        self.source = self.graph.tensor(self._shape(), self._scale(), self._zero())
        current = self.source
        for _ in range(self._int(1, 5)):
            current = self._layer(current)
        if self.random.random() < 0.3:
            flat = self._reshape(current, (1, math.prod(self.graph.shapes[current])))
            current = self._fully_connected(flat)
            current = self._softmax(current) if self.random.random() < 0.5 else current
        self.result = current

    def save(self, path: Path) -> Path:
        return self.graph.save(path, self.source, self.result)

    def _shape(self) -> tuple[int, ...]:
        return (1, self._int(1, 9), self._int(1, 9), self._int(1, 7))

    def _layer(self, x: int) -> int:
        weighted = [self._conv, self._conv, self._depthwise, self._pointwise]
        others = [self._pool, self._binary, self._residual, self._pad, self._concatenate, self._map, self._quantize, self._mean]
        return self._pick(weighted + weighted + others)(x)

    def _int(self, low: int, high: int) -> int:
        return int(self.random.integers(low, high + 1))

    def _pick(self, options):
        return options[self._int(0, len(options) - 1)]

    def _scale(self) -> float:
        return float(2.0 ** self.random.uniform(-9, 1))

    def _zero(self) -> int:
        few = 128 - 2 ** self._int(1, 7)  # of activations of 1 to 7 bits
        return self._pick([-128, -128, 0, 127, self._int(-128, 127), few, few])

    def _reshape(self, x: int, shape: tuple[int, ...]) -> int:
        target = self.graph.tensor((len(shape),), data=shape, dtype="int32")
        return self.graph.op("RESHAPE", [x, target], self.graph.tensor(shape, *self.graph.grids[x]), newShape=list(shape))

    def _weights(self, shape: tuple[int, ...], axis: int) -> tuple[int, np.ndarray]:
        kind = self._pick(["ternary", "ternary", "binary", "four", "eight", "sixteen", "int8"])
        values = {
            "ternary": lambda: self.random.choice([-1, 0, 1], shape) * self._pick([127, 127, 1, 90]),
            "binary": lambda: self.random.choice([-1, 1], shape) * self._pick([127, 127, 1, 90]),
            "four": lambda: self.random.choice(self._pick([[-2, -1, 0, 1], [-3, -1, 1, 3]]), shape) * self._pick([42, 7]),
            "eight": lambda: self.random.integers(-4, 4, shape) * self._pick([31, 1]),
            "sixteen": lambda: np.rint(self.random.integers(-7, 8, shape) * (127 / 7)),
            "int8": lambda: self.random.integers(-127, 128, shape),
        }[kind]()
        spread = self._pick([0.0, 1.0, 4.0])
        count = self._pick([1, shape[axis]])
        scales = (self._scale() * 2.0 ** self.random.uniform(-spread, 0, count) / 127).astype(np.float32)
        return self.graph.tensor(shape, scales, 0, values, axis=axis), np.broadcast_to(scales, shape[axis])

    def _weighted(self, op: str, x: int, shape: tuple[int, ...], axis: int, out: tuple[int, ...], **options) -> int:
        """Output scales around what fills the range, now and then far from it."""
        weights, scales = self._weights(shape, axis)
        taps = math.prod(shape) // shape[axis]
        step = self.graph.grids[x][0]
        bias = self.random.integers(-3000, 3000, shape[axis]) * self._pick([0, 1, 30])
        inputs = [x, weights, self.graph.tensor((shape[axis],), step * scales, 0, bias, dtype="int32")]
        if not bias.any() and op != "DEPTHWISE_CONV_2D":  # TensorFlow Lite Micro crashes on one without a bias
            inputs = [*inputs[:2], -1]
        wander = self._pick([1.0, 1.0, 6.0])
        scale = step * float(scales.max()) * 90 * math.sqrt(taps) * 2.0 ** self.random.uniform(-wander, wander)
        output = self.graph.tensor(out, np.clip(scale, *PLAUSIBLE), self._zero())
        return self.graph.op(op, inputs, output, fusedActivationFunction=self._pick(ACTIVATIONS), **options)

    def _moving(self, x: int, *, dilated: bool = True):
        """A kernel's size, the output's size and the options of something that moves over the image."""
        _, height, width, _ = self.graph.shapes[x]
        kernel, stride = (self._int(1, 5), self._int(1, 5)), (self._int(1, 3), self._int(1, 3))
        dilation = (self._pick([1, 1, 2]), self._pick([1, 1, 3])) if dilated else (1, 1)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        valid = reach[0] <= height and reach[1] <= width and self.random.random() < 0.5
        cut = [r - 1 if valid else 0 for r in reach]
        out = [-(-(size - c) // s) for size, c, s in zip((height, width), cut, stride, strict=True)]
        options = {"padding": int(valid), "strideH": stride[0], "strideW": stride[1]}
        if dilated:
            options |= {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
        return kernel, out, options

    def _conv(self, x: int) -> int:
        depth, channels = self.graph.shapes[x][3], self._int(1, 9)
        kernel, out, options = self._moving(x)
        return self._weighted("CONV_2D", x, (channels, *kernel, depth), 0, (1, *out, channels), **options)

    def _pointwise(self, x: int) -> int:
        _, height, width, depth = self.graph.shapes[x]
        channels = self._int(1, 12)
        options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 1}
        return self._weighted("CONV_2D", x, (channels, 1, 1, depth), 0, (1, height, width, channels), **options)

    def _depthwise(self, x: int) -> int:
        multiplier = self._pick([1, 1, 2, 3])
        channels = self.graph.shapes[x][3] * multiplier
        kernel, out, options = self._moving(x)
        options["depthMultiplier"] = multiplier
        return self._weighted("DEPTHWISE_CONV_2D", x, (1, *kernel, channels), 3, (1, *out, channels), **options)

    def _fully_connected(self, x: int) -> int:
        depth, channels = self.graph.shapes[x][1], self._int(1, 12)
        return self._weighted("FULLY_CONNECTED", x, (channels, depth), 0, (1, channels))

    def _softmax(self, x: int) -> int:
        output = self.graph.tensor(self.graph.shapes[x], 1 / 256, -128)
        return self.graph.op("SOFTMAX", [x], output, beta=self._pick([1.0, 0.5]))

    def _pool(self, x: int) -> int:
        kernel, out, options = self._moving(x, dilated=False)
        output = self.graph.tensor((1, *out, self.graph.shapes[x][3]), *self.graph.grids[x])
        options |= {"filterHeight": kernel[0], "filterWidth": kernel[1], "fusedActivationFunction": self._pick(ACTIVATIONS)}
        return self.graph.op(self._pick(["AVERAGE_POOL_2D", "MAX_POOL_2D"]), [x], output, **options)

    def _binary(self, x: int) -> int:
        shape = self.graph.shapes[x]
        other = self._pick([shape, (shape[3],), (1, 1, 1, shape[3]), (1, shape[1], 1, 1), ()])
        values = self.random.integers(-128, 128, other)
        return self._combine(x, self.graph.tensor(other, self._scale(), self._zero(), values))

    def _residual(self, x: int) -> int:
        beside = self._same(x)
        return self._combine(x, self._same(beside) if self.random.random() < 0.5 else beside)

    def _same(self, x: int) -> int:
        """A convolution, pointwise or not, or a depthwise one, that leaves the shape as it is."""
        shape = self.graph.shapes[x]
        size, depthwise = self._pick([1, 3]), self.random.random() < 0.3
        options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 0}
        if depthwise:
            options["depthMultiplier"] = 1
            return self._weighted("DEPTHWISE_CONV_2D", x, (1, size, size, shape[3]), 3, shape, **options)
        return self._weighted("CONV_2D", x, (shape[3], size, size, shape[3]), 0, shape, **options)

    def _combine(self, a: int, b: int) -> int:
        op = self._pick(["ADD", "ADD", "MUL"])
        first, second = self.graph.grids[a][0], self.graph.grids[b][0]
        scale = (max(first, second) if op == "ADD" else 100 * first * second) * 2.0 ** self.random.uniform(-1, 2)
        output = self.graph.tensor(self.graph.shapes[a], np.clip(scale, *PLAUSIBLE), self._zero())
        pair = [a, b] if self.random.random() < 0.5 else [b, a]
        return self.graph.op(op, pair, output, fusedActivationFunction=self._pick(ACTIVATIONS))

    def _pad(self, x: int) -> int:
        margins = np.zeros((4, 2), int)
        margins[1:3] = self.random.integers(0, 3, (2, 2))
        shape = tuple(int(s) for s in self.graph.shapes[x] + margins.sum(axis=1))
        paddings = self.graph.tensor((4, 2), data=margins, dtype="int32")
        return self.graph.op("PAD", [x, paddings], self.graph.tensor(shape, *self.graph.grids[x]))

    def _concatenate(self, x: int) -> int:
        shape, grid = list(self.graph.shapes[x]), self.graph.grids[x]
        window = {"filterHeight": 3, "filterWidth": 2, "strideH": 1, "strideW": 1}
        other = self.graph.op("MAX_POOL_2D", [x], self.graph.tensor(shape, *grid), **window)
        axis = self._int(1, 3)
        shape[axis] *= 2
        return self.graph.op("CONCATENATION", [x, other], self.graph.tensor(shape, *grid), axis=axis)

    def _map(self, x: int) -> int:
        shape, grid = self.graph.shapes[x], self.graph.grids[x]
        op = self._pick(["RELU", "RELU6", "LOGISTIC"])
        if op == "LOGISTIC":
            return self.graph.op(op, [x], self.graph.tensor(shape, 1 / 256, -128))
        wander = 2.0 ** self.random.uniform(-1, 1) if op == "RELU" else 1.0
        return self.graph.op(op, [x], self.graph.tensor(shape, grid[0] * wander, grid[1]))

    def _quantize(self, x: int) -> int:
        scale = self.graph.grids[x][0] * 2.0 ** self.random.uniform(-2, 2)
        return self.graph.op("QUANTIZE", [x], self.graph.tensor(self.graph.shapes[x], scale, self._zero()))

    def _mean(self, x: int) -> int:
        axes = self._pick([(1, 2), (2, 1), (1,), (3,), (2, 3)])
        shape = tuple(1 if i in axes else size for i, size in enumerate(self.graph.shapes[x]))
        tensor = self.graph.tensor((len(axes),), data=axes, dtype="int32")
        scale = self.graph.grids[x][0] * 2.0 ** self.random.uniform(-2, 1)
        return self.graph.op("MEAN", [x, tensor], self.graph.tensor(shape, scale, self._zero()), keepDims=True)


class _Lines(_Random):
    """Layers over a line of pixels, across or down, with longer windows and more channels."""

    def _shape(self) -> tuple[int, ...]:
        return (1, *self._pick([(self._int(1, 24), 1), (1, self._int(1, 24))]), self._int(1, 18))

    def _moving(self, x: int, *, dilated: bool = True):
        height, width = self.graph.shapes[x][1:3]
        if min(height, width) > 1:  # of two lines, side by side
            return super()._moving(x, dilated=dilated)
        size, stride, dilation = self._int(1, 12), self._int(1, 3), self._pick([1, 1, 2]) if dilated else 1
        reach = (size - 1) * dilation + 1
        length = height * width
        valid = reach <= length and self.random.random() < 0.5
        out = -(-(length - (reach - 1 if valid else 0)) // stride)
        along = ((size, 1), (out, 1), (stride, 1), (dilation, 1))
        kernel, outs, strides, dilations = along if width == 1 else (pair[::-1] for pair in along)
        options = {"padding": int(valid), "strideH": strides[0], "strideW": strides[1]}
        if dilated:
            options |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
        return kernel, outs, options


class _Vectors(_Random):
    """Fully connected layers of one pixel."""

    def __init__(self, graph, seed: int) -> None:
        self.graph, self.random = graph, np.random.default_rng(seed)
        self.source = self.result = self.graph.tensor((1, self._size()), self._scale(), self._zero())
        for _ in range(self._int(1, 4)):
            self.result = self._fully_connected(self.result)

    def _size(self) -> int:
        return self._pick([self._int(1, 30), 4 * self._int(1, 20)])

    def _fully_connected(self, x: int) -> int:
        depth, channels = self.graph.shapes[x][1], self._size()
        return self._weighted("FULLY_CONNECTED", x, (channels, depth), 0, (1, channels))


_RANDOM = {"lines": _Lines, "vectors": _Vectors}
