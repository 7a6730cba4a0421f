"""What the generated C of a model costs, and which boards have room for it: compiled and emulated, not computed."""

from collections.abc import Sequence

from tinyrobust.deploy import device
from tinyrobust.deploy.artefact import Artefact
from tinyrobust.deploy.deploy_records import DeviceRecord, ModelledCycles
from tinyrobust.deploy.probing import probes
from tinyrobust.errors import MissingToolError, ModelFileError
from tinyrobust.footprint.boards import Board, fit
from tinyrobust.footprint.footprint_record import BoardTime, DeviceFootprint, Quantity
from tinyrobust.progress import Progress

# The emulated board is a Cortex-M4 with DSP instructions; these cores run the same program.
_SAME_INSTRUCTIONS = ("Cortex-M4", "Cortex-M7", "Cortex-M33", "Cortex-M55", "Cortex-M85")


def on_device(
    artefact: Artefact, weight_count: int, boards: Sequence[Board], inputs: int, progress: Progress
) -> tuple[DeviceFootprint | None, str]:
    """The footprint of the C that is generated from a model; None and the reason where that cannot be had here.

    Args:
        artefact: A `.tflite` file.
        weight_count: Weights of the file.
        boards: What to compare with.
        inputs: How many inputs it is run on.
        progress: Called at every step.

    Raises:
        TinyRobustError: The generated program fails: that is a fault of ours.
    """
    try:
        record = device.measure(artefact.path, probes(artefact, inputs), cycles=True, progress=progress)
    except (MissingToolError, ModelFileError) as error:
        return None, str(error)
    where = f"on {record.board}, {record.compiler.partition(' ')[0]} {record.optimisation}"
    packed = sum(layer.weight_bytes for layer in record.layers)
    return (
        DeviceFootprint(
            flash=Quantity(
                value=record.flash,
                unit="B",
                provenance="measured",
                how=f"code {record.code}, tables and weights {record.rodata}, data {record.data}; linked {where}",
            ),
            ram=Quantity(
                value=record.ram,
                unit="B",
                provenance="emulated",
                how=f"arena with the input {record.data + record.bss}, outputs {record.output_bytes}, stack {record.stack}",
            ),
            instructions=Quantity(
                value=record.instructions, unit="instructions", provenance="emulated", how=f"one inference {where}; not cycles"
            ),
            bits_per_weight=8 * packed / weight_count if weight_count else 0.0,
            boards=[fit(board, record.flash, record.ram) for board in boards],
            times=[time for board in boards if (time := _time(board, record))],
            emulation=record,
        ),
        "",
    )


def _time(board: Board, record: DeviceRecord) -> BoardTime | None:
    """Modelled where the board's core is, else estimated where it runs the same program; else None."""
    for cycles in record.cycles:
        if board.core.startswith(cycles.core):
            return _modelled(board, cycles)
    if not (board.dsp and board.core.startswith(_SAME_INSTRUCTIONS)):
        return None
    how = (
        f"{record.instructions} instructions (emulated) of one cycle each at {board.clock_mhz} MHz: real cores stall on loads "
        "and flash wait states, or issue two instructions at once"
    )
    value = Quantity(value=round(record.instructions / board.clock_mhz), unit="us", provenance="estimated", how=how)
    return BoardTime(board=board.name, title=board.title, time=value)


def _modelled(board: Board, cycles: ModelledCycles) -> BoardTime:
    """The fewest cycles with flash as fast as the core; the most with wait states and no cache."""
    least = (
        f"at least: {cycles.low} cycles at {board.clock_mhz} MHz with flash as fast as the core, as behind a cache that always "
        f"hits ({cycles.high} at most); by the {cycles.source}"
    )
    most = None
    if board.flash_wait_states is None or board.flash_line_bits is None:
        least += "; the wait states of this flash are not known here"
    else:
        count = cycles.without_cache(board.flash_wait_states, board.flash_line_bits)
        how = (
            f"at most: {count} cycles at {board.clock_mhz} MHz without a cache, {board.flash_wait_states} wait states for each "
            f"{board.flash_line_bits} bits of code and each constant"
        )
        most = Quantity(value=round(count / board.clock_mhz), unit="us", provenance="modelled", how=how)
    time = Quantity(value=round(cycles.low / board.clock_mhz), unit="us", provenance="modelled", how=least)
    return BoardTime(board=board.name, title=board.title, time=time, at_most=most)
