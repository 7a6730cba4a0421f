"""TensorFlow Lite Micro itself, through the pinned `tflite-micro` wheel: the golden outputs, and the arena it really needs.

Every call runs in a process of its own (`sandbox.py`): with too small an arena the interpreter may crash, and in a large one
nothing else can go wrong with ours.
"""

import functools
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyrobust.deploy.artefact import Artefact, read
from tinyrobust.deploy.probing import probes
from tinyrobust.deploy.sandbox import Limits, Refused, Sandbox, Sandboxes, import_failure, refusal
from tinyrobust.errors import MissingToolError
from tinyrobust.progress import Progress, silent

Raw = npt.NDArray[np.int8]

ARENA_STEP = 16
_AMPLE = 2**24  # more than any model that `artefact.read` admits for a microcontroller plans
_CHUNK = 100
_LIMITS = Limits(seconds=60)  # reference kernels are twenty times slower than the fast interpreter
_WHO = "TensorFlow Lite Micro"
_PROBES = 3


def available() -> bool:
    """Whether the wheel is installed and can be imported."""
    return not missing()


def missing() -> str:
    """Why TensorFlow Lite Micro cannot be asked: the wheel is not installed, or its import fails; empty when it can."""
    if importlib.util.find_spec("tflite_micro") is None:
        return "tflite-micro is not installed"
    failure = import_failure("tflm")
    return f"tflite-micro is installed, but {failure}" if failure else ""


def outputs(model: str | Path, inputs: Raw, progress: Progress = silent) -> Raw:
    """The golden: raw outputs of TensorFlow Lite Micro's reference kernels.

    Args:
        model: A `.tflite` file. One that keeps state is run on all inputs in their order, by one interpreter.
        inputs: Raw inputs, int8 [n, bytes]: those of one inference one after the other.
        progress: Called every hundred inputs.

    Returns:
        Raw outputs, int8 [n, bytes], likewise.

    Raises:
        MissingToolError: The extra `mcu` is not installed, or its import fails.
        ModelFileError: The file is corrupt, or TensorFlow Lite Micro cannot run it.
    """
    artefact = _readable(model)
    run = functools.partial(outputs_of, ends=_ends(artefact), stateful=artefact.stateful)
    return run(artefact.content, str(artefact.path), inputs, progress)


def outputs_of(
    content: bytes,
    name: str,
    inputs: Raw,
    progress: Progress = silent,
    *,
    ends: tuple[int, int] = (1, 1),
    stateful: bool = False,
) -> Raw:
    """The golden of a file that is at hand, and that need not be one that `artefact.read` understands.

    Args:
        content: The bytes of a `.tflite`.
        name: What errors call it.
        inputs: Raw inputs, int8 [n, bytes].
        progress: Called every hundred inputs.
        ends: How many inputs and outputs it has.
        stateful: An answer depends on the inputs before: all are run in their order, by one interpreter.

    Raises:
        MissingToolError: The extra `mcu` cannot be imported.
        ModelFileError: TensorFlow Lite Micro cannot run it.
    """
    parts = []
    try:
        sandboxes = (Sandbox if stateful else Sandboxes)("tflm", content, _LIMITS, arena=_AMPLE, ends=ends)
        for start in range(0, len(inputs), _CHUNK):
            progress("TensorFlow Lite Micro", start, len(inputs))
            parts.append(_answers(sandboxes, inputs[start : start + _CHUNK]))
    except (Refused, ValueError) as error:
        raise refusal(name, _WHO, Refused(str(error))) from error
    progress("TensorFlow Lite Micro", len(inputs), len(inputs))
    return np.concatenate(parts)


def arena(model: str | Path, progress: Progress = silent) -> int:
    """Bytes of the smallest tensor arena with which TensorFlow Lite Micro answers as it does in an ample one.

    Found by bisection, in steps of 16 bytes. The wheel is a 64-bit build, whose own data are about twice as large as on a
    microcontroller: what runs here fits there. What the interpreter itself reports as used can be too small to run.

    Args:
        model: A `.tflite` file.
        progress: Called for every size tried.

    Raises:
        MissingToolError: The extra `mcu` is not installed, or its import fails.
        ModelFileError: The file is corrupt, or TensorFlow Lite Micro cannot run it.
    """
    artefact = _readable(model)
    return arena_of(artefact.content, str(artefact.path), probes(artefact, _PROBES).raw, progress, ends=_ends(artefact))


def arena_of(content: bytes, name: str, inputs: Raw, progress: Progress = silent, *, ends: tuple[int, int] = (1, 1)) -> int:
    """The smallest arena, as `arena` finds it, of a file that is at hand.

    Args:
        content: The bytes of a `.tflite`.
        name: What errors call it.
        inputs: The raw inputs on which it has to answer as in an ample arena, int8 [n, bytes].
        progress: Called for every size tried.
        ends: How many inputs and outputs it has.

    Raises:
        MissingToolError: The extra `mcu` cannot be imported.
        ModelFileError: TensorFlow Lite Micro cannot run it.
    """
    expected = outputs_of(content, name, inputs, ends=ends, stateful=True)

    def runs(steps: int) -> bool:
        try:
            sandbox = Sandbox("tflm", content, _LIMITS, arena=steps * ARENA_STEP, ends=ends)
            return np.array_equal(_answers(sandbox, inputs), expected)
        except (Refused, ValueError):
            return False

    tried, low, high = 0, 0, 64
    while not runs(high):
        if high * ARENA_STEP >= _AMPLE:  # a damaged file may read what it never wrote
            raise refusal(name, _WHO, Refused("it does not answer the same twice"))
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


def refuses(artefact: Artefact) -> str:
    """Why TensorFlow Lite Micro does not run a file, as it says itself; empty where it does.

    Raises:
        MissingToolError: The extra `mcu` is not installed, or its import fails.
    """
    try:
        sandbox = Sandbox("tflm", artefact.content, _LIMITS, arena=_AMPLE, ends=_ends(artefact))
        _answers(sandbox, probes(artefact, 1).raw)
    except (Refused, ValueError) as error:
        return " ".join(str(error).split())
    return ""


def _ends(artefact: Artefact) -> tuple[int, int]:
    return len(artefact.inputs), len(artefact.outputs)


def _readable(model: str | Path) -> Artefact:
    if not available():
        raise MissingToolError(
            f"Expected the package tflite-micro, which holds TensorFlow Lite Micro. Received: {missing()}",
            hint="pip install --force-reinstall 'tinyrobust[mcu]' (Linux on x86-64).",
        )
    return read(model)


def _answers(sandbox: Sandbox | Sandboxes, inputs: Raw) -> Raw:
    """Raw outputs, int8 [n, bytes]."""
    return np.frombuffer(b"".join(sandbox.run(inputs)), np.int8).reshape(len(inputs), -1)
