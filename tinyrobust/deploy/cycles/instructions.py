"""Machine code as instructions with what pricing them asks for: kind, registers, transfers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tinyrobust.errors import TinyRobustError

Kind = Literal["data", "divide", "load", "store", "load pair", "store pair", "load many", "store many", "branch", "table", "if"]

# Names without condition and suffix, as capstone gives them for Armv6-M and Armv7E-M.
_NAMES: dict[Kind, str] = {
    "load": "ldr ldrb ldrh ldrsb ldrsh",
    "store": "str strb strh",
    "load pair": "ldrd",
    "store pair": "strd",
    "load many": "ldm ldmdb pop vldr vldmia vldmdb vpop",
    "store many": "stm stmdb push vstr vstmia vstmdb vpush",
    "branch": "b bl bx blx cbz cbnz",
    "table": "tbb tbh",
    "if": "it",
    "divide": "udiv sdiv",
    "data": """
        adc add addw adr and asr bfc bfi bic clz cmn cmp eor lsl lsr mla mls mov movs movt movw mul mvn neg nop orn orr
        pkhbt pkhtb qadd qadd16 qadd8 qasx qdadd qdsub qsax qsub qsub16 qsub8 rbit rev rev16 revsh ror rrx rsb sadd16
        sadd8 sasx sbc sbfx sel shadd16 shadd8 shasx shsax shsub16 shsub8 smlabb smlabt smlad smladx smlal smlalbb
        smlalbt smlald smlaldx smlaltb smlaltt smlatb smlatt smlawb smlawt smlsd smlsdx smlsld smlsldx smmla smmlar
        smmls smmlsr smmul smmulr smuad smuadx smulbb smulbt smull smultb smultt smulwb smulwt smusd smusdx ssat ssat16
        ssax ssub16 ssub8 sub subw sxtab sxtab16 sxtah sxtb sxtb16 sxth teq tst uadd16 uadd8 uasx ubfx uhadd16 uhadd8
        uhasx uhsax uhsub16 uhsub8 umaal umlal umull uqadd16 uqadd8 uqasx uqsax uqsub16 uqsub8 usad8 usada8 usat usat16
        usax usub16 usub8 uxtab uxtab16 uxtah uxtb uxtb16 uxth vmov
    """,
}
_KINDS: dict[str, Kind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}


class UnpricedError(TinyRobustError):
    """The program has an instruction whose time the manuals' tables here do not give: a sum without it would be wrong."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an instruction loads or stores: base + (index << shift) + offset, of registers by name."""

    base: str
    index: str = ""
    shift: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        address: Where it lies.
        size: Bytes: 2 or 4.
        name: Its mnemonic, without condition and suffix.
        kind: What it does.
        conditional: It is inside an if-then block.
        transfers: Words, halfwords or bytes that it loads or stores; 0 where it does neither.
        width: Bytes of each of them.
        written: Registers that it writes, by name; those that it loads among them, a base that it updates not.
        where: Its address; None where it has none, or is the stack's (PUSH, POP).
        updates_base: It writes its address register too.
        to_pc: It loads, adds or moves into the program counter.
    """

    address: int
    size: int
    name: str
    kind: Kind
    conditional: bool
    transfers: int
    width: int
    written: frozenset[str]
    where: Address | None
    updates_base: bool
    to_pc: bool

    @property
    def end(self) -> int:
        """The address behind it."""
        return self.address + self.size

    @property
    def literal(self) -> bool:
        """It reads what lies beside the code."""
        return self.where is not None and self.where.base == "pc"

    @property
    def loads(self) -> bool:
        """It reads memory."""
        return self.kind in ("load", "load pair", "load many", "table")


def decoded(code: bytes, address: int) -> Sequence[Instruction]:
    """The Thumb instructions of a piece of code.

    Raises:
        UnpricedError: The time of one is not known.
        TinyRobustError: Something is no instruction.
    """
    from capstone import CS_ARCH_ARM, CS_MODE_MCLASS, CS_MODE_THUMB, Cs

    reader: Any = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS)
    reader.detail = True
    found = [_instruction(one) for one in reader.disasm(code, address)]
    if sum(one.size for one in found) != len(code):
        at = found[-1].end if found else address
        raise TinyRobustError(f"Expected Thumb instructions. Received: something else at address {at:#x}")
    return found


def _instruction(one: Any) -> Instruction:
    from capstone.arm import ARM_CC_AL, ARM_CC_INVALID, ARM_OP_REG

    name = one.insn_name()
    name = one.mnemonic.partition(".")[0] if name == "hint" else name
    kind = _KINDS.get(name)
    if kind is None:
        raise UnpricedError(f"Expected instructions of known time. Received: {one.mnemonic} {one.op_str} at {one.address:#x}")
    registers = [one.reg_name(operand.reg) for operand in one.operands if operand.type == ARM_OP_REG]
    where = _address(one)
    if where is None and name.startswith(("ldm", "stm", "vldm", "vstm")):
        where, registers = Address(registers[0]), registers[1:]
    updates = bool(one.writeback) and where is not None
    written = {one.reg_name(register) for register in one.regs_access()[1]}
    if updates and where is not None:
        written.discard(where.base)
    return Instruction(
        address=one.address,
        size=one.size,
        name=name,
        kind=kind,
        conditional=kind not in ("branch", "if") and one.cc not in (ARM_CC_AL, ARM_CC_INVALID),
        transfers=_transfers(kind, registers),
        width={"b": 1, "h": 2}.get(name[-1], 4),
        written=frozenset(written),
        where=where,
        updates_base=updates,
        to_pc="pc" in written and kind not in ("branch", "table"),
    )


def _address(one: Any) -> Address | None:
    from capstone.arm import ARM_OP_MEM

    for operand in one.operands:
        if operand.type == ARM_OP_MEM:
            index = one.reg_name(operand.mem.index) if operand.mem.index else ""
            return Address(one.reg_name(operand.mem.base), index, operand.shift.value, operand.mem.disp)
    return None


def _transfers(kind: Kind, registers: Sequence[str]) -> int:
    """How many there are; a double-precision register is two words."""
    if kind in ("load pair", "store pair"):
        return 2
    if kind in ("load many", "store many"):
        return sum(2 if name.startswith("d") else 1 for name in registers)
    return 1 if kind in ("load", "store") else 0
