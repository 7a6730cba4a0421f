"""`tinyrobust emulate`: what the generated C answers and costs on a microcontroller, without one."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyrobust.cli import console
from tinyrobust.cli.tables import table

if TYPE_CHECKING:
    from tinyrobust.deploy.deploy_records import DeviceRecord, ModelledCycles
    from tinyrobust.deploy.firmware import Optimisation


class Level(StrEnum):
    """How the compiler optimises."""

    size = "Os"
    speed = "O2"
    more_speed = "O3"


_FLAGS: dict[Level, "Optimisation"] = {Level.size: "-Os", Level.speed: "-O2", Level.more_speed: "-O3"}


def emulate(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The folder of a run or of a model of the zoo, or anybody's int8 .tflite.")
    ],
    board: Annotated[
        list[str], typer.Option(help="mps2-an385 (M3), mps2-an386 (M4F), mps2-an500 (M7) or mps3-an547 (M55). Repeatable.")
    ] = ["mps2-an386"],  # noqa: B006
    optimise: Annotated[list[Level], typer.Option(help="For size or speed. Repeatable.")] = [Level.size],  # noqa: B006
    images: Annotated[int, typer.Option(min=1, help="How many inputs are run.")] = 16,
    data: Annotated[str | None, typer.Option("--data", help="A data set or a .npz, for a file that is not of a run.")] = None,
    input_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="What the file's inputs are for black and white; recognised when absent."),
    ] = None,
    cycles: Annotated[bool, typer.Option(help="Model the cycles of a Cortex-M4 and a Cortex-M0+ too.")] = True,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for each step of building and running.")] = 600,
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Run the generated C of a model on an emulated microcontroller: outputs, instructions, modelled cycles, stack and bytes.

    Outputs are compared with TensorFlow Lite Micro's. Without `--data`, a file that is not of a run gets random inputs.

    **Examples**

        tinyrobust emulate runs/digits-stq-1a2b3c4d

        tinyrobust emulate somebodys.tflite --board mps2-an385 --board mps2-an500 --optimise O2

        tinyrobust emulate somebodys.tflite --data cifar10 --images 100
    """
    from tinyrobust.pipeline.emulate import emulate as execute

    with console.progress(not as_json) as progress:
        records = [
            execute(
                model,
                board=name,
                optimisation=_FLAGS[level],
                images=images,
                data=data,
                data_dir=data_dir,
                input_range=input_range,
                timeout=timeout,
                cycles=cycles and name == board[0],  # they are of the C, not of the board
                progress=progress,
            )
            for name in board
            for level in optimise
        ]
    if as_json:
        console.print_json([record.model_dump(mode="json", by_alias=True) for record in records])
        return
    for record in records:
        _show(record)


def _show(record: "DeviceRecord") -> None:
    rows = [
        (
            layer.op,
            layer.kernel,
            layer.weights,
            f"{layer.weight_bytes:,}" if layer.weight_bytes else "",
            f"{layer.instructions:,}",
            f"{layer.instructions / layer.macs:.2f}" if layer.macs else "",
        )
        for layer in record.layers
    ]
    header = ("Operator", "Kernel", "Weights", "Bytes", "Instructions", "per MAC")
    console.OUT.print(table(f"{record.model} on {record.board}, {record.optimisation}: by layer", "ttlrrr", rows, header))
    totals = [
        ("Outputs equal to TensorFlow Lite Micro's", _equal(record)),
        ("Instructions of one inference", f"{record.instructions:,} (emulated: not cycles)"),
        ("Flash", f"{record.flash:,} B: code {record.code:,}, constants {record.rodata:,}, data {record.data:,}"),
        (
            "Static RAM",
            f"{record.static_ram:,} B: arena with the input {record.bss + record.data:,}, outputs {record.output_bytes:,}",
        ),
        ("Deepest stack", f"{record.stack:,} B"),
    ]
    if record.right is not None:
        totals.insert(1, ("Right answers", f"{record.right} of {record.n}"))
    totals += [(f"Cycles of a {one.core}", _cycles(one)) for one in record.cycles]
    if record.cycles_missing:
        totals.append(("Cycles", f"not modelled: {record.cycles_missing}"))
    slow = [f"{layer.index} ({layer.op})" for layer in record.layers if layer.portable]
    if slow:
        totals.append(("Slower, portable kernels", f"layers {', '.join(slow)}"))
    console.OUT.print(table(record.core, "lt", totals))
    for one in record.cycles:
        console.OUT.print(f"Modelled by the {one.source}. {' '.join(one.assumptions)}", style="dim", highlight=False)


def _cycles(cycles: "ModelledCycles") -> str:
    bounds = f"{cycles.low:,} to {cycles.high:,}" if cycles.low < cycles.high else f"{cycles.low:,}"
    return f"{bounds} (modelled, {cycles.low / cycles.instructions:.2f} an instruction), where flash has no wait states"


def _equal(record: "DeviceRecord") -> str:
    if record.equal is None:
        return f"TensorFlow Lite Micro was {record.golden or 'not asked'}: pip install 'tinyrobust[mcu]'"
    return f"{record.equal} of {record.n} ({record.inputs})"
