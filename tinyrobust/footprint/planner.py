"""The tensor arena, planned as TensorFlow Lite Micro does: which buffers are alive when, and where each lies.

Source: TensorFlow Lite Micro, `micro_allocation_info.cc` (lifetimes), `greedy_memory_planner.cc` (placement) and, for
scratch buffers, the `Prepare` functions of the reference kernels. Tests hold the result against the recording allocator of
the `tflite-micro` wheel. Tensors that a compiler has placed, by the file's metadata, stay where it put them.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.artefact import Artefact, Graph, Operator, Tensor
from tinyrobust.deploy.subgraphs import called

ALIGNMENT = 16

_WITH_UNPACKED_WEIGHTS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_REDUCTIONS = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"})
_CELL = 19  # the place of the cell state among the inputs of an LSTM
_UNUSED = -2  # the step of tensors that nothing writes: TensorFlow Lite Micro has them all alive before anything is


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes of the arena, alive from step `first` to step `last`, both included; `offset` where a compiler has placed it."""

    name: str
    size: int
    first: int
    last: int
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When everything is alive.

    Attributes:
        buffers: What the arena holds: activations in the order of the file, then the kernels' scratch buffers.
        spans: The first and the last step of every operator of the first subgraph: one step, or more where it calls others.
    """

    buffers: list[Buffer]
    spans: list[tuple[int, int]]

    def operator(self, step: int) -> int:
        """The operator of the first subgraph that runs at a step; -1 before all of them."""
        return bisect.bisect_right(self.spans, step, key=lambda span: span[0]) - 1


class _Steps:
    """Counts steps as the operators run, those of called subgraphs within those of their callers."""

    def __init__(self, artefact: Artefact) -> None:
        self.graphs = artefact.graphs
        self.first: dict[tuple[int, int], int] = {}  # by subgraph and tensor
        self.last: dict[tuple[int, int], int] = {}
        self.spans: dict[tuple[int, int], tuple[int, int]] = {}  # by subgraph and operator
        self.step = -1
        self.run(0)

    def run(self, number: int) -> None:
        """One subgraph, from the step that is next."""
        graph = self.graphs[number]
        self._write(number, (*graph.inputs, *graph.outputs))
        for operator in graph.operators:
            self.step += 1
            self._write(number, operator.outputs)
            start = self.step
            for other in called(operator):
                self.step += 1
                self.run(other)
            self._read(number, (*operator.inputs, *operator.outputs))
            self.spans[number, operator.index] = start, self.step
        self._read(number, graph.outputs)

    def _write(self, number: int, tensors: Sequence[int]) -> None:
        self.first.update(((number, index), self.step) for index in tensors)
        self._read(number, tensors)

    def _read(self, number: int, tensors: Sequence[int]) -> None:
        self.last.update(((number, index), self.step) for index in tensors)


def schedule(artefact: Artefact) -> Schedule:
    """The buffers of a file and the steps of its operators. Operator i is step i where no operator calls a subgraph.

    Sizes are rounded up to 16 bytes. Variable tensors are not there: they are persistent. Tensors that nothing uses, such as
    those of another function in the same file, are: TensorFlow Lite Micro makes room for all of them at once.
    """
    steps = _Steps(artefact)
    handles = {(number, index) for number, graph in enumerate(artefact.graphs) for index in _handles(graph)}

    def activation(number: int, tensor: Tensor) -> Buffer:
        first, last = (known.get((number, tensor.index), _UNUSED) for known in (steps.first, steps.last))
        offset = artefact.plan[tensor.index] if artefact.plan is not None else -1
        return Buffer(short(tensor.name), _aligned(tensor.nbytes), first, last, None if offset == -1 else offset)

    activations = [
        activation(number, tensor)
        for number, graph in enumerate(artefact.graphs)
        for tensor in graph.tensors
        if tensor.data is None and not tensor.variable and tensor.nbytes and (number, tensor.index) not in handles
    ]
    scratch = [
        Buffer(f"scratch of {operator.name}", _aligned(size), *steps.spans[number, operator.index])
        for number, graph in enumerate(artefact.graphs)
        for operator in graph.operators
        if (number, operator.index) in steps.spans
        for size in _scratch(graph.tensors, operator)
    ]
    return Schedule(activations + scratch, [steps.spans[0, operator.index] for operator in artefact.operators])


def _handles(graph: Graph) -> set[int]:
    """Handles of variables: they lie with the operators that make them."""
    return {index for operator in graph.operators if operator.name == "VAR_HANDLE" for index in operator.outputs}


def buffers(artefact: Artefact) -> list[Buffer]:
    """The buffers that the arena holds; see `schedule`."""
    return schedule(artefact).buffers


def place(wanted: Sequence[Buffer]) -> list[int]:
    """Where each buffer starts: the largest first, each in the first gap between those alive at the same time.

    Those with a place of their own come before all others. Of buffers of equal size the one that comes later in the list is
    placed earlier, as TensorFlow Lite Micro does.
    """
    offsets = [0] * len(wanted)
    # Of those placed, by rising offset: where they start and end, and the first and last step at which they are alive.
    placed = np.empty((4, len(wanted)), np.int64)
    for count, index in enumerate(sorted(range(len(wanted)), key=lambda i: (wanted[i].offset is None, -wanted[i].size, -i))):
        buffer, known = wanted[index], placed[:, :count]
        offset = _gap(buffer, known) if buffer.offset is None else buffer.offset
        offsets[index] = offset
        position = int(np.searchsorted(known[0], offset, side="right"))
        placed[:, position + 1 : count + 1] = placed[:, position:count].copy()
        placed[:, position] = offset, offset + buffer.size, buffer.first, buffer.last
    return offsets


def _gap(buffer: Buffer, placed: NDArray[np.int64]) -> int:
    """The first place that is large enough for a buffer, between those placed that are alive with it or after them."""
    starts, ends = placed[:2, (placed[2] <= buffer.last) & (buffer.first <= placed[3])]
    free = np.concatenate([[0], np.maximum.accumulate(ends)])
    fitting = np.flatnonzero(starts - free[:-1] >= buffer.size)
    return int(free[fitting[0] if fitting.size else -1])


def head(wanted: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """Bytes of the arena that placed buffers take: TensorFlow Lite Micro's "head"."""
    return max((offset + buffer.size for buffer, offset in zip(wanted, offsets, strict=True)), default=0)


def alive(wanted: Sequence[Buffer], steps: int) -> list[int]:
    """Bytes alive at each of `steps` steps. No plan can be smaller than the largest of them."""
    change = [0] * (steps + 3)
    for buffer in wanted:
        change[buffer.first - _UNUSED] += buffer.size
        change[buffer.last - _UNUSED + 1] -= buffer.size
    total, totals = 0, []
    for difference in change[:-1]:
        total += difference
        totals.append(total)
    return totals[-_UNUSED:]


def short(name: str) -> str:
    """A tensor's name up to the first semicolon: converters join the names of everything they fused."""
    return name.split(";", 1)[0]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _scratch(tensors: Sequence[Tensor], operator: Operator) -> Iterator[int]:
    """Bytes of each scratch buffer that the reference kernel of `operator` asks for."""
    operands = [tensors[i] for i in operator.inputs if i >= 0]
    output = tensors[operator.outputs[0]] if operator.outputs else None
    if output is None:
        return
    if operator.name in _WITH_UNPACKED_WEIGHTS and len(operands) > 1 and operands[1].dtype == "int4":
        yield operands[1].count  # the weights, unpacked to int8
    elif operator.name == "TRANSPOSE_CONV" and len(operands) > 2 and operands[2].dtype == "int8":
        yield 4 * output.count  # 32-bit sums
    elif operator.name in _REDUCTIONS and len(operands) > 1:
        if operator.name in ("MEAN", "SUM") and operands[0].dtype in ("int8", "int16"):
            yield 4 * output.count  # 32-bit sums
        yield 4 * len(operands[0].shape)  # a position
        yield 4 * operands[1].count  # the axes
    elif operator.name == "UNIDIRECTIONAL_SEQUENCE_LSTM" and len(operator.inputs) > _CELL and operator.inputs[_CELL] >= 0:
        yield from [tensors[operator.inputs[_CELL]].nbytes] * 4  # the gates
    elif operator.name == "SVDF" and len(operands) > 2 and operands[0].shape and operands[1].shape:
        yield 4 * operands[0].shape[0] * operands[1].shape[0]  # 32-bit sums or floats, of every filter
        if operands[0].dtype == "int8":
            yield 4 * output.count  # the same of every output
