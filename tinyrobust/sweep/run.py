"""Runs a sweep: its jobs, and the comparison that is written anew whenever one ends."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tinyrobust.errors import RunFolderError
from tinyrobust.files import write_atomic
from tinyrobust.pipeline.folder import locked
from tinyrobust.sweep import compare as comparison
from tinyrobust.sweep.expand import Job, expand
from tinyrobust.sweep.page import markdown, page
from tinyrobust.sweep.schedule import State, Status, execute, prepare
from tinyrobust.sweep.spec import Sweep, load
from tinyrobust.sweep.sweep_record import SweepRecord

Watch = Callable[[Sequence[tuple[Job, Status]]], None]


def sweep(
    source: str | Path,
    *,
    workers: int = 1,
    overrides: Iterable[str] = (),
    runs_dir: str | Path = "runs",
    data_dir: str | Path | None = None,
    output: str | Path | None = None,
    watch: Watch = lambda _: None,
) -> SweepRecord:
    """Runs what is missing of a sweep, and compares.

    A run that is complete in `runs_dir` is not run again, whoever made it; one that was interrupted goes on. What runs have in
    common (a teacher, a trained network that is exported or attacked in several ways) is computed once. A job that fails is
    reported in the record, and does not stop the others.

    Args:
        source: A sweep file, or a name from `models/papers/`.
        workers: How many runs at a time, each in a process with its share of the cores.
        overrides: Settings for every run, such as "train.epochs=1"; they give the runs other hashes, and so other folders.
        runs_dir: Where run folders are made.
        data_dir: Where data sets are stored.
        output: Where `sweep.json`, `sweep.csv`, `sweep.html`, `sweep.md` and the logs go; `sweeps/<name>` when None.
        watch: Called with every job and how it stands, whenever something has changed.

    Raises:
        TinyRobustError: The sweep file or one of its recipes is not valid, or another process runs the sweep.
    """
    spec, path = load(source)
    jobs = expand(spec, path, overrides)
    runs, folder = Path(runs_dir), Path("sweeps") / spec.name if output is None else Path(output)
    with locked(folder):
        statuses = prepare(jobs, runs, spec.until)
        _remember(statuses, folder / "sweep.json")
        writer = _Writer(spec, jobs, statuses, folder, str(runs), workers)

        def look() -> None:
            watch(list(zip(jobs, statuses, strict=True)))
            writer.write()

        look()
        try:
            execute(
                statuses,
                workers=workers,
                until=spec.until,
                data_dir=None if data_dir is None else Path(data_dir),
                folder=folder,
                watch=look,
            )
        finally:
            writer.write()
    return writer.record


def _remember(statuses: Sequence[Status], path: Path) -> None:
    """What an earlier sweep knew of the runs that are complete: how long they took."""
    try:
        known = {job.recipe_hash: job for job in SweepRecord.load(path).jobs}
    except RunFolderError:  # there is none, or of another version
        return
    for status in statuses:
        job = known.get(status.job.recipe.hash)
        if job and status.state is State.complete:
            status.seconds = job.seconds


class _Writer:
    """Writes the comparison when the state of a job has changed."""

    def __init__(
        self, spec: Sweep, jobs: Sequence[Job], statuses: Sequence[Status], folder: Path, runs_dir: str, workers: int
    ) -> None:
        self._spec = spec
        self._statuses = [
            (job.row, job.recipe.seed, job.recipe.data.fold.index if job.recipe.data.fold else None, status)
            for job, status in zip(jobs, statuses, strict=True)
        ]
        self._folder = folder
        self._settings = (runs_dir, workers)
        self._written: list[State] = []
        self.record: SweepRecord

    def write(self) -> None:
        states = [status.state for *_, status in self._statuses]
        if states == self._written:
            return
        self._written = states
        self.record = comparison.compare(self._spec, self._statuses, *self._settings)
        self.record.save(self._folder / "sweep.json")
        write_atomic(self._folder / "sweep.csv", comparison.to_csv(self.record))
        write_atomic(self._folder / "sweep.html", page(self.record))
        write_atomic(self._folder / "sweep.md", markdown(self.record))
