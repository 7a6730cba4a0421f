"""From a `.tflite` to what its generated C does and costs on an emulated board, in one call."""

import tempfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from tinyrobust.deploy import firmware, tflm
from tinyrobust.deploy.artefact import Artefact, read
from tinyrobust.deploy.cgen.generate import LayerNote, generate
from tinyrobust.deploy.cycles.instructions import UnpricedError
from tinyrobust.deploy.cycles.modelled import modelled
from tinyrobust.deploy.deploy_records import DeviceLayer, DeviceObject, DeviceRecord, ModelledCycles
from tinyrobust.deploy.emulator import Emulation, emulate
from tinyrobust.deploy.firmware import Optimisation
from tinyrobust.deploy.probing import Inputs, dequantized, inner, probes, quantized
from tinyrobust.errors import MissingToolError
from tinyrobust.progress import Progress, silent


def measure(
    tflite: str | Path,
    inputs: Inputs | None = None,
    *,
    board: str = "mps2-an386",
    optimisation: Optimisation = "-Os",
    timeout: float = 600,
    cycles: bool = False,
    progress: Progress = silent,
) -> DeviceRecord:
    """Generates the C of a model, runs it on an emulated board, and compares its outputs with TensorFlow Lite Micro's.

    Args:
        tflite: Any int8 `.tflite` whose operators the generator supports; float ends around it are the C's caller's, and done
            here as TensorFlow Lite Micro does them.
        inputs: What is run; three `probes` when absent.
        board: QEMU's name of the board; see `tinyrobust.deploy.firmware.boards`.
        optimisation: The compiler's optimisation.
        timeout: Seconds for each step of building and running.
        cycles: Model the cycles of the first input too, on each core that is modelled, whatever the board. Where that cannot be
            had here, the record says why.
        progress: Called at every step.

    Raises:
        MissingToolError: Compiler, make or emulator are not installed.
        ModelFileError: The file is missing, corrupt, or uses what the generator does not support.
        TinyRobustError: The program fails or takes too long.
    """
    firmware.require()
    artefact = read(tflite)
    inputs = inputs or probes(artefact, 3)
    raw = quantized(artefact, inputs.raw)
    with tempfile.TemporaryDirectory(prefix="tinyrobust-") as work:
        generated = generate(artefact, artefact.path.stem, Path(work))
        emulation = emulate(
            work, generated.name, raw, board=board, optimisation=optimisation, timeout=timeout, progress=progress
        )
        ends = raw[0].tobytes(), emulation.outputs[0].tobytes()
        cycled, missing = _cycles(work, generated.name, ends, optimisation, timeout, progress) if cycles else ([], "")
    golden, equal = _against_golden(artefact, inputs, emulation, progress)
    return DeviceRecord(
        model=artefact.path.name,
        sha256=artefact.sha256,
        board=board,
        core=firmware.boards()[board],
        compiler=firmware.compiler(),
        optimisation=optimisation,
        **_bytes(emulation),
        instructions=max(emulation.instructions),
        layers=[_layer(note, instructions) for note, instructions in zip(generated.layers, emulation.layers, strict=True)],
        inputs=inputs.source,
        n=len(inputs.raw),
        golden=golden,
        equal=equal,
        right=None if inputs.labels is None else _right(artefact, emulation, inputs.labels),
        cycles=cycled,
        cycles_missing=missing,
    )


def _cycles(
    folder: str, name: str, ends: tuple[bytes, bytes], optimisation: Optimisation, timeout: float, progress: Progress
) -> tuple[list[ModelledCycles], str]:
    """Modelled cycles of one input; none and the reason where tools are missing or an instruction's time is not known."""
    try:
        return modelled(Path(folder), name, *ends, optimisation=optimisation, timeout=timeout, progress=progress), ""
    except (MissingToolError, UnpricedError) as error:
        return [], str(error)


class _Bytes(TypedDict):
    code: int
    rodata: int
    data: int
    bss: int
    output_bytes: int
    stack: int
    objects: list[DeviceObject]


def _bytes(emulation: Emulation) -> _Bytes:
    return {
        "code": emulation.code,
        "rodata": emulation.rodata,
        "data": emulation.data,
        "bss": emulation.bss,
        "output_bytes": emulation.outputs.shape[1],
        "stack": emulation.stack,
        "objects": [DeviceObject(**asdict(one)) for one in emulation.objects],
    }


def _against_golden(artefact: Artefact, inputs: Inputs, emulation: Emulation, progress: Progress) -> tuple[str, int | None]:
    """What the outputs were compared with, and inputs with all outputs equal; where it cannot be asked, why not, and None."""
    if reason := tflm.missing():
        return f"not asked: {reason}", None
    golden = tflm.outputs(artefact.path, inputs.raw, progress)
    equal = int((dequantized(artefact, emulation.outputs) == golden).all(axis=1).sum())
    return f"tflite-micro {metadata.version('tflite-micro')}", equal


def _layer(note: LayerNote, instructions: int) -> DeviceLayer:
    return DeviceLayer(
        index=note.index,
        name=note.name,
        op=note.op,
        kernel=note.kernel,
        weights=note.weights,
        requantization=note.form,
        macs=note.macs,
        weight_bytes=note.weight_bytes,
        table_bytes=note.table_bytes,
        scratch_bytes=note.scratch_bytes,
        instructions=instructions,
    )


def _right(artefact: Artefact, emulation: Emulation, labels: npt.NDArray[np.int64]) -> int:
    dtype = inner(artefact, artefact.outputs[0], "DEQUANTIZE").dtype
    return int((emulation.outputs.view(dtype).argmax(axis=1) == labels).sum())
