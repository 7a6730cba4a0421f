"""Small `.tflite` files made by code, and what a memory plan must keep."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy.cgen.memory import Buffer, Overlap, plan

_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "SOFTMAX": "SoftmaxOptions",
    "CONCATENATION": "ConcatenationOptions",
    "ADD": "AddOptions",
    "MUL": "MulOptions",
    "MEAN": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "PAD": "PadOptions",
    "TRANSPOSE": "TransposeOptions",
    "SUB": "SubOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SLICE": "SliceOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "PACK": "PackOptions",
    "UNPACK": "UnpackOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "VAR_HANDLE": "VarHandleOptions",
    "CALL_ONCE": "CallOnceOptions",
}
_TYPES = {name: getattr(schema.TensorType, name.upper()) for name in ("int8", "uint8", "int32", "float32", "resource")}


class Graph:
    """A `.tflite` under construction. Tensors are named by their index."""

    def __init__(self) -> None:
        self._graph, self._initial = schema.SubGraphT(), schema.SubGraphT()
        for graph in (self._graph, self._initial):
            graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
        self._buffers = [schema.BufferT()]
        self._codes: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.grids: list[tuple[float, int]] = []

    def tensor(
        self, shape: Sequence[int], scale: Any = (), zero: Any = 0, data: Any = None, *, dtype: str = "int8", axis: int = 0
    ) -> int:
        """Adds a tensor; constant where it has data; one scale, several along `axis`, or none."""
        tensor, scales = schema.TensorT(), np.atleast_1d(np.array(scale, np.float32))
        tensor.shape, tensor.type, tensor.name = list(shape), _TYPES[dtype], f"t{len(self.shapes)}".encode()
        if scales.size:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scales
            tensor.quantization.zeroPoint = np.full(scales.size, zero, np.int64)
            tensor.quantization.quantizedDimension = axis
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            tensor.buffer = len(self._buffers)
            self._buffers.append(buffer)
        self._graph.tensors.append(tensor)
        self.shapes.append(tuple(shape))
        self.grids.append((float(scales[0]) if scales.size else 0.0, int(zero)))
        return len(self.shapes) - 1

    def rename(self, index: int, name: str) -> None:
        """Calls a tensor otherwise."""
        self._graph.tensors[index].name = name.encode()

    def variable(self, name: str, values: Any) -> int:
        """Adds a variable and what it holds at first; gives its handle."""
        if not self._initial.operators:
            self._add(self._graph, "CALL_ONCE", [], [], initSubgraphIndex=1)
        handle = self.tensor((), dtype="resource")
        self._add(self._graph, "VAR_HANDLE", [], [handle], sharedName=name)
        constant = self.tensor(np.shape(values), 0.1, 0, values)
        self._initial.tensors += [self._graph.tensors[handle], self._graph.tensors[constant]]
        place = len(self._initial.tensors) - 2
        self._add(self._initial, "VAR_HANDLE", [], [place], sharedName=name)
        self._add(self._initial, "ASSIGN_VARIABLE", [place, place + 1], [])
        return handle

    def assign(self, handle: int, value: int) -> None:
        """Writes a variable."""
        self._add(self._graph, "ASSIGN_VARIABLE", [handle, value], [])

    def op(self, name: str, inputs: Sequence[int], output: int, *others: int, **options: Any) -> int:
        """Adds an operator with one output, or several; options by the schema's names in camel case."""
        self._add(self._graph, name, inputs, [output, *others], **options)
        return output

    def _add(self, graph: Any, name: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> None:
        operator = schema.OperatorT()
        if name not in self._codes:
            self._codes.append(name)
        operator.opcodeIndex = self._codes.index(name)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if name in _OPTIONS:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, _OPTIONS[name])
            operator.builtinOptions = getattr(schema, _OPTIONS[name] + "T")()
            for key, value in options.items():
                assert hasattr(operator.builtinOptions, key), key
                setattr(operator.builtinOptions, key, value)
        graph.operators.append(operator)

    def save(self, path: Path, source: int | Sequence[int], result: int | Sequence[int]) -> Path:
        """Writes the file; with one input and output, or several."""
        model = schema.ModelT()
        self._graph.inputs, self._graph.outputs = (list(np.atleast_1d(ends)) for ends in (source, result))
        subgraphs = [self._graph, self._initial] if self._initial.operators else [self._graph]
        model.version, model.subgraphs, model.buffers = 3, subgraphs, self._buffers
        model.operatorCodes = []
        for name in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = getattr(schema.BuiltinOperator, name)
            code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
            model.operatorCodes.append(code)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        path.write_bytes(builder.Output())
        return path


def _conflicts(buffers: Sequence[Buffer], overlaps: Iterable[Overlap], offsets: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of buffers that are alive at once and overlap though they may not: a plan has none."""
    allowed = {(o.source, o.out): o.distance for o in overlaps}
    found = []
    for i, j in itertools.permutations(range(len(buffers)), 2):
        a, b = buffers[i], buffers[j]
        apart = a.last < b.first or b.last < a.first
        apart = apart or offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
        for source, out in ((i, j), (j, i)):
            if (source, out) in allowed:
                distance = allowed[source, out]
                ahead = offsets[source] - offsets[out]
                apart = apart or (ahead == 0 if distance is None else ahead >= distance)
        if not apart and i < j:
            found.append((i, j))
    return found


def _smallest(buffers: Sequence[Buffer], overlaps: Sequence[Overlap]) -> int:
    """The smallest plan there is, by trying every place of every buffer below the size that is known to do."""
    best = plan(buffers, overlaps).size
    tops = [range(0, best - b.size + 1, 4) for b in buffers]

    def search(offsets: tuple[int, ...], limit: int) -> int:
        i = len(offsets)
        used = max((o + b.size for o, b in zip(offsets, buffers, strict=False)), default=0)
        if used >= limit or i == len(buffers):
            return min(used, limit)
        for start in tops[i]:
            placed = (*offsets, start)
            if start + buffers[i].size < limit and not _conflicts(
                buffers[: i + 1], [o for o in overlaps if max(o.source, o.out) <= i], placed
            ):
                limit = search(placed, limit)
        return limit

    return search((), best)


@pytest.fixture(scope="session")
def conflicts() -> Callable[..., list[tuple[int, int]]]:
    """`conflicts(buffers, overlaps, offsets)`: pairs of buffers that overlap though they may not; a plan has none."""
    return _conflicts


@pytest.fixture(scope="session")
def graph() -> type[Graph]:
    return Graph


@pytest.fixture(scope="session")
def smallest_plan() -> Callable[[Sequence[Buffer], Sequence[Overlap]], int]:
    return _smallest
