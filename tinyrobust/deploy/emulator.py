"""Runs generated C on an emulated microcontroller: what it answers, and what it costs there.

Instructions, not cycles: QEMU knows no pipeline, no caches and no flash wait states. With `-icount shift=0` an instruction
takes one nanosecond of the board's clock, which the firmware reads; figures are the same on every machine and in every run,
to within one tick (40 instructions on boards of 25 MHz).
"""

import re
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyrobust.deploy import firmware
from tinyrobust.deploy.firmware import Optimisation
from tinyrobust.deploy.linkmap import ObjectSize
from tinyrobust.errors import TinyRobustError
from tinyrobust.progress import Progress, silent

_LINE = re.compile(r"(\w+) (\d+) (\d+)")


@dataclass(frozen=True, eq=False, slots=True)
class Emulation:
    """What a model does and costs on an emulated board.

    Attributes:
        board: QEMU's name of the board.
        optimisation: The compiler's optimisation.
        outputs: The raw outputs, int8 [n, bytes].
        instructions: Of each of the n inferences.
        layers: Instructions of each layer, of the first input; with the hooks between layers, which cost a few themselves.
        stack: Bytes of stack that one inference touches, the call of the model included.
        objects: Bytes of the model's objects and of what it links from libraries.
    """

    board: str
    optimisation: Optimisation
    outputs: npt.NDArray[np.int8]
    instructions: tuple[int, ...]
    layers: tuple[int, ...]
    stack: int
    objects: tuple[ObjectSize, ...]

    @property
    def code(self) -> int:
        """Bytes of instructions in flash."""
        return sum(one.code for one in self.objects)

    @property
    def rodata(self) -> int:
        """Bytes of constants in flash: weights, tables, descriptions."""
        return sum(one.rodata for one in self.objects)

    @property
    def data(self) -> int:
        """Bytes of variables with initial values: in flash and in RAM."""
        return sum(one.data for one in self.objects)

    @property
    def bss(self) -> int:
        """Bytes of variables that start as zero: the arena."""
        return sum(one.bss for one in self.objects)


def emulate(
    folder: str | Path,
    name: str,
    inputs: npt.NDArray[np.int8],
    *,
    board: str = "mps2-an386",
    optimisation: Optimisation = "-Os",
    timeout: float = 600,
    progress: Progress = silent,
) -> Emulation:
    """Builds generated C for an emulated board and runs it there.

    Args:
        folder: Holds `<name>.c`, `<name>.h` and the kernels, as the generator writes them.
        name: The model's name in C.
        inputs: Raw inputs, int8 [n, bytes] with n from 1.
        board: QEMU's name of the board; see `tinyrobust.deploy.firmware.boards`.
        optimisation: The compiler's optimisation.
        timeout: Seconds for each of the steps: two builds, and a run of each.
        progress: Called at every step.

    Raises:
        MissingToolError: Compiler, make or emulator are not installed; the hint is the line that installs them.
        TinyRobustError: The inputs do not fit, the C does not build, or the program fails or takes too long.
    """
    if inputs.ndim != 2 or inputs.dtype != np.int8 or not inputs.size:
        raise TinyRobustError(f"Expected int8 inputs of shape [n, bytes]. Received: {inputs.dtype} of shape {inputs.shape}")
    firmware.require()
    with tempfile.TemporaryDirectory(prefix="tinyrobust-") as work:
        plain, hooked = Path(work, "plain"), Path(work, "profile")
        build = partial(firmware.build, Path(folder), name, board=board, optimisation=optimisation, timeout=timeout)
        progress("emulate", 0, 4)
        built = build(plain)
        progress("emulate", 1, 4)
        said, outputs = built.run(inputs.tobytes(), timeout)
        measured = _report(said)
        if len(measured["inference"]) != len(inputs):
            raise TinyRobustError(
                f"Expected inputs of as many bytes as {name!r} takes. Received: {len(inputs)} inputs of {inputs.shape[1]} bytes"
            )
        progress("emulate", 2, 4)
        profiled = build(hooked, profile=True)
        progress("emulate", 3, 4)
        said_of_layers, _ = profiled.run(inputs[:1].tobytes(), timeout)
        progress("emulate", 4, 4)
    return Emulation(
        board=board,
        optimisation=optimisation,
        outputs=np.frombuffer(outputs, np.int8).reshape(len(inputs), -1),
        instructions=measured["inference"],
        layers=_report(said_of_layers)["layer"],
        stack=measured["stack"][0],
        objects=built.objects,
    )


def _report(said: str) -> dict[str, tuple[int, ...]]:
    """What the firmware printed: values by kind, ticks of the clock turned into instructions."""
    lines = [match.groups() for line in said.splitlines() if (match := _LINE.fullmatch(line))]
    hertz = next(int(value) for what, _, value in lines if what == "clock_hz")
    figures: dict[str, tuple[int, ...]] = {"inference": (), "layer": (), "stack": ()}
    for what, _, value in lines:
        if what in figures:
            ticks = what != "stack"
            figures[what] += (int(value) * 10**9 // hertz if ticks else int(value),)
    return figures
