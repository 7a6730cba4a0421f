"""`tinyrobust report`: the page of a run, written anew from its records."""

from pathlib import Path
from typing import Annotated

import typer

from tinyrobust.cli import console


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or of a model of the zoo.")],
    beside: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="A run, or a network of the zoo, to show beside it: on the same data. Repeatable."),
    ] = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Write `report.html` and the model card of a run anew from its records.

    Of a model of the zoo, the page goes into a folder here, `report-<name>`.

    **Examples**

        tinyrobust report runs/digits-stq-1a2b3c4d

        tinyrobust report runs/digits-robust-5e6f7a8b --beside runs/digits-stq-1a2b3c4d
    """
    with console.quiet_imports():
        from tinyrobust.pipeline.run import report as execute
    page = execute(run, beside=beside or ())
    if as_json:
        console.print_json({"report": str(page)})
        return
    console.OUT.print(f"Open the report: [bold]{page}[/]", soft_wrap=True)
