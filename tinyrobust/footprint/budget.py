"""Budgets: what an application leaves for the model, and whether a file keeps to it."""

from dataclasses import dataclass

from tinyrobust import sizes
from tinyrobust.errors import TinyRobustError
from tinyrobust.footprint.boards import room
from tinyrobust.footprint.footprint_record import BoardFit, FootprintRecord

_HINT = f"For instance --budget flash=256K,ram=64K; one of the two may be left out. {sizes.ACCEPTED}"


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
    limits: dict[str, int] = {}
    for part in text.split(","):
        what, _, amount = (piece.strip() for piece in part.partition("="))
        try:
            if what not in ("flash", "ram") or what in limits:
                raise ValueError(what)  # noqa: TRY301 - said below, as what is no size is
            limits[what] = sizes.parsed(amount)
        except ValueError as error:
            raise TinyRobustError(f"Expected a budget such as flash=256K,ram=64K. Received: {text!r}", hint=_HINT) from error
    return Budget(**limits)


def check(record: FootprintRecord, budget: Budget) -> BoardFit:
    """Whether a model keeps to a budget in TensorFlow Lite Micro: counted as for boards, see `boards.FIT_COUNTS`.

    What is not limited is given as what is needed.
    """
    ram = record.tflm_ram or record.tflm_arena or record.arena
    needed = (record.tflm_flash.value, ram.value)
    has = (needed[0] if budget.flash is None else budget.flash, needed[1] if budget.ram is None else budget.ram)
    return room("budget", "Budget", has, needed, runs=not record.tflm_refused)
