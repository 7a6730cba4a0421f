"""The tensor arena, planned as TensorFlow Lite Micro does: which buffers are alive when, and where each lies.

Source: TensorFlow Lite Micro, `micro_allocation_info.cc` (lifetimes), `greedy_memory_planner.cc` (placement) and, for
scratch buffers, the `Prepare` functions of the reference kernels. Tests hold the result against the recording allocator of
the `tflite-micro` wheel. A plan that a compiler left in the file's metadata is not followed.
"""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinyrobust.deploy.artefact import Artefact, Operator

ALIGNMENT = 16

# Kernels that ask for scratch buffers which are not modelled here.
UNKNOWN_SCRATCH = frozenset({"BATCH_MATMUL", "LSTM", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM"})

_WITH_UNPACKED_WEIGHTS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_REDUCTIONS = frozenset({"MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"})


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes of the arena, alive from step `first` to step `last`, both included. Operator i is step i; -1 is before all."""

    name: str
    size: int
    first: int
    last: int


def buffers(artefact: Artefact) -> list[Buffer]:
    """The buffers that the arena holds: activations in the order of the file, then the kernels' scratch buffers.

    Sizes are rounded up to 16 bytes. Variable tensors and tensors that nothing uses are not there.
    """
    first: dict[int, int] = dict.fromkeys((*artefact.inputs, *artefact.outputs), -1)
    last = dict(first)
    for operator in artefact.operators:
        first.update(dict.fromkeys(operator.outputs, operator.index))
        last.update(dict.fromkeys((*operator.inputs, *operator.outputs), operator.index))
    last.update(dict.fromkeys(artefact.outputs, len(artefact.operators) - 1))
    activations = [
        Buffer(short(tensor.name), _aligned(tensor.nbytes), first[tensor.index], last[tensor.index])
        for tensor in artefact.tensors
        if tensor.data is None and not tensor.variable and tensor.nbytes and tensor.index in first
    ]
    scratch = [
        Buffer(f"scratch of {operator.name}", _aligned(size), operator.index, operator.index)
        for operator in artefact.operators
        for size in _scratch(artefact, operator)
    ]
    return activations + scratch


def place(wanted: Sequence[Buffer]) -> list[int]:
    """Where each buffer starts: the largest first, each in the first gap between those alive at the same time.

    Of buffers of equal size the one that comes later in the list is placed earlier, as TensorFlow Lite Micro does.
    """
    offsets = [0] * len(wanted)
    placed: list[int] = []  # by rising offset
    starts: list[int] = []
    for index in sorted(range(len(wanted)), key=lambda i: (-wanted[i].size, -i)):
        buffer = wanted[index]
        offset = 0
        for other in placed:
            if wanted[other].first > buffer.last or buffer.first > wanted[other].last:
                continue
            if offsets[other] - offset >= buffer.size:
                break
            offset = max(offset, offsets[other] + wanted[other].size)
        offsets[index] = offset
        position = bisect.bisect_right(starts, offset)
        placed.insert(position, index)
        starts.insert(position, offset)
    return offsets


def head(wanted: Sequence[Buffer], offsets: Sequence[int]) -> int:
    """Bytes of the arena that placed buffers take: TensorFlow Lite Micro's "head"."""
    return max((offset + buffer.size for buffer, offset in zip(wanted, offsets, strict=True)), default=0)


def alive(wanted: Sequence[Buffer], steps: int) -> list[int]:
    """Bytes alive at each of `steps` steps. No plan can be smaller than the largest of them."""
    change = [0] * (steps + 2)
    for buffer in wanted:
        change[buffer.first + 1] += buffer.size
        change[buffer.last + 2] -= buffer.size
    total, totals = 0, []
    for difference in change[:-1]:
        total += difference
        totals.append(total)
    return totals[1:]


def short(name: str) -> str:
    """A tensor's name up to the first semicolon: converters join the names of everything they fused."""
    return name.split(";", 1)[0]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _scratch(artefact: Artefact, operator: Operator) -> Iterator[int]:
    """Bytes of each scratch buffer that the reference kernel of `operator` asks for."""
    operands = [artefact.tensors[i] for i in operator.inputs if i >= 0]
    if operator.name in _WITH_UNPACKED_WEIGHTS and len(operands) > 1 and operands[1].dtype == "int4":
        yield operands[1].count  # the weights, unpacked to int8
    elif operator.name == "TRANSPOSE_CONV" and len(operands) > 2 and operands[2].dtype == "int8":
        yield 4 * artefact.tensors[operator.outputs[0]].count  # 32-bit sums
    elif operator.name in _REDUCTIONS and len(operands) > 1:
        if operator.name in ("MEAN", "SUM") and operands[0].dtype in ("int8", "int16"):
            yield 4 * artefact.tensors[operator.outputs[0]].count  # 32-bit sums
        yield 4 * len(operands[0].shape)  # a position
        yield 4 * operands[1].count  # the axes
