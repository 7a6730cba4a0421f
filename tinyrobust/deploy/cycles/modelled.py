"""From generated C to modelled cycles of one inference, for each core that is modelled."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tinyrobust.deploy import firmware
from tinyrobust.deploy.cycles import counter
from tinyrobust.deploy.cycles.cores import CORES, Core, Cycles
from tinyrobust.deploy.cycles.counter import NONE, Block, Call, Counter, Reads
from tinyrobust.deploy.cycles.instructions import Instruction, decoded
from tinyrobust.deploy.cycles.program import Program, linked
from tinyrobust.deploy.deploy_records import ModelledCycles
from tinyrobust.deploy.firmware import Optimisation
from tinyrobust.errors import TinyRobustError
from tinyrobust.progress import Progress, silent

LINE_BITS = (32, 64, 128, 256)  # what flash gives in one read, on one chip or another


def modelled(
    folder: Path,
    name: str,
    given: bytes,
    expected: bytes,
    *,
    optimisation: Optimisation = "-Os",
    timeout: float = 600,
    progress: Progress = silent,
) -> list[ModelledCycles]:
    """The modelled cycles of one inference of generated C, on each of `CORES`.

    Args:
        folder: Holds `<name>.c`, `<name>.h` and the kernels.
        name: The model's name in C.
        given: The bytes of one input.
        expected: The bytes of its outputs, as the emulated board gives them.
        optimisation: The compiler's optimisation.
        timeout: Seconds for building, and for running on each core.
        progress: Called at every step.

    Raises:
        MissingToolError: Compiler, make, or the packages unicorn and capstone are not installed.
        UnpricedError: It executes an instruction whose time is not known.
        TinyRobustError: The C does not build or run, takes too long, or its outputs are not `expected`.
    """
    counter.require()
    found = []
    for done, core in enumerate(CORES):
        progress("model cycles", done, len(CORES))
        with tempfile.TemporaryDirectory(prefix="tinyrobust-") as work:
            built = firmware.build(folder, name, Path(work), optimisation=optimisation, cpu=core.flags, timeout=timeout)
            program = linked(built.elf)
            found.append(counted(program, core, inference(program, name, given, len(expected)), expected, Path(work), timeout))
    progress("model cycles", len(CORES), len(CORES))
    return found


def inference(program: Program, name: str, given: bytes, output_bytes: int) -> Call:
    """One inference of a firmware's model, from reset: the firmware's own `main` and clock are not run."""
    symbols = program.symbols
    before = [f"run {int.from_bytes(program.image[4:8], 'little') & ~1} {symbols['main']}"]
    if f"tr_{name}_reset" in symbols:
        before.append(f"call {symbols[f'tr_{name}_reset']} 0 0")
    before += [f"call {symbols[f'tr_{name}_input']} 0 0", f"write $ {given.hex()}"]
    outputs = -(-symbols["bss_end"] // 8) * 8  # nothing lies behind the last variable
    return Call(symbols[f"tr_{name}_invoke"], ("$", outputs), tuple(before), (outputs, output_bytes))


def counted(program: Program, core: Core, call: Call, expected: bytes, folder: Path, timeout: float) -> ModelledCycles:
    """What a call executes, counted in one run, its reads looked at in another, and priced.

    Args:
        program: Built for `core`.
        core: What is modelled.
        call: What is run.
        expected: What it leaves in memory.
        folder: For files on the way.
        timeout: Seconds for each run.

    Raises:
        TinyRobustError: The program fails, takes too long, or leaves something else.
    """
    chip = Counter(folder, timeout)
    edges, output = chip.blocks(program, core.emulated, call)
    trace = Trace(program, edges)
    reads, again = chip.reads(program, core.emulated, call, trace.loads())
    if not output == again == expected:
        raise TinyRobustError(f"Expected the emulated board's outputs on the modelled {core.name}. Received: others")
    return priced(trace, core, reads)


class Trace:
    """What was executed: how often control went from one block of a program to another, see `Counter.blocks`."""

    def __init__(self, program: Program, edges: Mapping[tuple[Block, Block], int]) -> None:
        self.edges = edges
        self.code: dict[Block, Sequence[Instruction]] = {NONE: ()}
        for block in {target for _, target in edges} - {NONE}:
            self.code[block] = decoded(program.image[block.address : block.address + block.size], block.address)

    def loads(self) -> list[Instruction]:
        """The loads whose address is not known from the code: neither beside it nor on the stack."""
        found = {one.address: one for code in self.code.values() for one in code if one.loads and one.where and not one.literal}
        return [one for one in found.values() if one.where and one.where.base != "sp"]

    def count(self, what: Callable[[Instruction], int]) -> int:
        """The sum of a figure over all that was executed."""
        return sum(times * sum(map(what, self.code[block])) for (_, block), times in self.edges.items())

    def fetches(self, size: int) -> int:
        """Lines of `size` bytes that instructions were read from, one after the other: one that is there is not read again."""
        return sum(times * _lines(source, block, size) for (source, block), times in self.edges.items() if block != NONE)


def priced(trace: Trace, core: Core, reads: Reads) -> ModelledCycles:
    """What was executed, priced: over all edges, count times the target's instructions and the source's refill.

    Args:
        trace: What was executed.
        core: Where.
        reads: What its loads have read.
    """
    low = high = core.unaligned * reads.unaligned
    for (source, block), times in trace.edges.items():
        before = trace.code[source][-1] if source != NONE else None
        cycles = _edge(core, before, trace.code[block], block.address)
        low, high = low + times * cycles.low, high + times * cycles.high
    return ModelledCycles(
        core=core.name,
        source=core.source,
        instructions=trace.count(lambda _: 1),
        low=low,
        high=high,
        fetches={bits: trace.fetches(bits // 8) for bits in LINE_BITS},
        flash_reads=reads.of_flash + trace.count(lambda one: one.loads and one.literal),
        assumptions=list(core.assumptions),
    )


def _edge(core: Core, before: Instruction | None, code: Sequence[Instruction], address: int) -> Cycles:
    """The instructions of a block, behind the last one of the block before it, and the refill where that has branched."""
    low = high = 0
    if before is not None and before.end != address:
        low, high = core.refill(before)
        before = None
    for one in code:
        cycles = core.price(one, before)
        low, high, before = low + cycles.low, high + cycles.high, one
    return Cycles(low, high)


def _lines(source: Block, block: Block, size: int) -> int:
    """Lines of flash that a block is read from, without the one that the block before it ended in."""
    first, last = block.address // size, (block.address + block.size - 1) // size
    held = source != NONE and (source.address + source.size - 1) // size == first
    return last - first + (0 if held else 1)
