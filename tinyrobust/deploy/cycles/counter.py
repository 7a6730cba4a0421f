"""Runs a program on an emulated core, and counts how often control goes from each basic block to each other.

The emulator is Unicorn (QEMU's translation as a library); `export/counter/counter.c` drives it: a call of Python for each
block takes minutes where this takes a second. The host's compiler builds it against the library of the package `unicorn`.
"""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tinyrobust import assets
from tinyrobust.deploy.cycles.instructions import Address, Instruction
from tinyrobust.deploy.cycles.program import Program
from tinyrobust.errors import MissingToolError, TinyRobustError

_BUILD_S = 120


class Block(NamedTuple):
    """A piece of code that runs from its first instruction to its last."""

    address: int
    size: int


NONE = Block(0, 0)  # before the first block, and behind the last

Edges = dict[tuple[Block, Block], int]


class Reads(NamedTuple):
    """What loads have read.

    Attributes:
        unaligned: Transfers that unaligned reads needed more: one for a halfword, one or two for a word.
        of_flash: Reads of constants in flash.
    """

    unaligned: int
    of_flash: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function of a program, with what goes before it.

    Attributes:
        function: Its address.
        arguments: Of r0 and r1; `$` is what the function before it has returned.
        before: Commands, see `counter.c`.
        output: Address and bytes of what it leaves in memory.
    """

    function: int
    arguments: tuple[int | str, int | str] = (0, 0)
    before: tuple[str, ...] = ()
    output: tuple[int, int] = (0, 1)

    def commands(self, what: str) -> list[str]:
        """The lines that make the call."""
        first, second = self.arguments
        return [*self.before, f"{what} {self.function} {first} {second}", f"read {self.output[0]} {self.output[1]}"]


def require() -> None:
    """Checks that the packages and the compiler are there.

    Raises:
        MissingToolError: One is not; the hint is the line that installs it.
    """
    try:
        import capstone  # noqa: F401
        import unicorn  # noqa: F401
    except ImportError as error:
        raise MissingToolError(
            f"Expected the packages unicorn and capstone to model cycles. Received: {error}",
            hint="pip install 'tinyrobust[mcu]'",
        ) from error
    if shutil.which("cc") is None:
        raise MissingToolError(
            "Expected a C compiler for this machine to model cycles. Received: no cc", hint="sudo apt install gcc libc6-dev"
        )


class Counter:
    """Counts what programs execute.

    Args:
        folder: Where it is built.
        timeout: Seconds for each run.

    Raises:
        MissingToolError: See `require`.
        TinyRobustError: It does not build.
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        require()
        import unicorn

        self._folder, self._timeout = folder, timeout
        home = Path(unicorn.__file__).parent
        libraries = sorted(
            path for path in (home / "lib").iterdir() if path.name.startswith("libunicorn") and path.suffix != ".a"
        )
        if not libraries:
            raise TinyRobustError(f"Expected the library of the package unicorn in {home / 'lib'}. Received: none")
        source = assets.folder("export") / "counter" / "counter.c"
        search = f"-Wl,-rpath,{home / 'lib'}"
        command = ["cc", "-O2", f"-I{home / 'include'}", str(source), str(libraries[0]), search, "-o", str(self._tool)]
        self._run(command, "", _BUILD_S)

    def blocks(self, program: Program, core: str, call: Call) -> tuple[Edges, bytes]:
        """How often control went from one block to another, and the output.

        The first block comes from `NONE`, the last goes to it.

        Args:
            program: Linked by mps2.ld, for a core that `core` can stand for.
            core: Unicorn's name of the core, such as CORTEX_M4.
            call: What is run.

        Raises:
            TinyRobustError: The program fails, or takes too long.
        """
        lines = self._lines(program, core, call.commands("count"))
        edges = {(Block(*four[:2]), Block(*four[2:4])): four[4] for four in map(_numbers, lines[:-1])}
        return edges, _bytes(lines[-1])

    def reads(self, program: Program, core: str, call: Call, loads: Iterable[Instruction]) -> tuple[Reads, bytes]:
        """What these loads have read, and the output; arguments and errors as of `blocks`."""
        lines = self._lines(program, core, [*map(_load, loads), *call.commands("reads")])
        return Reads(*_numbers(lines[0])), _bytes(lines[-1])

    @property
    def _tool(self) -> Path:
        return self._folder / "counter"

    def _lines(self, program: Program, core: str, commands: Iterable[str]) -> list[str]:
        from unicorn import arm_const

        image = self._folder / "image"
        image.write_bytes(program.image)
        number = getattr(arm_const, f"UC_CPU_ARM_{core}")
        return self._run([str(self._tool), str(number), str(image)], "\n".join(commands) + "\n", self._timeout).splitlines()

    def _run(self, command: list[str], given: str, limit: float) -> str:
        try:
            done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise TinyRobustError(
                f"Expected the count of executed blocks to end within {limit:g} s. Received: it was still running",
                hint="A longer time limit.",
            ) from error
        if done.returncode:
            raise TinyRobustError(f"Executed blocks cannot be counted: {done.stderr.strip() or done.returncode}")
        return done.stdout


def _load(one: Instruction) -> str:
    """The command that has a load looked at."""
    where = one.where or Address("sp")
    registers = f"{_register(where.base)} {_register(where.index) if where.index else 0}"
    return f"load {one.address} {registers} {where.shift} {where.offset} {one.width} {one.transfers}"


def _register(name: str) -> int:
    from unicorn import arm_const

    return int(getattr(arm_const, f"UC_ARM_REG_{name.upper()}"))


def _numbers(line: str) -> tuple[int, ...]:
    return tuple(map(int, line.split()[1:]))


def _bytes(line: str) -> bytes:
    return bytes.fromhex(line.split()[1])
