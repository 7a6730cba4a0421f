"""Budgets: what an application leaves for the model, and whether a file keeps to it."""

import re
from dataclasses import dataclass

from tinyrobust.errors import TinyRobustError
from tinyrobust.footprint.boards import room
from tinyrobust.footprint.footprint_record import BoardFit, FootprintRecord

_UNITS = {"": 1, "K": 2**10, "M": 2**20}
_AMOUNT = re.compile(r"(\d+)([KM]?)(?:i?B)?", re.IGNORECASE)
_EXAMPLE = "For instance --budget flash=256K,ram=64K. K is 1,024 bytes, M is 1,048,576; one of the two may be left out."


@dataclass(frozen=True)
class Budget:
    """Bytes for the model; None where anything goes."""

    flash: int | None = None
    ram: int | None = None


def parse(text: str) -> Budget:
    """A budget as people write it: `flash=256K,ram=64K`, either alone, plain numbers for bytes.

    Raises:
        TinyRobustError: It is not written so.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        what, _, amount = (piece.strip() for piece in part.partition("="))
        match = _AMOUNT.fullmatch(amount)
        if what not in ("flash", "ram") or what in found or not match:
            raise TinyRobustError(f"Expected a budget such as flash=256K,ram=64K. Received: {text!r}", hint=_EXAMPLE)
        found[what] = int(match[1]) * _UNITS[match[2].upper()]
    return Budget(**found)


def check(record: FootprintRecord, budget: Budget) -> BoardFit:
    """Whether a model keeps to a budget in TensorFlow Lite Micro: counted as for boards, see `boards.FIT_COUNTS`.

    Both figures are computed from the file alone, so the verdict is the same on every machine. What is not limited is given
    as what is needed.
    """
    needed = (record.file.value, record.arena.value)
    has = (needed[0] if budget.flash is None else budget.flash, needed[1] if budget.ram is None else budget.ram)
    return room("budget", "Budget", has, needed)
