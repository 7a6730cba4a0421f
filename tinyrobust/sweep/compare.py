"""The comparison of a sweep: what its runs found, row by row, as a record and as CSV."""

import csv
import io
import statistics
from collections.abc import Sequence

from tinyrobust.errors import RunFolderError
from tinyrobust.reports import formats
from tinyrobust.robustness.statistics import wilson
from tinyrobust.sweep.columns import Unit, Value, named, value
from tinyrobust.sweep.schedule import State, Status
from tinyrobust.sweep.spec import Sweep
from tinyrobust.sweep.sweep_record import CellRecord, JobRecord, RowRecord, SweepRecord

Row = tuple[tuple[str, str], ...]


def compare(sweep: Sweep, statuses: Sequence[tuple[Row, int, int | None, Status]], runs_dir: str, workers: int) -> SweepRecord:
    """The record of a sweep as it stands: rows that are not complete have what there is.

    Args:
        sweep: The sweep.
        statuses: For each job its row, seed, fold and status; jobs of one recipe share a status.
        runs_dir: Where the runs are.
        workers: How many ran at a time.
    """
    rows = list(dict.fromkeys(row for row, *_ in statuses))
    return SweepRecord(
        name=sweep.name,
        description=sweep.description,
        source=sweep.source,
        runs_dir=runs_dir,
        until=sweep.until,
        workers=workers,
        columns={name: named(name).title for name in sweep.columns},
        pareto=sweep.pareto,
        rows=[_row(sweep, row, [(seed, status) for at, seed, _, status in statuses if at == row]) for row in rows],
        jobs=[_job(*one) for one in statuses],
    )


def _row(sweep: Sweep, row: Row, jobs: Sequence[tuple[int, Status]]) -> RowRecord:
    for _, status in jobs:
        _must_be_readable(sweep, status)
    done = [(seed, status) for seed, status in jobs if status.state is State.complete]
    labels = dict(row)
    figures = {
        column: number
        for reference in sweep.references
        if reference.row.items() <= labels.items()
        for column, number in reference.figures.items()
    }
    cells = []
    for column in sweep.columns:
        values = [(seed, value(status.path, column)) for seed, status in done]
        cells.append(_cell(column, [(seed, one) for seed, one in values if one], figures.get(column)))
    return RowRecord(labels=labels, cells=cells, complete=len(done), jobs=len(jobs))


def _must_be_readable(sweep: Sweep, status: Status) -> None:
    """A run whose records are of another version is a failed job, not the end of the sweep."""
    try:
        for column in sweep.columns if status.state is State.complete else ():
            value(status.path, column)
    except RunFolderError as problem:
        status.state, status.error = State.failed, str(problem)


def _cell(column: str, values: Sequence[tuple[int, Value]], reference: float | None) -> CellRecord:
    by_seed = [_pooled([one for at, one in values if at == seed]) for seed in dict.fromkeys(seed for seed, _ in values)]
    mean = statistics.fmean(one.value for one in by_seed) if by_seed else None
    sizes = [one.n for one in by_seed if one.n]
    n = min(sizes) if sizes else None
    interval = wilson(round(mean * n), n) if mean is not None and n else None
    return CellRecord(
        column=column,
        runs=len(values),
        mean=mean,
        spread=statistics.stdev(one.value for _, one in values) if len(values) > 1 else None,
        n=n,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        reliable=all(one.reliable for _, one in values),
        note="; ".join(dict.fromkeys(one.note for _, one in values if one.note)),
        reference=reference,
    )


def _pooled(values: Sequence[Value]) -> Value:
    """The parts of a cross-validation as one figure: each of their samples counts once."""
    reliable = all(one.reliable for one in values)
    counts, sizes = [one.count for one in values], [one.n for one in values]
    if all(count is not None for count in counts):
        count, n = sum(filter(None, counts)), sum(filter(None, sizes))
        return Value(count / n, count, n, reliable)
    return Value(statistics.fmean(one.value for one in values), reliable=reliable)


def _job(row: Row, seed: int, fold: int | None, status: Status) -> JobRecord:
    return JobRecord(
        labels=dict(row),
        seed=seed,
        fold=fold,
        run=status.path.name,
        recipe_hash=status.job.recipe.hash,
        state=status.state.value,
        seconds=round(status.seconds, 1),
        error=status.error,
        shared=status.shared,
    )


def to_csv(record: SweepRecord) -> str:
    """The rows as CSV: labels, then for every column its mean, spread and runs; n and interval of shares; references."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    axes = list(record.rows[0].labels)
    extras = {
        name: ("spread", "runs", *(("n", "low", "high") if named(name).unit == "share" else ())) for name in record.columns
    }
    referred = {cell.column for row in record.rows for cell in row.cells if cell.reference is not None}
    header = [*axes, "complete", "jobs"]
    for name, more in extras.items():
        header += [name, *(f"{name} {extra}" for extra in more), *([f"{name} reference"] if name in referred else [])]
    writer.writerow(header)
    for row in record.rows:
        line: list[object] = [*row.labels.values(), row.complete, row.jobs]
        for cell in row.cells:
            line += [cell.mean, *(getattr(cell, extra) for extra in extras[cell.column])]
            line += [cell.reference] if cell.column in referred else []
        writer.writerow(line)
    return out.getvalue()


def written(unit: Unit, number: float) -> str:
    """A figure as people read it: `85.3 %`, `54.5 KiB`, `2.7 M`, `3 min 12 s`."""
    if unit == "share":
        return formats.percent(number)
    if unit == "B":
        return formats.size(number)
    return formats.duration(number) if unit == "s" else formats.total(round(number))


def spread(unit: Unit, cell: CellRecord) -> str:
    """The spread with its sign, `± 0.3`, in the unit of the mean; nothing where there is none, or where all runs agree."""
    if not cell.spread:
        return ""
    return f"± {100 * cell.spread:.2g}" if unit == "share" else f"± {written(unit, cell.spread)}"


def conditions(cell: CellRecord) -> list[str]:
    """What a figure holds under, as plain text: `n = 1,250, 79.4 to 89.3`, its note, whether a check was raised."""
    words = []
    if cell.n is not None and cell.low is not None and cell.high is not None:
        words.append(f"n = {formats.count(cell.n)}, {formats.number(cell.low)} to {formats.number(cell.high)}")
    return words + [text for text in (cell.note, "" if cell.reliable else "unreliable: a check was raised") if text]
