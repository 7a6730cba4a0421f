"""sweep.json: which runs a sweep has, and what they found, row by row."""

from typing import ClassVar, Literal

from tinyrobust.records import Part, Record


class CellRecord(Part):
    """One column of one row.

    Attributes:
        column: Its name.
        runs: How many runs have the figure.
        mean: Over the seeds; the parts of a cross-validation are pooled first. None without runs.
        spread: Standard deviation over the runs (n - 1); None with fewer than two.
        n: For a share, the samples behind the figure of one seed; the test images are the same for every seed.
        low: For a share, lower end of the 95 % Wilson interval of the mean with this n; seeds do not narrow it.
        high: Its upper end.
        reliable: False where a check of one of the runs says that the figure is not to be trusted.
        note: Under which conditions the figure holds, such as the radius of the attacks; all that occur.
        reference: Somebody else's figure; see `SweepRecord.source`.
    """

    column: str
    runs: int
    mean: float | None
    spread: float | None
    n: int | None
    low: float | None
    high: float | None
    reliable: bool
    note: str
    reference: float | None


class RowRecord(Part):
    """One combination of the axes: its labels, its cells in the order of the columns, how many of its runs are complete."""

    labels: dict[str, str]
    cells: list[CellRecord]
    complete: int
    jobs: int


class JobRecord(Part):
    """One run.

    Attributes:
        labels: Its row.
        seed: Its seed.
        fold: Its part of a cross-validation, from 0; None without.
        run: The name of its folder.
        recipe_hash: Of the resolved recipe.
        state: Where it stands; waiting and running mean that the sweep was stopped.
        seconds: How long it ran in this sweep; 0 where it was complete before the sweep was first run.
        error: Why it failed.
        shared: Stages that were copied, and the run that they are from.
    """

    labels: dict[str, str]
    seed: int
    fold: int | None
    run: str
    recipe_hash: str
    state: Literal["waiting", "running", "complete", "failed"]
    seconds: float
    error: str
    shared: dict[str, str]


class SweepRecord(Record):
    """A sweep: `columns` gives the title of each; `source` says where references are from; `workers` ran at a time.

    `pareto` are the two columns that the page plots against each other: a cost and a share.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.sweep/1"
    name: str
    description: str
    source: str
    runs_dir: str
    until: str
    workers: int
    columns: dict[str, str]
    pareto: tuple[str, str] | None = None
    rows: list[RowRecord]
    jobs: list[JobRecord]
