"""What instructions cost on a core, by its Technical Reference Manual, where flash answers at once.

A price is two bounds. Where a manual gives one figure, they are equal; where it says "1 to 3", "can" or "might", they are not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tinyrobust.deploy.cycles.instructions import Instruction


class Cycles(NamedTuple):
    """Bounds of a number of cycles."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Core:
    """A core that is modelled.

    Attributes:
        name: As the boards have it.
        flags: The compiler's, for this core.
        emulated: Unicorn's name of it.
        source: Where the prices come from.
        assumptions: What the bounds leave out or take for granted, in sentences.
        price: The cycles of an instruction, of it and the one before it (None at the start of a block): not taken where it
            branches.
        refill: What an instruction costs more where it branches.
        unaligned: The cycles of one more transfer of an unaligned read; 0 where the core refuses these.
    """

    name: str
    flags: str
    emulated: str
    source: str
    assumptions: tuple[str, ...]
    price: Callable[[Instruction, Instruction | None], Cycles]
    refill: Callable[[Instruction], Cycles]
    unaligned: int


def _m4_price(one: Instruction, before: Instruction | None) -> Cycles:
    """Table 3-1 and section 3.3.2 of the manual: an instruction, pipelined with the one before it where it can be."""
    cycles = _m4_unconditional(one, before)
    return Cycles(min(1, cycles.low), cycles.high) if one.conditional else cycles


def _m4_unconditional(one: Instruction, before: Instruction | None) -> Cycles:
    if one.kind in ("load", "store"):
        return _m4_transfer(one, before)
    if one.transfers:
        return Cycles(1 + one.transfers, 1 + one.transfers + _m4_address(one, before))
    if one.kind == "divide":
        return Cycles(2, 12)  # it ends early, by the operands' leading ones and zeros
    if one.kind == "table":
        return Cycles(2, 3)  # "2 + P" in the table, at least six with the reload in the section
    if one.kind == "if":
        return Cycles(0, 1)  # folded into a 16-bit instruction before it, or not
    if one.name == "vmov":
        return Cycles(1, 2)
    return Cycles(1, 1)


def _m4_transfer(one: Instruction, before: Instruction | None) -> Cycles:
    """A single load or store: 2 cycles, 1 behind a load that it does not depend on; STR Rx,[Ry,#imm] always 1."""
    if one.kind == "store" and one.where is not None and not one.where.index:
        low, high = 1, 2 if one.updates_base else 1
    else:
        low = high = 2
        if before and before.kind == "load" and not before.to_pc and not _depends(one, before):
            low -= 1
            high -= 0 if before.updates_base else 1  # loads that update their base "are not normally pipelined"
    contention = one.kind == "load" and one.literal  # "might add a cycle because of contention with the fetch unit"
    return Cycles(low, high + contention + _m4_address(one, before))


def _m4_address(one: Instruction, before: Instruction | None) -> int:
    """The stall of an address that the data processing instruction before it has just made."""
    return int(before is not None and before.kind in ("data", "divide") and _depends(one, before))


def _depends(one: Instruction, before: Instruction) -> bool:
    """Whether the address of a load or store is made of what the instruction before it has written."""
    return one.where is not None and not before.written.isdisjoint((one.where.base, one.where.index))


def _m4_refill(one: Instruction) -> Cycles:
    """Table 3-1's P; a load into the program counter takes at least five cycles in all (section 3.3.2)."""
    return Cycles(3 if one.kind == "load" else 1, 3)


def _m0plus_price(one: Instruction, before: Instruction | None) -> Cycles:  # noqa: ARG001 - nothing is pipelined here
    """Table 3-1 of the manual; what it says of taken branches less the cycle of the refill."""
    if one.kind in ("load", "store") or one.name == "bl":
        return Cycles(2, 2)
    cycles = 1 + one.transfers
    # POP with the program counter: 3 + N, and nothing says whether it is one of the N.
    return Cycles(cycles, cycles + (one.kind == "load many" and one.to_pc))


def _m0plus_refill(one: Instruction) -> Cycles:  # noqa: ARG001 - the same of all
    return Cycles(1, 1)


CORTEX_M4 = Core(
    name="Cortex-M4",
    flags="-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16",
    emulated="CORTEX_M4",
    source="Cortex-M4 Technical Reference Manual r0p1 (ARM DDI 0439D), table 3-1 and section 3.3.2",
    assumptions=(
        "A taken branch refills the pipeline in 1 to 3 cycles; a division takes 2 to 12; IT takes 0 or 1.",
        "Loads and stores are pipelined behind loads that they do not depend on. At most: literals take a cycle more, so does "
        "an address that the instruction before has computed, and nothing is pipelined behind loads that update their base.",
        "At least: everything in an if-then block takes one cycle, as where its condition fails.",
        "Unaligned reads take a cycle for each further transfer. The write buffer is never full; nothing else uses the bus.",
    ),
    price=_m4_price,
    refill=_m4_refill,
    unaligned=1,
)
CORTEX_M0PLUS = Core(
    name="Cortex-M0+",
    flags="-mcpu=cortex-m0plus -mfloat-abi=soft",
    emulated="CORTEX_M0",
    source="Cortex-M0+ Technical Reference Manual r0p1 (ARM DDI 0484C), table 3-1",
    assumptions=(
        "The multiplier takes one cycle: chips may have one of 32.",
        "POP with the program counter takes 3 + N: at least of N without it, at most with it.",
        "Data lies in memory, not behind the single-cycle I/O port; nothing else uses the bus.",
    ),
    price=_m0plus_price,
    refill=_m0plus_refill,
    unaligned=0,
)
CORES = (CORTEX_M4, CORTEX_M0PLUS)
