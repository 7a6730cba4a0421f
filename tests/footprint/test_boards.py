"""The boards that are in the box, and what binds."""

import pytest

from tinyrobust import assets
from tinyrobust.errors import TinyRobustError
from tinyrobust.footprint.boards import Board, boards, fit


def test_at_least_fifteen_real_boards():
    everything = boards()
    assert [board.name for board in everything] == sorted(assets.boards())
    assert len(everything) >= 15
    assert len({board.datasheet for board in everything}) == len(everything)


@pytest.mark.parametrize("board", boards(), ids=lambda board: board.name)
def test_a_board_makes_sense(board):
    assert board.flash % 1024 == 0
    assert board.ram % 1024 == 0
    assert 16 * 1024 <= board.ram < board.flash <= 16 * 2**20
    assert board.dsp == board.core.startswith(("Cortex-M4", "Cortex-M7", "Cortex-M33", "Cortex-M55", "Cortex-M85"))
    assert board.fpu == (board.core not in ("Cortex-M0+", "Cortex-M3", "RISC-V RV32IMC"))
    assert board.mve == (board.core in ("Cortex-M55", "Cortex-M85"))
    assert 16 <= board.clock_mhz <= 600


def test_the_chips_that_people_have_are_there():
    chips = " ".join(board.chip for board in boards())
    wanted = ("SAMD21", "STM32H7", "nRF52840", "nRF5340", "RP2040", "RP2350", "ESP32-S3", "STM32L4R5", "STM32U585", "Apollo4")
    assert [name for name in wanted if name not in chips] == []


def test_an_unknown_board_names_the_nearest():
    with pytest.raises(TinyRobustError, match="Did you mean 'nucleo-f446re'"):
        boards(["nucleo-f446"])


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of boards of one's own."""
    monkeypatch.setattr(assets, "folder", lambda _: tmp_path)
    (tmp_path / "boards").mkdir()
    return tmp_path / "boards"


def test_a_misspelt_key_names_the_right_one(shelf):
    (shelf / "mine.toml").write_text('title = "Mine"\nclock_mhzz = 1\n')
    with pytest.raises(TinyRobustError, match=r"mine\.toml") as caught:
        boards()
    assert "Did you mean 'clock_mhz'" in caught.value.message
    assert "flash: is missing" in caught.value.message


@pytest.mark.parametrize(
    ("flash", "ram", "binds"),
    [(1000, 100, "nothing"), (1001, 100, "flash"), (1000, 101, "ram"), (1001, 101, "flash and ram"), (0, 0, "nothing")],
)
def test_what_binds_is_named(flash, ram, binds):
    values = dict.fromkeys(("name", "title", "vendor", "chip", "core", "memory"), "x")
    board = Board(**values, fpu=False, dsp=False, mve=False, clock_mhz=1, flash=1000, ram=100, datasheet="https://example.org")
    verdict = fit(board, flash, ram)
    assert (verdict.fits, verdict.binds) == (binds == "nothing", binds)
    assert (verdict.flash, verdict.ram, verdict.flash_needed, verdict.ram_needed) == (1000, 100, flash, ram)


def test_wait_states_come_with_the_bits_of_a_read(checkout, shelf):
    original = (checkout / "export" / "boards" / "nucleo-l4r5zi.toml").read_text()
    (shelf / "mine.toml").write_text(original.replace("flash_line_bits = 64\n", ""))
    with pytest.raises(TinyRobustError, match="flash_wait_states and flash_line_bits together"):
        boards()


def test_boards_of_modelled_cores_say_what_flash_costs_where_it_is_known():
    known = {board.name: (board.flash_wait_states, board.flash_line_bits) for board in boards() if board.flash_wait_states}
    assert known["nucleo-l4r5zi"] == (5, 64)
    assert all(next(b for b in boards() if b.name == name).core.startswith(("Cortex-M4", "Cortex-M0+")) for name in known)
