"""The footprint of any `.tflite` file: flash and RAM, operator by operator and in total, each figure with its provenance."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from tinyrobust.deploy import micro, tflm
from tinyrobust.deploy.artefact import Artefact, read
from tinyrobust.errors import MissingToolError, ModelFileError
from tinyrobust.footprint import planner, remarks
from tinyrobust.footprint.boards import FIT_COUNTS, fit
from tinyrobust.footprint.boards import boards as named_boards
from tinyrobust.footprint.device import on_device
from tinyrobust.footprint.footprint_record import FootprintRecord, Provenance, Quantity, TensorLifetime
from tinyrobust.footprint.layers import Constants, constants, layer
from tinyrobust.progress import Progress, silent


def footprint(
    path: str | Path,
    boards: Sequence[str] = (),
    *,
    device: bool = False,
    inputs: int = 3,
    progress: Progress = silent,
) -> FootprintRecord:
    """What a model costs on a microcontroller.

    Weights are recognised from their values: a `.tflite` stores a ternary weight in 8 bits, and it needs 2. MACs are those of
    convolutions, depthwise convolutions and dense layers; every other operator (pooling, addition, softmax) counts 0.

    Args:
        path: A `.tflite` file, ours or anybody's.
        boards: Boards of `export/boards/`, by name, to compare with; all of them when empty.
        device: Also generate the C, compile and emulate it, and find the arena that TensorFlow Lite Micro really needs. Takes
            seconds, and what the machine has no tools for is left out and said.
        inputs: How many inputs the C is then run on.
        progress: Called for these.

    Raises:
        ModelFileError: The file is missing, corrupt, or of a kind that cannot be sized.
        TinyRobustError: There is no such board.
    """
    artefact = read(path)
    chosen = named_boards(boards)
    learned = constants(artefact)
    plan = planner.schedule(artefact)
    buffers, offsets = plan.buffers, planner.place(plan.buffers)
    alive = planner.alive(buffers, plan.spans[-1][1] + 1)
    arena = planner.head(buffers, offsets)
    layers = [
        layer(artefact, op, own, max(alive[start : end + 1]))
        for op, own, (start, end) in zip(artefact.operators, learned, plan.spans, strict=True)
    ]
    runtime = _Runtime.of(artefact, arena, len(buffers), device=device, progress=progress)
    generated, missing = (None, "")
    if device:
        weight_count = sum({w.tensor.buffer: w.tensor.count for own in learned for w in own.weights}.values())
        generated, missing = on_device(artefact, weight_count, chosen, inputs, progress)
    return FootprintRecord(
        model=artefact.path.name,
        sha256=artefact.sha256,
        **_interface(artefact),
        **_flash(artefact, learned),
        macs=_quantity(sum(one.macs for one in layers), "MAC", "computed", "from shapes; padding included, one inference"),
        arena=_quantity(arena, "B", "computed", _arena_how(artefact, tflm.missing() if device else "")),
        tflm_flash=runtime.flash,
        tflm_arena=runtime.arena,
        tflm_own=runtime.own,
        tflm_ram=runtime.ram,
        tflm_refused=runtime.refused,
        layers=layers,
        lifetimes=_lifetimes(plan, offsets),
        boards=[fit(board, runtime.flash.value, runtime.ram.value, runs=not runtime.refused) for board in chosen],
        fit_counts=FIT_COUNTS,
        device=generated,
        device_missing=missing,
    )


class _Interface(TypedDict):
    """What goes in and out, and which kind of file it is."""

    operators: list[str]
    input_shape: list[int]
    output_shape: list[int]
    inputs: list[str]
    outputs: list[str]
    kind: str
    remarks: list[str]


def _interface(artefact: Artefact) -> _Interface:
    return {
        "operators": sorted({operator.name for graph in artefact.graphs for operator in graph.operators}),
        "input_shape": list(artefact.tensors[artefact.inputs[0]].shape),
        "output_shape": list(artefact.tensors[artefact.outputs[0]].shape),
        "inputs": [remarks.described(artefact.tensors[index]) for index in artefact.inputs],
        "outputs": [remarks.described(artefact.tensors[index]) for index in artefact.outputs],
        "kind": micro.kind(artefact),
        "remarks": remarks.remarks(artefact),
    }


@dataclass(frozen=True)
class _Runtime:
    """What TensorFlow Lite Micro takes with a file, and why it does not run it, where it does not."""

    flash: Quantity
    own: Quantity
    ram: Quantity
    arena: Quantity | None
    refused: str

    @classmethod
    def of(cls, artefact: Artefact, head: int, buffers: int, *, device: bool, progress: Progress) -> "_Runtime":
        refused, own = _refused(artefact, ask=device), _tflm_own(artefact)
        measured = _tflm_arena(artefact, progress) if device and not refused else None
        ram = _tflm_ram(measured, head, own.value, micro.planning(artefact, buffers))
        return cls(_tflm_flash(artefact), own, ram, measured, refused)


def _lifetimes(plan: planner.Schedule, offsets: Sequence[int]) -> list[TensorLifetime]:
    return [
        TensorLifetime(
            name=buffer.name,
            bytes=buffer.size,
            first=plan.operator(buffer.first),
            last=plan.operator(buffer.last),
            offset=offset,
        )
        for buffer, offset in zip(plan.buffers, offsets, strict=True)
    ]


def arena_head(path: str | Path) -> int:
    """Bytes of the tensor arena that TensorFlow Lite Micro plans for a `.tflite` file: its "head".

    Raises:
        ModelFileError: The file is missing or corrupt.
    """
    buffers = planner.buffers(read(path))
    return planner.head(buffers, planner.place(buffers))


def _flash(artefact: Artefact, learned: Sequence[Constants]) -> dict[str, Quantity]:
    """Where the bytes of the file go; constants that operators or tensors share count once."""
    weights = {w.tensor.buffer: w for own in learned for w in own.weights}
    biases = {t.buffer: t for own in learned for t in own.biases if t.buffer not in weights}
    stored = sum(w.tensor.stored_bytes for w in weights.values())
    packed = sum(w.bytes_packed for w in weights.values())
    bias = sum(t.stored_bytes for t in biases.values())
    metadata = sum(t.quantization_bytes for t in artefact.tensors)
    rest = artefact.size - stored - bias - metadata
    return {
        "file": _quantity(artefact.size, "B", "measured", "size of the file"),
        "weights_stored": _quantity(stored, "B", "measured", "weight buffers in the file"),
        "weights_packed": _quantity(packed, "B", "computed", "the same weights at the bits that their values need"),
        "bias": _quantity(bias, "B", "measured", "bias buffers in the file"),
        "quantization": _quantity(metadata, "B", "measured", "scales (4 B), zero points (8 B) and ranges (4 B) in the file"),
        "structure": _quantity(rest, "B", "computed", "the rest of the file: graph, names, options, shapes, other constants"),
    }


def _refused(artefact: Artefact, *, ask: bool) -> str:
    """Why TensorFlow Lite Micro does not run a file: asked itself where it can be, else told from the file."""
    known = micro.refused(artefact)
    if ask and tflm.available():
        said = tflm.refuses(artefact)
        return (known or said) if said else ""
    return known


def _tflm_arena(artefact: Artefact, progress: Progress) -> Quantity | None:
    """The arena that TensorFlow Lite Micro really needs; None where it is not installed or does not run the file."""
    try:
        size = tflm.arena(artefact.path, progress)
    except (MissingToolError, ModelFileError):
        return None
    return _quantity(
        size, "B", "measured", "the smallest in which TensorFlow Lite Micro runs, its own data included; 64-bit build"
    )


def _tflm_flash(artefact: Artefact) -> Quantity:
    code = micro.code(artefact)
    how = f"the file and {code} of code: {micro.CODE} and {micro.CODE_OF_A_KIND} for each kind of operator (Cortex-M4F, -Os)"
    return _quantity(artefact.size + code, "B", "estimated", how)


def _tflm_own(artefact: Artefact) -> Quantity:
    how = (
        "a bound on what a 64-bit build keeps beside activations: tensors, operators, scales, variables; 32 bits: a fifth less"
    )
    return _quantity(micro.persistent(artefact), "B", "computed", how)


def _tflm_ram(measured: Quantity | None, head: int, own: int, planning: int) -> Quantity:
    """All of its RAM; while it plans, it has the arena's head for lists of tensors and buffers (`planning` bytes)."""
    stack = f"stack and static data {micro.STACK} (assumed)"
    if measured is not None:
        how = f"arena {measured.value} (measured, its own data included), {stack}"
        return _quantity(measured.value + micro.STACK, "B", "estimated", how)
    first = f"head {head}" if head >= planning else f"head {head}, while planning {planning}"
    how = f"{first}, its own data {own} (a bound), {stack}"
    return _quantity(max(head, planning) + own + micro.STACK, "B", "estimated", how)


def _arena_how(artefact: Artefact, not_asked: str) -> str:
    """How the arena was computed; `not_asked` is why TensorFlow Lite Micro could not confirm it, empty where it could."""
    how = "TensorFlow Lite Micro's greedy plan of tensors and reference kernels' scratch buffers, 16-byte aligned"
    unknown = sorted({o.name for o in artefact.operators if o.name.startswith("CUSTOM:")})
    how = f"{how}; without the scratch buffers of {', '.join(unknown)}" if unknown else how
    return f"{how}; TensorFlow Lite Micro was not asked: {not_asked}" if not_asked else how


def _quantity(value: int, unit: Literal["B", "MAC", "bit"], provenance: Provenance, how: str) -> Quantity:
    return Quantity(value=value, unit=unit, provenance=provenance, how=how)
