"""Real firmwares on real (emulated) boards: a small model written here, whose instructions and bytes are known."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinyrobust.deploy import firmware
from tinyrobust.deploy.emulator import emulate
from tinyrobust.deploy.linkmap import objects
from tinyrobust.errors import MissingToolError, TinyRobustError

BOARDS = ("mps2-an385", "mps2-an386", "mps2-an500", "mps3-an547")

_HEADER = """
#include <stdint.h>
#define TR_TOY_INPUT_BYTES 100
#define TR_TOY_OUTPUT_BYTES 4
#define TR_TOY_LAYERS 2
int tr_toy_invoke(const int8_t *in, int8_t *out);
int8_t *tr_toy_input(void);
"""

# 100 bytes of constants, 8 of variables, 200 of arena; two layers that take twice COUNT instructions each.
_SOURCE = """
#include "toy.h"
#ifdef TR_PROFILE
void tr_profile(unsigned layer);
#else
#define tr_profile(layer) ((void)0)
#endif
#define SPEND(count) __asm__ volatile("mov r3, %%0\\n1: subs r3, #1\\nbne 1b" : : "r"(count) : "r3", "cc")

static int8_t arena[200];
static const int8_t table[100] = {3, 1, 2};
static volatile int8_t state[8] = {5};

int8_t *tr_toy_input(void) { return arena; }

int tr_toy_invoke(const int8_t *in, int8_t *out)
{
  volatile int8_t deep[1000];
  tr_profile(0);
  SPEND(%(first)d);
  tr_profile(1);
  SPEND(%(second)d);
  deep[0] = deep[999] = 1;
  out[0] = in[0];
  out[1] = (int8_t)(in[1] * table[(uint8_t)in[2] %% 100]);
  out[2] = state[0];
  out[3] = deep[0];
  %(more)s
  tr_profile(2);
  return %(result)s;
}
"""

Toy = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    try:
        firmware.require()
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Writes a model as the generator does, into a folder whose name has a blank."""

    def write(first: int = 1000, second: int = 1000, more: str = "", result: str = "0") -> Path:
        folder = tmp_path / "a model"
        folder.mkdir()
        (folder / "toy.h").write_text(_HEADER)
        (folder / "toy.c").write_text(_SOURCE % {"first": first, "second": second, "more": more, "result": result})
        return folder

    return write


def _inputs(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (count, 100), dtype=np.int8)


def _expected(x: np.ndarray) -> np.ndarray:
    table = np.zeros(100, np.int8)
    table[:3] = 3, 1, 2
    constant = np.ones(len(x), np.int8)
    return np.stack([x[:, 0], x[:, 1] * table[x[:, 2].view(np.uint8) % 100], 5 * constant, constant], axis=1)


@pytest.mark.parametrize("board", BOARDS)
def test_outputs_instructions_stack_and_bytes(toy: Toy, board: str) -> None:
    x = _inputs()
    found = emulate(toy(1_000_000, 50_000), "toy", x, board=board)
    np.testing.assert_array_equal(found.outputs, _expected(x))
    assert found.instructions == pytest.approx([2_100_000] * 3, abs=150)
    assert found.layers == pytest.approx([2_000_000, 100_000], abs=150)
    assert 1000 <= found.stack <= 1050
    assert [one.name for one in found.objects] == ["toy.o"]
    assert (found.rodata, found.data, found.bss) == (100, 8, 200)
    assert 80 <= found.code <= 200


def test_figures_are_the_same_in_every_run(toy: Toy) -> None:
    folder = toy()
    first, second = (emulate(folder, "toy", _inputs(), optimisation="-O2") for _ in range(2))
    assert (first.instructions, first.layers, first.stack) == (second.instructions, second.layers, second.stack)
    assert first.objects == second.objects


def test_a_make_around_it_changes_nothing(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAKEFLAGS", "n -- BOARD=mps2-an385 NAME=other")
    assert emulate(toy(), "toy", _inputs(1)).board == "mps2-an386"


def test_counts_beyond_the_counter_of_24_bits(toy: Toy) -> None:
    found = emulate(toy(400_000_000), "toy", _inputs(1))
    assert found.instructions[0] == pytest.approx(800_002_000, abs=500)
    assert found.layers[0] == pytest.approx(800_000_000, abs=500)


def test_every_board_of_the_folder_is_tested() -> None:
    assert tuple(firmware.boards()) == BOARDS
    assert all("Cortex-M" in what for what in firmware.boards().values())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"more": "*(volatile int *)0xF0000000 = 1;"}, "the processor faulted"),
        ({"more": "volatile int8_t vast[100000]; vast[0] = vast[99999] = in[0];"}, "the processor faulted"),
        ({"result": "1"}, "the model returned an error"),
        ({"result": "missing"}, "'missing' undeclared"),
    ],
    ids=["wild pointer", "stack overflow", "error", "no C"],
)
def test_what_goes_wrong_is_told(toy: Toy, changes: dict[str, str], expected: str) -> None:
    with pytest.raises(TinyRobustError, match=expected):
        emulate(toy(**changes), "toy", _inputs(1))


def test_a_program_that_hangs_is_ended(toy: Toy) -> None:
    started = time.monotonic()
    with pytest.raises(TinyRobustError, match="Expected the emulation to end within 2 s"):
        emulate(toy(more="for (;;) { }"), "toy", _inputs(1), timeout=2)
    assert time.monotonic() - started < 10


def test_inputs_must_fit(toy: Toy) -> None:
    folder = toy()
    with pytest.raises(TinyRobustError, match="as many bytes as 'toy' takes"):
        emulate(folder, "toy", np.zeros((3, 50), np.int8))
    with pytest.raises(TinyRobustError, match="Expected int8 inputs"):
        emulate(folder, "toy", np.zeros((3, 100), np.uint8))


def test_boards_have_names(toy: Toy) -> None:
    with pytest.raises(TinyRobustError, match="Did you mean 'mps2-an386'"):
        emulate(toy(), "toy", _inputs(1), board="mps2-an368")


def test_missing_tools_name_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make = shutil.which("make")
    assert make
    (tmp_path / "make").symlink_to(make)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError) as raised:
        firmware.require()
    assert raised.value.hint == "sudo apt install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"


def test_objects_of_the_map_add_up_to_the_sections(toy: Toy, tmp_path: Path) -> None:
    built = firmware.build(toy(), "toy", tmp_path / "work")
    placed = objects((tmp_path / "work" / "build" / "firmware.map").read_text())
    elf = tmp_path / "work" / "build" / "firmware.elf"
    listing = subprocess.run(["arm-none-eabi-size", "-A", elf], capture_output=True, text=True, check=True).stdout
    sections = {words[0]: int(words[1]) for line in listing.splitlines() if line.startswith(".") and (words := line.split())}
    assert sum(one.code for one in placed) == sections[".text"]
    assert sum(one.rodata for one in placed) == sections[".rodata"]
    assert sum(one.data for one in placed) == sections[".data"]
    assert sum(one.bss for one in placed) == sections[".bss"]
    assert set(built.objects) == {
        type(one)("toy.o", one.code, one.rodata, one.data, one.bss) for one in placed if one.name.endswith("toy.o")
    }
    assert sum(one.flash for one in built.objects) < sum(one.flash for one in placed)


@pytest.mark.parametrize("hooks", [[], ["-DTR_PROFILE"]], ids=["plain", "profile"])
def test_the_firmware_is_clean(toy: Toy, checkout: Path, hooks: list[str]) -> None:
    if shutil.which("cppcheck") is None:
        pytest.skip("cppcheck is not installed")
    names = ['-DTR_HEADER="toy.h"', "-DTR_NAME=toy", "-DTR_MACRO_NAME=TOY", "-DTR_CLOCK_HZ=25000000", f"-I{toy()}"]
    checks = ["--enable=warning,style,performance,portability", "--inline-suppr", "--std=c11", "--error-exitcode=1", "-q"]
    folder = checkout / "export" / "firmware"
    command = ["cppcheck", *checks, *names, *hooks, *folder.glob("*.c")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_makefile_runs_as_its_first_lines_say(toy: Toy, tmp_path: Path, checkout: Path) -> None:
    work = tmp_path / "copied"
    shutil.copytree(checkout / "export" / "firmware", work)
    shutil.copytree(toy(), tmp_path / "model")
    (work / "inputs.bin").write_bytes(_inputs(2).tobytes())
    command = ["make", "-s", "run", "MODEL=../model", "NAME=toy", "BOARD=mps2-an386", "OPT=-O2"]
    said = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout
    assert [line.split()[:2] for line in said.splitlines()] == [
        ["clock_hz", "0"], ["inference", "0"], ["inference", "1"], ["stack", "0"],
    ]  # fmt: skip
    assert (work / "build" / "mps2-an386-O2" / "outputs.bin").read_bytes() == _expected(_inputs(2)).tobytes()
