"""`tinyrobust sweep`: many runs, and their comparison."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from tinyrobust.cli import console
from tinyrobust.cli.tables import table

if TYPE_CHECKING:
    from tinyrobust.sweep.expand import Job
    from tinyrobust.sweep.schedule import Status
    from tinyrobust.sweep.sweep_record import CellRecord, SweepRecord

    Standing = Sequence[tuple[Job, Status]]

_ROWS = 24  # the live table shows so many jobs: those that run or failed first


def sweep(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A sweep file, or a name from models/papers, such as stq.")],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Runs at a time; each gets its share of the cores.")] = 1,
    overrides: console.Settings = [],  # noqa: B006
    runs_dir: console.RunsDir = Path("runs"),
    data_dir: console.DataDir = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the comparison and the logs. Default: sweeps/NAME.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which runs there are and what is missing, and stop.")] = False,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Run a grid of recipes and compare them: mean and spread over seeds, n and interval, others' figures beside ours.

    Writes `sweep.json`, `sweep.csv`, `sweep.html` and `sweep.md`, a table for a README. What runs have in common is computed
    once; a run that fails does not stop the others; stopped and started again, only what is missing runs. Exits with 1 when a
    run has failed.

    **Examples**

        tinyrobust sweep stq --data-dir ~/tensorflow_datasets

        tinyrobust sweep my-sweep.toml --jobs 2 --set train.epochs=5

        tinyrobust sweep stq --dry-run
    """
    with console.quiet_imports():
        from tinyrobust.sweep.run import sweep as execute
    if dry_run:
        _plan(file, overrides, runs_dir, as_json)
        return
    with _watching(not as_json) as watch:
        record = execute(
            file, workers=jobs, overrides=overrides, runs_dir=runs_dir, data_dir=data_dir, output=output, watch=watch
        )
    failed = [job for job in record.jobs if job.state == "failed"]
    if as_json:
        console.print_json(record.to_json())
    else:
        _show(record)
        for job in failed:
            console.OUT.print(Text.assemble(("Failed", "red"), f" {job.run}: {job.error}"), soft_wrap=True)
        folder = output or Path("sweeps") / record.name
        console.OUT.print(f"\nOpen the comparison: [bold]{folder / 'sweep.html'}[/]", soft_wrap=True)
    if failed:
        raise SystemExit(1)


def _plan(file: str, overrides: list[str], runs_dir: Path, as_json: bool) -> None:
    from tinyrobust.sweep.expand import expand
    from tinyrobust.sweep.schedule import prepare
    from tinyrobust.sweep.spec import load

    spec, path = load(file)
    jobs = expand(spec, path, overrides)
    statuses = prepare(jobs, runs_dir, spec.until)
    rows = [(job.title, status.path.name, status.state.value) for job, status in zip(jobs, statuses, strict=True)]
    if as_json:
        console.print_json([dict(zip(("job", "run", "state"), row, strict=True)) for row in rows])
    else:
        console.OUT.print(table(f"{spec.name}: {len(rows)} runs", "tll", rows, ("Job", "Run", "State")))


@contextlib.contextmanager
def _watching(shown: bool) -> Iterator[Callable[["Standing"], None]]:
    """What draws the jobs: a live table on a terminal, a line for every change elsewhere."""
    if not shown:
        yield lambda _: None
    elif console.ERR.is_terminal:
        with Live(console=console.ERR, refresh_per_second=4, transient=True) as live:
            yield lambda standing: live.update(_live(standing))
    else:
        yield _Lines()


class _Lines:
    """A line when a job starts or ends."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, standing: "Standing") -> None:
        for job, status in standing:
            state = status.state.value
            if self._known.get(job.title, "waiting") != state:
                console.ERR.print(f"{job.title}: {state} {status.error}".rstrip(), highlight=False, markup=False)
            self._known[job.title] = state


def _live(standing: "Standing") -> RenderableType:
    order = {"running": 0, "failed": 1, "waiting": 2, "complete": 3}
    chosen = sorted(standing, key=lambda one: order[one[1].state.value])[:_ROWS]
    rows = [
        (job.title, status.state.value, _where(status), f"{status.seconds:.0f} s" if status.seconds else "")
        for job, status in chosen
    ]
    done = sum(status.state.value == "complete" for _, status in standing)
    drawn = table(f"{done} of {len(standing)} runs complete", "tltr", rows, ("Job", "State", "Now", "Time"))
    return Group(drawn, Text(f"and {len(standing) - _ROWS} more") if len(standing) > _ROWS else Text())


def _where(status: "Status") -> str:
    if status.state.value == "failed":
        return status.error
    return f"{status.label} {100 * status.done // status.total} %" if status.label else ""


def _show(record: "SweepRecord") -> None:
    """The comparison: a row's cells below each other, because they do not fit side by side."""
    rows = []
    for row in record.rows:
        name = ", ".join(row.labels.values()) or record.name
        for cell in row.cells:
            rows.append((name, record.columns[cell.column], *_cell(cell)))
            name = ""
    console.OUT.print(table(record.name, "tlltr", rows, ("Row", "Column", "Mean", "Interval", "Reference")))
    if record.source:
        console.OUT.print(f"Reference: {record.source}", style="dim", highlight=False, markup=False)


def _cell(cell: "CellRecord") -> tuple[str, str, str]:
    from tinyrobust.sweep.columns import named
    from tinyrobust.sweep.compare import conditions, spread, written

    unit = named(cell.column).unit
    reference = "" if cell.reference is None else written(unit, cell.reference)
    if cell.mean is None:
        return "-", "", reference
    return f"{written(unit, cell.mean)} {spread(unit, cell)}".strip(), ", ".join(conditions(cell)), reference
