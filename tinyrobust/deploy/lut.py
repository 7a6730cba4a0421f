"""A `.tflite` whose weights TensorFlow Lite Micro looks up in tables while it runs: less flash, more RAM.

The wheel's compression packs the weights of a layer as indices into the few values that each channel has, and puts an operator
before the layer that decodes them into the arena. So it is for weights of few values, and every decoded tensor costs RAM.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinyrobust.deploy import tflm
from tinyrobust.deploy.artefact import Artefact, Tensor
from tinyrobust.deploy.tflm import Raw
from tinyrobust.errors import MissingToolError, ModelFileError
from tinyrobust.progress import Progress, silent

_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_WIDEST = 7  # bits of an index
_OVERHEAD = 200  # bytes of an operator and its tensors in the file, about; scales and zero points are there once more
_TIMEOUT = 600
_PROBES = 3


@dataclass(frozen=True, eq=False, slots=True)
class Compressed:
    """What look-up tables do to a file.

    Attributes:
        content: The compressed file; empty where no weights can be made smaller.
        before: Bytes of the file as it was.
        arena_before: Bytes of the smallest arena that ran the file as it was.
        arena: The same of the compressed file; 0 where there is none.
        equal: Inputs with equal outputs.
        n: Inputs.
    """

    content: bytes
    before: int
    arena_before: int
    arena: int
    equal: int
    n: int

    @property
    def pays(self) -> bool:
        """Whether it answers the same, and spares more flash than it takes RAM."""
        return bool(self.content) and self.equal == self.n and self.saved > self.added

    @property
    def saved(self) -> int:
        """Bytes of flash that are spared; the code of the operator that decodes is not counted."""
        return self.before - len(self.content) if self.content else 0

    @property
    def added(self) -> int:
        """Bytes of RAM that it takes more."""
        return self.arena - self.arena_before if self.content else 0


def compress(artefact: Artefact, inputs: Raw, progress: Progress = silent) -> Compressed:
    """Compresses the weights that get smaller by it, and measures flash, RAM and outputs of both files.

    Args:
        artefact: Any `.tflite` that TensorFlow Lite Micro runs, with one input and one output.
        inputs: Raw inputs on which both files are compared, int8 [n, bytes].
        progress: Called at every step.

    Raises:
        MissingToolError: The extra `mcu` is not installed.
        ModelFileError: The wheel does not compress the file, or TensorFlow Lite Micro does not run it.
    """
    name = str(artefact.path)
    expected = tflm.outputs(artefact.path, inputs, progress)
    before = tflm.arena_of(artefact.content, name, inputs[:_PROBES], progress)
    wanted = tables(artefact)
    if not wanted:
        return Compressed(b"", artefact.size, before, 0, 0, len(inputs))
    content = _compressed(artefact, wanted)
    equal = (tflm.outputs_of(content, name, inputs, progress) == expected).all(axis=1)
    arena = tflm.arena_of(content, name, inputs[:_PROBES], progress)
    return Compressed(content, artefact.size, before, arena, int(equal.sum()), len(inputs))


def tables(artefact: Artefact) -> list[dict[str, int | None]]:
    """The weights that tables make smaller: tensor, bits of an index, and axis of the channels (None with a single scale).

    A table for the whole tensor is right only where the tensor has one scale: over several channels it silently gives garbage.
    """
    specs: dict[int, dict[str, int | None]] = {}
    for operator in artefact.operators:
        index = operator.inputs[1] if operator.name in _WITH_WEIGHTS and len(operator.inputs) > 1 else -1
        tensor = artefact.tensors[index] if index >= 0 else None
        if tensor is None or tensor.data is None or tensor.dtype != "int8":
            continue
        axis = tensor.quantized_dimension if tensor.per_channel else None
        values = _most_values(tensor, axis)
        bits = max(1, (values - 1).bit_length())
        rows = tensor.shape[axis] if axis is not None else 1
        packed = -(-tensor.count * bits // 8) + values * rows + tensor.quantization_bytes + _OVERHEAD
        if bits <= _WIDEST and packed < tensor.count:
            specs[index] = {"tensor": index, "bits": bits, "axis": axis}
    return list(specs.values())


def _most_values(tensor: Tensor, axis: int | None) -> int:
    data = np.asarray(tensor.data)
    rows = data.reshape(1, -1) if axis is None else np.moveaxis(data, axis, 0)
    return max(np.unique(row).size for row in rows)


def _compressed(artefact: Artefact, wanted: list[dict[str, int | None]]) -> bytes:
    """The file as the wheel compresses it, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="tinyrobust-") as work:
        source, sink = Path(work, "model.tflite"), Path(work, "compressed.tflite")
        source.write_bytes(artefact.content)
        worker = Path(__file__).with_name("lut_worker.py")
        command = [sys.executable, str(worker), str(source), json.dumps(wanted), str(sink)]
        try:
            result = subprocess.run(  # noqa: S603 - our own script
                command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise ModelFileError(f"{artefact.path}: Expected its compression to end within {_TIMEOUT} s.") from error
        if result.returncode or not sink.is_file():
            reason = result.stderr.strip().rpartition("\n")[2] or f"it ended with status {result.returncode}"
            if "tflite_micro.compression" in reason or reason.startswith(("ImportError", "ModuleNotFoundError")):
                raise MissingToolError(
                    f"Expected a tflite-micro that can compress. Received: {reason}",
                    hint="pip install --force-reinstall 'tinyrobust[mcu]'.",
                )
            raise ModelFileError(f"{artefact.path} cannot be compressed by tflite-micro: {reason}")
        return sink.read_bytes()
