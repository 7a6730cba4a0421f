"""`tinyrobust leaderboard`: which network is hardest to fool in so much flash."""

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter

from tinyrobust import files
from tinyrobust.cli import console
from tinyrobust.cli.tables import table


def leaderboard(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER...", help="Folders with robustness.json and footprint.json, beside the zoo's."),
    ] = None,
    zoo: Annotated[bool, typer.Option("--zoo/--no-zoo", help="Whether the zoo's networks take part.")] = True,
    output: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Write it there as Markdown.")] = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Rank networks by worst-case robust accuracy, within tasks and budgets of flash (64, 128, 256, 512 KiB).

    Only figures of protocol `adaptive` (of sound, `waveform-adaptive`) without a raised check have a rank: what a weaker
    protocol leaves is an upper bound. Take part with the folder of a run, or with the records that `tinyrobust attack` and
    `tinyrobust footprint --json` leave.

    **Examples**

        tinyrobust leaderboard

        tinyrobust leaderboard runs/my-network-1a2b3c4d --output leaderboard.md

        tinyrobust leaderboard theirs/ --no-zoo --json
    """
    from tinyrobust.reports import formats
    from tinyrobust.reports import leaderboard as boards

    found = boards.entries([*(boards.zoo() if zoo else []), *(folders or [])])
    if not found:
        raise typer.BadParameter("Expected at least one folder with records, or --zoo. Received none.")
    if output is not None:
        files.write_atomic(output, boards.markdown(found))
    if as_json:
        console.print_json(TypeAdapter(list[boards.Entry]).dump_python(found, mode="json"))
        return
    for task, of_task in groupby(found, key=lambda entry: entry.task):
        for budget, group in groupby(of_task, key=lambda entry: entry.budget):
            title = f"{task.title}: {boards.budget_title(budget)}"
            rows = [
                (
                    boards.rank_of(place, entry),
                    entry.name,
                    f"{formats.size(entry.flash.value)} {entry.whose}",
                    formats.percent(entry.accuracy.value),
                    formats.proportion(entry.robust),
                    entry.doubt or entry.protocol,
                )
                for place, entry in enumerate(group, start=1)
            ]
            console.OUT.print(table(title, "rltrtt", rows, ("", "Network", "Flash", "Accuracy", "Robust, worst case", "By")))
    if output is not None:
        console.OUT.print(f"Written to [bold]{output}[/]", soft_wrap=True)
