"""Modelled cycles of loops that are counted by hand, from the tables of the cores' manuals; r2 to r12 are 0 at the start."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tinyrobust.deploy import device, firmware, probing
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cycles import counter
from tinyrobust.deploy.cycles.cores import CORTEX_M0PLUS, CORTEX_M4, Core
from tinyrobust.deploy.cycles.counter import Call, Counter
from tinyrobust.deploy.cycles.instructions import UnpricedError
from tinyrobust.deploy.cycles.modelled import Trace, priced
from tinyrobust.deploy.cycles.program import linked
from tinyrobust.deploy.deploy_records import ModelledCycles
from tinyrobust.errors import MissingToolError, TinyRobustError

RAM = 0x2000_0000
# `bx lr`, which ends every function here: 1 + P of 1 to 3 on the M4, 2 on the M0+.
RETURN_LOW, RETURN_HIGH = 2, 4


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    try:
        firmware.require()
        counter.require()
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Counter:
    return Counter(tmp_path_factory.mktemp("counter"), 30)


@pytest.fixture
def cost(chip: Counter, tmp_path: Path):
    """What a function in assembler costs on a core; it starts on a line of 64 bytes, behind the vectors."""

    def assembled(code: str, core: Core = CORTEX_M4, r0: int = 0, r1: int = 0) -> ModelledCycles:
        source, elf = tmp_path / "code.s", tmp_path / "code.elf"
        start = ".syntax unified\n.thumb\n.word 0x20010000\n.org 64\n.global function\n.thumb_func\nfunction:\n"
        source.write_text(start + code.replace(";", "\n") + "\n")
        flags = [*core.flags.split(), "-mthumb", "-nostdlib", "-Wl,-Ttext=0", "-Wl,-e,function"]
        subprocess.run(["arm-none-eabi-gcc", *flags, "-o", elf, source], check=True, capture_output=True)
        program = linked(elf)
        call = Call(program.symbols["function"], (r0, r1))
        edges, _ = chip.blocks(program, core.emulated, call)
        trace = Trace(program, edges)
        return priced(trace, core, chip.reads(program, core.emulated, call, trace.loads())[0])

    return assembled


def test_a_loop_of_ten_on_the_m4(cost) -> None:
    found = cost("movs r0, #10; again: subs r0, #1; bne again; bx lr")
    assert found.instructions == 1 + 10 * 2 + 1
    # MOVS 1, SUBS 1, BNE 1 and P where it is taken: nine times.
    assert found.low == 1 + 10 * 2 + 9 * 1 + RETURN_LOW
    assert found.high == 1 + 10 * 2 + 9 * 3 + RETURN_HIGH
    assert (found.core, found.provenance) == ("Cortex-M4", "modelled")
    assert "Technical Reference Manual" in found.source


def test_a_loop_of_ten_on_the_m0plus(cost) -> None:
    found = cost("movs r0, #10; again: subs r0, #1; bne again; bx lr", CORTEX_M0PLUS)
    # BNE 2 where it is taken, 1 where not; BX 2.
    assert (found.low, found.high) == (1 + 10 + 9 * 2 + 1 + 2,) * 2


@pytest.mark.parametrize(
    ("code", "cycles"),
    [
        ("ldr r0, [r1]; ldr r1, [r2]", 3),
        ("ldr r0, [r1, r2]; str r0, [r3, #20]", 3),
        ("ldr r0, [r1, r2]; str r1, [r3, r2]", 3),
        ("ldr r0, [r1, r5]; ldr r1, [r2]; ldr r2, [r3, #4]", 4),
        ("ldr r1, [r2]; ldr r0, [r1]", 4),  # the second waits for the first
        ("str r0, [r1, #4]; str r0, [r1, #8]", 2),
        ("str r0, [r1, r2]; ldr r0, [r1]", 4),  # nothing is pipelined behind a store
        ("ldr r0, [r1]; mul r2, r3, r4; ldr r3, [r1]", 5),
        ("ldrd r2, r3, [r1]; ldr r0, [r1]", 5),
        ("ldm r1, {r2, r3, r4, r6}", 5),
        ("stm r1, {r2, r3, r4, r6}; ldr r0, [r1]", 7),
        ("smlad r0, r1, r2, r3; sxtb16 r0, r1; umull r0, r2, r3, r4; ssat r0, #8, r1", 4),
    ],
)
def test_what_the_manual_says_of_loads_and_stores(cost, code: str, cycles: int) -> None:
    found = cost(f"{code}; bx lr", r1=RAM if "ldr r1, [r2]" not in code else 0)
    assert (found.low, found.high) == (cycles + RETURN_LOW, cycles + RETURN_HIGH)


@pytest.mark.parametrize(
    ("code", "low", "high"),
    [
        ("udiv r0, r1, r2", 2, 12),
        ("cmp r0, #0; ite eq; moveq r2, #1; movne r2, #2", 3, 4),  # IT is folded, or not
        ("cmp r0, #0; it eq; ldreq r2, [r1]", 2, 4),  # what is skipped takes a cycle
        ("adds r1, #4; ldr r0, [r1]", 3, 4),  # the address has just been computed
        ("ldr r0, [r1], #4; ldr r2, [r1]", 3, 4),  # behind a load that updates its base
        ("str r0, [r1], #4", 1, 2),
        ("ldr r0, literal; b behind; .align 2; literal: .word 5; behind: nop", 2 + 1 + 1 + 1, 3 + 1 + 3 + 1),
    ],
)
def test_where_the_manual_leaves_room(cost, code: str, low: int, high: int) -> None:
    found = cost(f"{code}; bx lr", r1=RAM)
    assert (found.low, found.high) == (low + RETURN_LOW, high + RETURN_HIGH)


def test_calls_and_the_stack(cost) -> None:
    code = "push {r4, r5, lr}; bl inner; pop {r4, r5, pc}; .thumb_func; inner: bx lr"
    found = cost(code)
    # PUSH 1 + 3, BL 1 + P, BX 1 + P, POP 1 + 3 + P.
    assert (found.low, found.high) == (4 + 1 + 1 + 4 + 3 * 1, 4 + 1 + 1 + 4 + 3 * 3)
    found = cost(code, CORTEX_M0PLUS)
    # PUSH 1 + 3, BL 3, BX 2, POP 3 + N, where N is 2 or 3.
    assert (found.low, found.high) == (4 + 3 + 2 + 5, 4 + 3 + 2 + 6)


def test_the_m0plus_pipelines_nothing(cost) -> None:
    found = cost("ldr r2, [r1]; ldr r3, [r1]; str r2, [r1]; ldm r1!, {r2, r3}; muls r2, r3; bx lr", CORTEX_M0PLUS, r1=RAM)
    assert (found.low, found.high) == (2 + 2 + 2 + 3 + 1 + 2,) * 2


@pytest.mark.parametrize(("offset", "word", "halfword"), [(0, 0, 0), (1, 2, 1), (2, 1, 0), (3, 2, 1)])
def test_unaligned_reads_take_more_transfers(cost, offset: int, word: int, halfword: int) -> None:
    assert cost("ldr r2, [r1]; bx lr", r1=RAM + offset).low == 2 + word + RETURN_LOW
    assert cost("movs r0, #3; ldrsh r2, [r1, r0, lsl #1]; bx lr", r1=RAM + offset).low == 1 + 2 + halfword + RETURN_LOW
    assert cost("ldrb r2, [r1]; bx lr", r1=RAM + offset).low == 2 + RETURN_LOW


def test_reads_within_if_then_blocks_are_looked_at_and_spoil_nothing(cost) -> None:
    code = "movs r0, #4; again: lsls r3, r0, #31; ite pl; ldrpl r2, [r1]; ldrmi r2, [r1, #1]; subs r0, #1; bne again; bx lr"
    found = cost(code, r1=RAM)
    assert found.instructions == 1 + 4 * 6 + 1  # IT is one, what it skips is one
    # Two of the four reads are of an odd address. At least: LSLS, two in the block, SUBS, BNE.
    assert found.low == 1 + 4 * 5 + 3 * 1 + 2 * 2 + RETURN_LOW


def test_constants_and_lines_of_flash(cost) -> None:
    nops = cost("nop; " * 8 + "bx lr")  # 18 bytes from a start of lines
    assert nops.fetches == {32: 5, 64: 3, 128: 2, 256: 1}
    assert nops.flash_reads == 0
    assert nops.without_cache(5, 64) == nops.high + 5 * 3
    loop = cost("movs r0, #10; again: subs r0, #1; bne again; bx lr")  # 8 bytes: a line that is there is not read again
    assert loop.fetches == {32: 2 + 9 * 2, 64: 1, 128: 1, 256: 1}
    flash = cost("ldm r2, {r3, r4}; ldr r0, [r1]; ldr r0, literal; bx lr; .align 2; literal: .word 5", r1=RAM)
    assert flash.flash_reads == 2 + 0 + 1


def test_what_has_no_known_time_is_refused(cost) -> None:
    with pytest.raises(UnpricedError, match=r"of known time\. Received: vadd\.f32 s0, s1, s2 at 0x40"):
        cost("vadd.f32 s0, s1, s2; bx lr")


def test_what_fails_is_told(cost) -> None:
    with pytest.raises(TinyRobustError, match=r"at address 0x40: .*UC_ERR_READ_UNMAPPED"):
        cost("ldr r0, [r1]; bx lr", r1=0x9000_0000)


def test_a_network_on_both_cores_counted_twice(small_tflite: Path) -> None:
    """QEMU's count is of the same instructions, with the call around them and in ticks of 40."""
    inputs = probing.probes(read(small_tflite), 1)
    record = device.measure(small_tflite, inputs, cycles=True)
    assert record.cycles_missing == ""
    m4, m0plus = record.cycles
    assert (m4.core, m0plus.core) == ("Cortex-M4", "Cortex-M0+")
    assert m4.instructions == pytest.approx(record.instructions, abs=100)
    assert 1.0 < m4.low / m4.instructions < m4.high / m4.instructions < 3.0
    assert 1.0 < m0plus.low / m0plus.instructions <= m0plus.high / m0plus.instructions < 2.5
    assert m4.flash_reads > sum(layer.weight_bytes for layer in record.layers) // 4  # every weight is read
    assert m4.without_cache(5, 64) > m4.without_cache(5, 128) > m4.without_cache(0, 64) == m4.high
    assert device.measure(small_tflite, inputs).cycles == []


def test_other_outputs_are_a_fault(small_tflite: Path, tmp_path: Path) -> None:
    from tinyrobust.deploy.cgen.generate import generate
    from tinyrobust.deploy.cycles.modelled import modelled

    generated = generate(read(small_tflite), "net", tmp_path)
    given = probing.probes(read(small_tflite), 1).raw
    with pytest.raises(TinyRobustError, match="outputs on the modelled Cortex-M4"):
        modelled(tmp_path, generated.name, given.tobytes(), np.array([1, 2, 3], np.int8).tobytes())


def test_the_counter_is_clean(checkout: Path) -> None:
    if shutil.which("cppcheck") is None:
        pytest.skip("cppcheck is not installed")
    checks = ["--enable=warning,style,performance,portability", "--std=c99", "--error-exitcode=1", "-q"]
    result = subprocess.run(
        ["cppcheck", *checks, checkout / "export" / "counter" / "counter.c"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
