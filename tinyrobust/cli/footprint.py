"""`tinyrobust footprint`: which board a file fits, and what takes the space."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyrobust.cli import console
from tinyrobust.cli.tables import kib, table

if TYPE_CHECKING:
    from tinyrobust.footprint.footprint_record import BoardFit, DeviceFootprint, FootprintRecord, Quantity

_OVER_BUDGET = 3  # 1 is an error and 2 a wrong argument


def footprint(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="Any int8 .tflite, ours or somebody's, or the folder of a run or of the zoo."),
    ],
    board: Annotated[list[str], typer.Option(help="A name from `list boards`, or all. Repeatable.")] = ["all"],  # noqa: B006
    device: Annotated[
        bool, typer.Option("--device/--no-device", help="Also compile and emulate the generated C; takes seconds.")
    ] = True,
    budget: Annotated[
        str | None,
        typer.Option(metavar="LIMITS", help="Such as flash=256K,ram=64K: exit status 3 when file and runtime need more."),
    ] = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Flash, RAM and work of a `.tflite`, layer by layer, in TensorFlow Lite Micro and as C, and the boards it fits.

    **Examples**

        tinyrobust footprint runs/digits-stq-1a2b3c4d/model.tflite

        tinyrobust footprint somebodys.tflite --board nucleo-l4r5zi --json

        tinyrobust footprint model.tflite --budget flash=256K,ram=64K --no-device

    **Exit status**, for CI: 0 when it keeps to the budget (or none is given), 3 when it does not, 1 for an error, 2 for
    arguments that do not exist. The budget counts what `boards` counts: TensorFlow Lite Micro with the file, its arena, its own
    data and the stack.
    """
    from tinyrobust.footprint import budget as budgets
    from tinyrobust.footprint.measure import footprint as measure
    from tinyrobust.pipeline.models import locate

    if not model.is_file():
        model = locate(model)[1]
    limits = budgets.parse(budget) if budget is not None else None
    with console.progress(not as_json) as progress:
        record = measure(model, () if "all" in board else board, device=device, progress=progress)
    verdict = budgets.check(record, limits) if limits else None
    if as_json:
        kept = {"budget": verdict.model_dump(mode="json")} if verdict else {}
        console.print_json(record.model_dump(mode="json", by_alias=True) | kept)
    else:
        _show(record)
        if verdict:
            console.OUT.print(table("Budget, with TensorFlow Lite Micro", "tlrr", [_fit(verdict)], _BOARD_HEADER))
    if verdict and not verdict.fits:
        raise SystemExit(_OVER_BUDGET)


def _show(record: "FootprintRecord") -> None:
    """Layers, totals, the generated C, boards."""
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
    console.OUT.print(f"Input: {'; '.join(record.inputs)}. Output: {'; '.join(record.outputs)}.", markup=False, highlight=False)
    for sentence in (f"It computes in {record.kind}.", *record.remarks):
        console.OUT.print(sentence, markup=False, highlight=False)
    header = ("Operator", "Output", "MACs", "Weights", "Stored", "Packed", "Other", "Arena")
    console.OUT.print(table(f"{record.model}: bytes by layer (other: biases, scales, zero points)", "lrrlrrrr", rows, header))
    totals = [
        ("File (flash)", record.file),
        ("Weights as stored", record.weights_stored),
        ("Weights at their true bits", record.weights_packed),
        ("Multiply-accumulates", record.macs),
        ("TensorFlow Lite Micro: flash", record.tflm_flash),
        ("TensorFlow Lite Micro: planned arena", record.arena),
    ]
    if record.tflm_arena:
        totals.append(("TensorFlow Lite Micro: arena", record.tflm_arena))
    if record.tflm_own and record.tflm_ram and not record.tflm_refused:
        totals.append(("TensorFlow Lite Micro: its own data", record.tflm_own))
        totals.append(("TensorFlow Lite Micro: RAM", record.tflm_ram))
    console.OUT.print(table("In total", "lrt", [_quantity(name, quantity) for name, quantity in totals]))
    if record.device:
        _show_device(record.device)
    elif record.device_missing:
        console.OUT.print(f"The generated C was not measured: {record.device_missing}", style="yellow", markup=False)
    if record.tflm_refused:
        sentence = f"TensorFlow Lite Micro does not run this file: {record.tflm_refused}. So it fits no board with it."
        console.OUT.print(sentence, style="yellow", markup=False, highlight=False)
    else:
        console.OUT.print(table("Boards, with TensorFlow Lite Micro", "tlrr", map(_fit, record.boards), _BOARD_HEADER))
    console.OUT.print(record.fit_counts, style="dim", highlight=False)


_BOARD_HEADER = ("Board", "", "Flash, KiB", "RAM, KiB")


def _show_device(device: "DeviceFootprint") -> None:
    """The generated C: totals, layers and boards."""
    totals = (("Flash", device.flash), ("RAM", device.ram), ("Instructions", device.instructions))
    rows = [_quantity(name, quantity) for name, quantity in totals]
    rows.append(("Bits per weight", f"{device.bits_per_weight:.2f}", "measured: the packed weights in flash"))
    run = device.emulation
    if run.equal is not None:
        rows.append(("Outputs equal", f"{run.equal} of {run.n}", f"emulated, against {run.golden}: {run.inputs}"))
    elif run.golden:
        rows.append(("Outputs equal", "", f"TensorFlow Lite Micro was {run.golden}"))
    console.OUT.print(table("As C (tinyrobust export --format c)", "lrt", rows))
    times = {one.board: one.milliseconds for one in device.times}
    fits = [(*_fit(fit), times.get(fit.board, "")) for fit in device.boards]
    console.OUT.print(table("Boards, with the C", "tlrrr", fits, (*_BOARD_HEADER, "One inference, ms")))
    for provenance in dict.fromkeys(one.time.provenance for one in device.times):
        board = next(one for one in device.times if one.time.provenance == provenance)
        hows = "; ".join(one.how for one in (board.time, board.at_most) if one)
        console.OUT.print(f"{provenance.capitalize()}, such as {board.title}: {hows}", style="dim", highlight=False)


def _quantity(name: str, quantity: "Quantity") -> tuple[str, str, str]:
    return name, f"{quantity.value:,} {quantity.unit}", f"{quantity.provenance}: {quantity.how}"


def _fit(fit: "BoardFit") -> tuple[str, str, str, str]:
    return (
        fit.title,
        _verdict(fit),
        f"{kib(fit.flash_needed)} of {kib(fit.flash)}",
        f"{kib(fit.ram_needed)} of {kib(fit.ram)}",
    )


def _verdict(fit: "BoardFit") -> str:
    if fit.binds == "runtime":
        return "not run by it"
    return "fits" if fit.fits else f"too large: {fit.binds}"
