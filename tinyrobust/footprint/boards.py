"""Boards: what a real one offers, one TOML file each in `export/boards/`, and whether an artefact fits."""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinyrobust import assets, toml
from tinyrobust.choices import no_such
from tinyrobust.errors import TinyRobustError
from tinyrobust.footprint.footprint_record import BoardFit

FIT_COUNTS = (
    "Counted with TensorFlow Lite Micro: flash = the .tflite file and the runtime's code (estimated: 20,480 B and 3,456 B for "
    "each kind of operator, at least what three networks took on a Cortex-M4F, gcc 12.2 -Os, reference kernels); RAM = the "
    "tensor arena with the runtime's own data (measured in the 64-bit wheel where it is installed, else a bound on that: a "
    "microcontroller keeps about a fifth less of its own) and 4,096 B for stack and static data (assumed). Counted with the C: "
    "code, tables, weights, arena, outputs and the deepest stack, as measured. Not counted: your application."
)


class Board(BaseModel):
    """A board that can be bought. `name` is the file's name; it is no key of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    vendor: str
    chip: str = Field(description="The microcontroller's part number.")
    core: str = Field(description="The core that runs the network, such as Cortex-M4F.")
    fpu: bool = Field(description="It has a floating-point unit.")
    dsp: bool = Field(description="It has Arm's DSP instructions (`__ARM_FEATURE_DSP`).")
    mve: bool = Field(description="It has Arm's vector extension (Helium).")
    clock_mhz: int = Field(gt=0, description="Highest clock of that core.")
    flash: int = Field(gt=0, description="Bytes of flash that hold the program.")
    ram: int = Field(gt=0, description="Bytes of the largest contiguous RAM: an arena lies in one piece.")
    memory: str = Field(description="How flash and RAM are made up, in a few words.")
    datasheet: str = Field(pattern=r"^https://", description="Where the figures come from.")
    flash_wait_states: int | None = Field(
        default=None,
        ge=0,
        description="Cycles that a read of flash waits at that clock, by the reference manual; absent: not known.",
    )
    flash_line_bits: Literal[32, 64, 128, 256] | None = Field(default=None, description="Bits of flash that come in one read.")

    @model_validator(mode="after")
    def _waits_are_whole(self) -> Self:
        if (self.flash_wait_states is None) != (self.flash_line_bits is None):
            raise ValueError("Expected flash_wait_states and flash_line_bits together. Received: one of them")
        return self


def boards(names: Iterable[str] = ()) -> list[Board]:
    """The boards of these names, in their order; all boards by name when there are none.

    Raises:
        TinyRobustError: There is no such board (the message names the nearest), or its file is not valid.
    """
    paths = assets.boards()
    wanted = list(names) or list(paths)
    for name in wanted:
        if name not in paths:
            raise TinyRobustError(no_such("board", name, paths), hint="A board is one TOML file in export/boards/.")
    return [toml.named(paths[name], Board, TinyRobustError) for name in wanted]


def fit(board: Board, flash_needed: int, ram_needed: int, *, runs: bool = True) -> BoardFit:
    """Whether `flash_needed` and `ram_needed` bytes fit the board, and which binds when they do not; see `FIT_COUNTS`.

    Where the runtime does not run the file (`runs` is false) nothing fits.
    """
    return room(board.name, board.title, (board.flash, board.ram), (flash_needed, ram_needed), runs=runs)


def room(name: str, title: str, has: tuple[int, int], needed: tuple[int, int], *, runs: bool = True) -> BoardFit:
    """Whether there is room, and what binds; flash and RAM in bytes, in this order."""
    binding = [what for what, there, wanted in zip(("flash", "ram"), has, needed, strict=True) if wanted > there]
    return BoardFit.model_validate(
        {
            "board": name,
            "title": title,
            "flash": has[0],
            "ram": has[1],
            "flash_needed": needed[0],
            "ram_needed": needed[1],
            "fits": runs and not binding,
            "binds": (" and ".join(binding) or "nothing") if runs else "runtime",
        }
    )
