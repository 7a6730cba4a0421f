"""Builds generated C into the firmware of an emulated board, and says what of it is the model's.

The firmware is `export/firmware/`, built by its own Makefile: what a user copies is what is measured here.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tinyrobust import assets
from tinyrobust.choices import no_such
from tinyrobust.deploy import linkmap
from tinyrobust.deploy.linkmap import ObjectSize
from tinyrobust.errors import MissingToolError, TinyRobustError

Optimisation = Literal["-Os", "-O2", "-O3"]

_PACKAGES = {
    "make": "make",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
}
_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class Firmware:
    """A program for an emulated board, and the bytes of it that belong to the model.

    Attributes:
        folder: Where it was built.
        objects: The model's own objects, its kernels and what it links from libraries; not start-up, clock and console.
    """

    folder: Path
    objects: tuple[ObjectSize, ...]
    _make: tuple[str, ...]

    @property
    def elf(self) -> Path:
        """The linked program."""
        return self.folder / "build" / "firmware.elf"

    def run(self, inputs: bytes, timeout: float = 300) -> tuple[str, bytes]:
        """Runs it on the emulated board.

        Args:
            inputs: The model's inputs, one after the other.
            timeout: Seconds.

        Returns:
            What it printed, and the model's outputs, one after the other.

        Raises:
            MissingToolError: The emulator is not installed.
            TinyRobustError: The program failed, or takes longer than `timeout`.
        """
        require(("make", "qemu-system-arm"))
        (self.folder / "inputs.bin").write_bytes(inputs)
        command = [*self._make, "INPUTS=../inputs.bin", "run"]
        result = _run(command, self.folder / "firmware", timeout, "the emulation")
        if result.returncode:
            raise TinyRobustError(f"The emulated firmware failed:\n{_end(result.stdout + result.stderr)}")
        return result.stdout, (self.folder / "build" / "outputs.bin").read_bytes()


def boards() -> dict[str, str]:
    """The emulated boards: QEMU's name to what it is, in a line."""
    files = sorted((assets.folder("export") / "firmware" / "boards").glob("*.mk"))
    return {file.stem: file.read_text().partition("\n")[0].removeprefix("# ").removesuffix(".") for file in files}


def require(tools: Iterable[str] = tuple(_PACKAGES)) -> None:
    """Checks that compiler, make and emulator are there.

    Raises:
        MissingToolError: One is not installed; the hint is the line that installs what is missing.
    """
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if "arm-none-eabi-gcc" not in missing and "arm-none-eabi-gcc" in tools and not _has_newlib():
        missing.append("arm-none-eabi-gcc")
    if missing:
        raise MissingToolError(
            f"Expected the tools {', '.join(tools)} to build and run a firmware. Received: no working {', '.join(missing)}",
            hint=f"sudo apt install {' '.join(_PACKAGES[tool] for tool in missing)}",
        )


def compiler() -> str:
    """The compiler's name and version, as it says.

    Raises:
        MissingToolError: It is not installed.
    """
    require(("arm-none-eabi-gcc",))
    answer = subprocess.run(["arm-none-eabi-gcc", "--version"], capture_output=True, text=True, timeout=30, check=True)  # noqa: S607
    return answer.stdout.partition("\n")[0]


def build(
    model: Path,
    name: str,
    folder: Path,
    *,
    board: str = "mps2-an386",
    optimisation: Optimisation = "-Os",
    profile: bool = False,
    cpu: str = "",
    timeout: float = 300,
) -> Firmware:
    """Compiles and links generated C with the firmware of a board.

    Args:
        model: The folder with `<name>.c`, `<name>.h` and the kernels it calls, as the generator writes them.
        name: The model's name in C.
        folder: Where everything is built; made when absent. Its path and `model`'s may hold any character.
        board: A name from `boards()`.
        optimisation: The compiler's optimisation.
        profile: Build in the hooks between layers. They cost flash, stack and time: measure nothing else on such a build.
        cpu: The compiler's flags for another core with the board's memory, which no emulated board has; the board's when empty.
        timeout: Seconds.

    Raises:
        MissingToolError: Compiler or make are not installed.
        TinyRobustError: There is no such board, the C does not compile, or it takes longer than `timeout`.
    """
    _check_board(board)
    require(("make", "arm-none-eabi-gcc"))
    # make takes no blanks in paths: what it sees is copied below one folder and named from there.
    leftovers = shutil.ignore_patterns("build")
    shutil.copytree(assets.folder("export") / "firmware", folder / "firmware", dirs_exist_ok=True, ignore=leftovers)
    shutil.copytree(model, folder / "model", dirs_exist_ok=True, ignore=_all_but_c)
    settings = [f"NAME={name}", f"BOARD={board}", f"OPT={optimisation}", f"PROFILE={int(profile)}"]
    settings += [f"CPU={cpu}"] if cpu else []
    make = ("make", "-s", *settings, "MODEL=../model", "BUILD=../build")
    result = _run(make, folder / "firmware", timeout, "building the firmware")
    if result.returncode:
        raise TinyRobustError(f"The C of {name!r} does not build for {board}:\n{_end(result.stdout + result.stderr)}")
    placed = linkmap.objects((folder / "build" / "firmware.map").read_text())
    own = tuple(replace(one, name=Path(one.name).name) for one in placed if not one.name.startswith("../build/firmware/"))
    return Firmware(folder, own, make)


def _run(command: Sequence[str], folder: Path, timeout: float, what: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in `folder`; when it takes longer than `timeout` seconds, it and its children are killed.

    Raises:
        TinyRobustError: It took longer.
    """
    with subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        errors="replace", start_new_session=True, env=_environment(),
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise TinyRobustError(
                f"Expected {what} to end within {timeout:g} s. Received: it was still running",
                hint="Fewer inputs, or a longer time limit.",
            ) from error
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _environment() -> dict[str, str]:
    """Ours, without what a make that runs us would hand down to the one that we run."""
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")}


def _check_board(board: str) -> None:
    known = list(boards())
    if board not in known:
        raise TinyRobustError(no_such("emulated board", board, known))


def _has_newlib() -> bool:
    """Debian's compiler comes without its C library: then the compiler does not find the library's files."""
    command = ["arm-none-eabi-gcc", "-print-file-name=nano.specs"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    return "/" in answer.stdout


def _all_but_c(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith((".c", ".h")) or Path(folder, name).is_dir()]


def _end(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_SHOWN_LINES:])
