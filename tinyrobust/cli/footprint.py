"""`tinyrobust footprint`: which board a file fits, and what takes the space."""

from pathlib import Path
from typing import Annotated

import typer

from tinyrobust.cli import console
from tinyrobust.cli.tables import kib, table


def footprint(
    model: Annotated[Path, typer.Argument(metavar="MODEL.tflite", help="Any int8 .tflite, ours or somebody's.")],
    board: Annotated[list[str], typer.Option(help="A name from `list boards`, or all. Repeatable.")] = ["all"],  # noqa: B006
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Flash, RAM and multiply-accumulates of a `.tflite`, layer by layer, and the boards it fits.

    **Examples**

        tinyrobust footprint runs/digits-stq-1a2b3c4d/model.tflite

        tinyrobust footprint somebodys.tflite --board nucleo-l4r5zi --json
    """
    from tinyrobust.footprint.measure import footprint as measure

    record = measure(model, () if "all" in board else board)
    if as_json:
        console.print_json(record.to_json())
        return
    rows = [
        (
            layer.op,
            "x".join(map(str, layer.output_shape[1:])),
            f"{layer.macs:,}",
            layer.weight_kind if layer.weight_count else "",
            f"{layer.weight_bytes:,}",
            f"{layer.weight_bytes_packed:,}",
            f"{layer.bias_bytes + layer.quantization_bytes:,}",
            f"{layer.arena_bytes:,}",
        )
        for layer in record.layers
    ]
    header = ("Operator", "Output", "MACs", "Weights", "Stored", "Packed", "Other", "Arena")
    console.OUT.print(table(f"{record.model}: bytes by layer (other: biases, scales, zero points)", "lrrlrrrr", rows, header))
    quantities = (
        ("File (flash)", record.file),
        ("Weights as stored", record.weights_stored),
        ("Weights at their true bits", record.weights_packed),
        ("Tensor arena (RAM)", record.arena),
        ("Multiply-accumulates", record.macs),
    )
    totals = [(name, f"{q.value:,} {q.unit}", f"{q.provenance}: {q.how}") for name, q in quantities]
    console.OUT.print(table("In total", "lrt", totals))
    fits = [
        (
            fit.title,
            "fits" if fit.fits else f"too large: {fit.binds}",
            f"{kib(fit.flash_needed)} of {kib(fit.flash)}",
            f"{kib(fit.ram_needed)} of {kib(fit.ram)}",
        )
        for fit in record.boards
    ]
    console.OUT.print(table("Boards", "tlrr", fits, ("Board", "", "Flash, KiB", "RAM, KiB")))
    console.OUT.print(record.fit_counts, style="dim", highlight=False)
