"""`tinyrobust attack`: how robust is exactly the file that is flashed."""

from pathlib import Path
from typing import Annotated

import typer

from tinyrobust.cli import console
from tinyrobust.cli.tables import percent, table


def attack(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run's folder, its model.tflite, or anybody's .tflite.")],
    data: Annotated[str | None, typer.Option("--data", help="A data set or a .npz, for a file that is not of a run.")] = None,
    protocol: Annotated[str | None, typer.Option(help="A protocol from `list attacks`.")] = None,
    epsilon: Annotated[list[float], typer.Option(help="An L-inf radius in input units (0 to 1). Repeatable.")] = [],  # noqa: B006
    samples: Annotated[int | None, typer.Option(min=1, help="How many test images are attacked.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="For a file that is not of a run.")] = 7,
    output: Annotated[Path | None, typer.Option(help="Folder for robustness.json and per_sample.npz.")] = None,
    input_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="What the file's inputs are for black and white; recognised when absent."),
    ] = None,
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Attack a run, or any `.tflite` classifier, and print its robust accuracy: the per-sample worst case.

    A file of a run is attacked through its Keras network too (white box, and transfer to the file). A stranger's file is
    attacked as a black box.

    **Examples**

        tinyrobust attack runs/digits-stq-1a2b3c4d --epsilon 0.05 --epsilon 0.15

        tinyrobust attack somebodys.tflite --data cifar10 --samples 100
    """
    with console.quiet_imports():
        from tinyrobust.pipeline.attack import attack as execute
    with console.progress(not as_json) as progress:
        record = execute(
            model,
            data=data,
            protocol=protocol,
            epsilons=epsilon,
            samples=samples,
            seed=seed,
            data_dir=data_dir,
            output=output,
            input_range=input_range,
            progress=progress,
        )
    if as_json:
        console.print_json(record.to_json())
        return
    rows = [(clean.target, "no attack, whole test set", "", percent(clean.test)) for clean in record.clean]
    rows += [(result.target, result.attack, f"{result.epsilon:.4g}", percent(result.robust)) for result in record.attacks]
    rows += [(worst.target, "worst case", f"{worst.epsilon:.4g}", percent(worst.robust)) for worst in record.worst]
    header = ("Target", "Attack", "Epsilon", "Robust accuracy (95 % interval)")
    console.OUT.print(table(record.model, "llrl", rows, header))
    headline = f"Worst case over all attacks and targets at epsilon {record.headline_epsilon:.4g}: {percent(record.headline)}"
    console.OUT.print(f"[bold]{headline}[/]", highlight=False)
    for warning in record.warnings:
        console.OUT.print(f"[yellow]Not to be trusted as it stands:[/] {warning}")
