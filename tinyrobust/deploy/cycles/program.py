"""A linked program as a core finds it in flash: its bytes, and where its functions and variables lie."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tinyrobust.errors import TinyRobustError

_LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Program:
    """What is flashed.

    Attributes:
        image: The bytes of flash from address 0: vectors, code, constants, and the initial values of variables.
        symbols: Addresses by name, without the bit that says Thumb.
    """

    image: bytes
    symbols: dict[str, int]


def linked(elf: Path) -> Program:
    """The program in an ELF file, with the tools that come with the compiler.

    Raises:
        TinyRobustError: The tools do not read the file.
    """
    image = elf.with_suffix(".image")
    _tool("objcopy", "-O", "binary", str(elf), str(image))
    symbols = {}
    for line in _tool("nm", str(elf)).splitlines():
        address, kind, name = (line.split() + [""] * 3)[:3]
        if name and kind != "U":
            symbols[name] = int(address, 16) & ~1 if kind in "tT" else int(address, 16)
    return Program(image.read_bytes(), symbols)


def _tool(name: str, *arguments: str) -> str:
    command = [f"arm-none-eabi-{name}", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)  # noqa: S603
    if result.returncode:
        raise TinyRobustError(f"Expected a linked program of Arm's. Received: {result.stderr.strip()}")
    return result.stdout
