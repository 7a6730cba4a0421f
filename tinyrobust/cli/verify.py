"""`tinyrobust verify`: whether the figures of a card hold when they are measured again."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from tinyrobust.cli import console
from tinyrobust.cli.tables import percent, radius, table

if TYPE_CHECKING:
    from tinyrobust.pipeline.verification_record import VerificationRecord

_HEADER = ("Figure", "Of", "On the card", "Measured again", "")


def verify(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The folder of a model of the zoo or of a run, or a name of it.")
    ],
    accuracy: Annotated[float, typer.Option(min=0, max=1, help="Share of the test set for accuracy.")] = 1.0,
    attacks: Annotated[float, typer.Option(min=0, max=1, help="Share of the attacked samples; 0: no attack.")] = 0.25,
    domain: Annotated[Literal["features", "waveform"], typer.Option(help="What is attacked: as of `attack`.")] = "features",
    protocol: Annotated[str | None, typer.Option(help="The card's, where it is a file of yours.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the attacks; an interrupted evaluation goes on from what is there.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what another evaluation left in the output folder.")
    ] = False,
    jobs: console.Jobs = 1,
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Measure a card again: accuracy, and the attacks of its protocol on a share of its samples. Say whether its figures hold.

    File and data are compared first. A figure holds within what so many of its samples allow. One that was measured on a
    network that is not in the folder is not measured. A robust accuracy that the attacks do not reach again is said to be so:
    it contradicts nothing.

    **Examples**

        tinyrobust verify models/cifar10-stq --attacks 0

        tinyrobust verify models/cifar10-stq-adversarial --accuracy 0.1 --attacks 0.5 --jobs 2

        tinyrobust verify kws-stq --json

    **Exit status**, for CI: 0 when no figure differs, 1 when one does, or for an error.
    """
    with console.quiet_imports():
        from tinyrobust.pipeline.verify import verify as again
    with console.progress(not as_json) as progress:
        record = again(
            model, accuracy=accuracy, attacks=attacks, domain=domain, protocol=protocol, data_dir=data_dir, output=output,
            fresh=fresh, jobs=jobs, progress=progress,
        )  # fmt: skip
    if as_json:
        console.print_json(record.to_json())
    else:
        _show(record)
    if not record.holds:
        raise SystemExit(1)


def _show(record: "VerificationRecord") -> None:
    console.OUT.print(table(f"{record.model}, protocol {record.protocol}", "llttl", list(_rows(record)), _HEADER))
    for figure in record.figures:
        if figure.explanation:
            at = "" if figure.epsilon is None or figure.norm is None else f" at {radius(figure.norm, figure.epsilon)}"
            console.OUT.print(Text(f"{figure.name} {figure.target}{at}: {figure.explanation}"))
    for note in record.notes:
        console.OUT.print(Text(note))
    verdict = "[bold]The card holds.[/]" if record.holds else "[bold red]The card does not hold.[/]"
    console.OUT.print(verdict, highlight=False)


def _rows(record: "VerificationRecord") -> Iterator[tuple[str, str, str, str, str]]:
    for figure in record.figures:
        at = "" if figure.epsilon is None or figure.norm is None else f" {radius(figure.norm, figure.epsilon)}"
        recorded = percent(figure.recorded) if figure.recorded else ""
        measured = percent(figure.measured) if figure.measured else ""
        yield f"{figure.name}{at}", figure.target, recorded, measured, figure.verdict
