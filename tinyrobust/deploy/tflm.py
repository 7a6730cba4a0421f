"""TensorFlow Lite Micro itself, through the pinned `tflite-micro` wheel: the golden outputs, and the arena it really needs.

Every call runs in a process of its own (`tflm_worker.py`): with too small an arena the interpreter may crash, and in a large
one nothing else can go wrong with ours.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyrobust.deploy.artefact import Artefact, read
from tinyrobust.errors import MissingToolError, ModelFileError
from tinyrobust.progress import Progress, silent

Raw = npt.NDArray[np.int8]

ARENA_STEP = 16
_AMPLE = 2**24  # more than any model that `artefact.read` admits for a microcontroller plans
_CHUNK = 100
_TIMEOUT = 600
_PROBES = 3


def available() -> bool:
    """Whether the wheel is installed."""
    return importlib.util.find_spec("tflite_micro") is not None


def outputs(model: str | Path, inputs: Raw, progress: Progress = silent) -> Raw:
    """The golden: raw outputs of TensorFlow Lite Micro's reference kernels.

    Args:
        model: A `.tflite` file with one input and one output.
        inputs: Raw inputs, int8 [n, bytes].
        progress: Told of every hundred inputs.

    Returns:
        Raw outputs, int8 [n, bytes].

    Raises:
        MissingToolError: The extra `mcu` is not installed.
        ModelFileError: The file is corrupt, or TensorFlow Lite Micro cannot run it.
    """
    artefact = _single(model)
    return outputs_of(artefact.content, str(artefact.path), inputs, progress)


def outputs_of(content: bytes, name: str, inputs: Raw, progress: Progress = silent) -> Raw:
    """The golden of a file that is at hand, and that need not be one that `artefact.read` understands.

    Args:
        content: The bytes of a `.tflite` with one input and one output.
        name: What errors call it.
        inputs: Raw inputs, int8 [n, bytes].
        progress: Told of every hundred inputs.

    Raises:
        ModelFileError: TensorFlow Lite Micro cannot run it.
    """
    parts = []
    for start in range(0, len(inputs), _CHUNK):
        progress("TensorFlow Lite Micro", start, len(inputs))
        answer, reason = _run(content, inputs[start : start + _CHUNK], _AMPLE)
        if answer is None:
            raise ModelFileError(f"{name} cannot be run by TensorFlow Lite Micro: {reason}")
        parts.append(answer)
    progress("TensorFlow Lite Micro", len(inputs), len(inputs))
    return np.concatenate(parts)


def arena(model: str | Path, progress: Progress = silent) -> int:
    """Bytes of the smallest tensor arena with which TensorFlow Lite Micro answers as it does in an ample one.

    Found by bisection, in steps of 16 bytes. The wheel is a 64-bit build, whose own data are about twice as large as on a
    microcontroller: what runs here fits there. What the interpreter itself reports as used can be too small to run.

    Args:
        model: A `.tflite` file with one input and one output.
        progress: Told of every size tried.

    Raises:
        MissingToolError: The extra `mcu` is not installed.
        ModelFileError: The file is corrupt, or TensorFlow Lite Micro cannot run it.
    """
    artefact = _single(model)
    size = artefact.tensors[artefact.inputs[0]].nbytes
    probes = np.random.default_rng(0).integers(-128, 128, (_PROBES, size), dtype=np.int8)
    return arena_of(artefact.content, str(artefact.path), probes, progress)


def arena_of(content: bytes, name: str, probes: Raw, progress: Progress = silent) -> int:
    """The smallest arena, as `arena` finds it, of a file that is at hand.

    Args:
        content: The bytes of a `.tflite` with one input and one output.
        name: What errors call it.
        probes: The raw inputs on which it has to answer as in an ample arena, int8 [n, bytes].
        progress: Told of every size tried.

    Raises:
        ModelFileError: TensorFlow Lite Micro cannot run it.
    """
    expected = outputs_of(content, name, probes)

    def runs(steps: int) -> bool:
        answer, _ = _run(content, probes, steps * ARENA_STEP)
        return answer is not None and np.array_equal(answer, expected)

    tried, low, high = 0, 0, 64
    while not runs(high):
        tried, low, high = tried + 1, high, 2 * high
        progress("arena", tried, tried + high.bit_length())
    total = tried + 1 + (high - low - 1).bit_length()
    tried += 1
    progress("arena", tried, total)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if runs(middle) else (middle, high)
        tried += 1
        progress("arena", tried, total)
    if tried < total:
        progress("arena", total, total)
    return high * ARENA_STEP


def _single(model: str | Path) -> Artefact:
    if not available():
        raise MissingToolError(
            "Expected the package tflite-micro, which holds TensorFlow Lite Micro. Received: it is not installed",
            hint="pip install 'tinyrobust[mcu]' (Linux on x86-64).",
        )
    artefact = read(model)
    if len(artefact.inputs) != 1 or len(artefact.outputs) != 1:
        raise ModelFileError(
            f"{artefact.path}: Expected one input and one output. "
            f"Received: {len(artefact.inputs)} inputs and {len(artefact.outputs)} outputs"
        )
    return artefact


def _run(content: bytes, inputs: Raw, arena_bytes: int) -> tuple[Raw | None, str]:
    """What the model answers in an arena of this size; None and the reason where it does not."""
    with tempfile.TemporaryDirectory(prefix="tinyrobust-") as work:
        model, source, sink = Path(work, "model.tflite"), Path(work, "inputs.npy"), Path(work, "outputs.npy")
        model.write_bytes(content)  # what was checked, and not what the file may have become
        np.save(source, inputs)
        worker = Path(__file__).with_name("tflm_worker.py")
        command = [sys.executable, str(worker), str(model), str(arena_bytes), str(source), str(sink)]
        try:
            result = subprocess.run(  # noqa: S603 - our own script
                command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return None, f"it did not end within {_TIMEOUT} s"
        if result.returncode or not sink.is_file():
            return None, result.stderr.strip().rpartition("\n")[2] or f"it ended with status {result.returncode}"
        answer: Raw = np.load(sink, allow_pickle=False)
        return answer, ""
