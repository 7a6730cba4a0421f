"""What the linker put where: GNU ld's map, read object by object."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["code", "rodata", "data", "bss"]

_KINDS: dict[str, Kind] = {".text": "code", ".rodata": "rodata", ".data": "data", ".bss": "bss"}
_START = "Linker script and memory map"
# " .text.name   0xaddress   0xsize file"; a long name stands on a line of its own, and fill has no file.
_PLACED = re.compile(r" (?P<name>\*fill\*|\S+)\s+0x[0-9a-f]+\s+0x(?P<size>[0-9a-f]+)(?: (?P<file>\S.*))?")
_NAME = re.compile(r" [^\s*]\S+")
_OUTPUT = re.compile(r"(?P<name>\.\S+)(?:\s|$)")


@dataclass(frozen=True, slots=True)
class ObjectSize:
    """Bytes that one object file has in a linked program.

    Attributes:
        name: The object's path as given to the linker; a member of a library as `path/library.a(member.o)`.
        code: Instructions, with the constants inside them. Flash.
        rodata: Constants. Flash.
        data: Variables with initial values. Both flash and RAM.
        bss: Variables that start as zero. RAM.
    """

    name: str
    code: int = 0
    rodata: int = 0
    data: int = 0
    bss: int = 0

    @property
    def flash(self) -> int:
        """Bytes of flash."""
        return self.code + self.rodata + self.data

    @property
    def ram(self) -> int:
        """Bytes of static RAM."""
        return self.data + self.bss


def objects(text: str) -> tuple[ObjectSize, ...]:
    """The objects of a linker map that have bytes in `.text`, `.rodata`, `.data` or `.bss`, in the order of the map.

    Padding counts with the object that it follows, so that the objects add up to the sections.

    Args:
        text: The map that `-Wl,-Map=FILE` writes.
    """
    sizes: dict[str, ObjectSize] = {}
    before = ""
    for kind, file, size in _placed(text):
        before = file = file or before
        one = sizes.get(file, ObjectSize(file))
        sizes[file] = replace(one, **{kind: getattr(one, kind) + size})
    return tuple(sizes.values())


def _placed(text: str) -> Iterator[tuple[Kind, str, int]]:
    """Every input section that takes space: where it lies, the object it belongs to (empty: padding), and its bytes."""
    kind: Kind | None = None
    pending = ""
    for line in text[text.find(_START) :].splitlines():
        if output := _OUTPUT.match(line):
            kind = _KINDS.get(output["name"])
        placed = _PLACED.fullmatch(pending + line.rstrip())
        pending = line if _NAME.fullmatch(line) else ""
        if kind and placed and (size := int(placed["size"], 16)):
            yield kind, placed["file"] or "", size
