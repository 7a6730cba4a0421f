"""`tinyrobust attack`: how robust is exactly the file that is flashed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from tinyrobust.cli import console
from tinyrobust.cli.tables import percent, radius, table

if TYPE_CHECKING:
    from tinyrobust.robustness.record import RobustnessRecord

_HEADER = ("Target", "Attack", "Epsilon", "Robust accuracy (95 % interval)")


def attack(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A run's folder, its model.tflite, or anybody's .tflite.")],
    data: Annotated[str | None, typer.Option("--data", help="A data set or a .npz, for a file that is not of a run.")] = None,
    protocol: Annotated[str | None, typer.Option(help="A protocol from `list attacks`.")] = None,
    epsilon: Annotated[list[float], typer.Option(help="An L-inf radius in input units (0 to 1). Repeatable.")] = [],  # noqa: B006
    l2: Annotated[list[float], typer.Option(help="An L2 radius, for attacks in that norm. Repeatable.")] = [],  # noqa: B006
    l1: Annotated[list[float], typer.Option(help="An L1 radius, for attacks in that norm. Repeatable.")] = [],  # noqa: B006
    samples: Annotated[int | None, typer.Option(min=1, help="How many test images are attacked.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="For a file that is not of a run.")] = 7,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the results; an interrupted evaluation goes on from what is there.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what another evaluation left in the output folder.")
    ] = False,
    grid: Annotated[bool, typer.Option("--grid", help="Try every example rounded to the sensor's 8 bits too.")] = False,
    temperature: Annotated[
        float | None, typer.Option(min=1, help="That the network was distilled at; the recipe's, or estimated.")
    ] = None,
    surrogate: Annotated[
        Path | None, typer.Option(help="A .keras network trained apart, whose adversarial examples are transferred.")
    ] = None,
    input_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="What the file's inputs are for black and white; recognised when absent."),
    ] = None,
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Attack a run, or any `.tflite` classifier, and print its robust accuracy: the per-sample worst case.

    A file of a run is attacked through its Keras network too (white box, and transfer to the file), a stranger's file
    through a twin that is rebuilt from it. Checks say whether the figures can be trusted. It can be interrupted: the same
    command goes on.

    **Examples**

        tinyrobust attack runs/digits-stq-1a2b3c4d --epsilon 0.05 --epsilon 0.15

        tinyrobust attack runs/digits-stq-1a2b3c4d --protocol adaptive

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
            l2=l2,
            l1=l1,
            samples=samples,
            seed=seed,
            data_dir=data_dir,
            output=output,
            input_range=input_range,
            temperature=temperature,
            surrogate=surrogate,
            grid=grid or None,
            fresh=fresh,
            progress=progress,
        )
    if as_json:
        console.print_json(record.to_json())
        return
    console.OUT.print(table(record.model, "llrl", list(_rows(record)), _HEADER))
    trust = "" if record.reliable else " [red]unreliable[/]"
    headline = f"Worst case over all attacks and targets at epsilon {record.headline_epsilon:.4g}: {percent(record.headline)}"
    console.OUT.print(f"[bold]{headline}[/]{trust}", highlight=False)
    for note in record.notes:
        console.OUT.print(Text(note))
    for check in record.checks:
        if check.raised:
            line = Text.assemble(("Not to be trusted as it stands", "yellow"), f" ({check.name}): {check.explanation}")
            console.OUT.print(line)


def _rows(record: "RobustnessRecord") -> Iterator[tuple[str, str, str, str]]:
    for clean in record.clean:
        yield clean.target, "no attack, whole test set", "", percent(clean.test)
    for row in record.attacks:
        made = row.attack if row.crafted_on == row.target else f"{row.attack} on {row.crafted_on}"
        yield row.target, made, radius(row.norm, row.epsilon), percent(row.robust)
    for worst in record.worst:
        trust = "" if record.reliable else ", unreliable"
        yield worst.target, f"worst case{trust}", radius(worst.norm, worst.epsilon), percent(worst.robust)
