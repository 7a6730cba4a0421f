"""Which job of a sweep runs when: what several need is computed by one of them, and a failure stops nobody else."""

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from tinyrobust.execution.executor import Executor, Resources, start
from tinyrobust.pipeline import plan
from tinyrobust.pipeline.folder import opened
from tinyrobust.sweep.expand import Job
from tinyrobust.sweep.worker import RunTask

_NEEDS = Resources(cores=1, memory=2**30)  # TensorFlow alone, with a small network


class State(StrEnum):
    """Of a job."""

    waiting = "waiting"
    running = "running"
    complete = "complete"
    failed = "failed"


@dataclass
class Status:
    """What is known of a job while the sweep runs.

    Attributes:
        job: Which.
        path: Its run folder.
        stages: The stages that it needs, in order.
        state: Where it stands.
        have: Its stages that are complete.
        label: What it does now.
        done: Of `total`, how much of that.
        total: How much there is.
        began: When it was started, on the monotonic clock.
        seconds: How long it has been running in this sweep; 0 where it was complete before.
        error: Why it failed.
        shared: Stages that were not computed here, and the run that they are from.
    """

    job: Job
    path: Path
    stages: tuple[str, ...]
    state: State = State.waiting
    have: set[str] = field(default_factory=set)
    label: str = ""
    done: int = 0
    total: int = 1
    began: float = 0.0
    seconds: float = 0.0
    error: str = ""
    shared: dict[str, str] = field(default_factory=dict)

    @property
    def signatures(self) -> dict[str, str]:
        """The stages that it needs and other jobs may compute, each with what tells it from others."""
        known = plan.signatures(self.job.recipe)
        return {stage: known[stage] for stage in self.stages if stage in known}

    def look(self) -> None:
        """Reads its folder: which stages are complete, and where they are from."""
        folder = opened(self.path, self.job.recipe)
        if folder is not None:
            self.have = {stage for stage in self.stages if folder.is_complete(stage)}
            records = {stage: folder.record.stages[stage] for stage in self.stages if stage in self.have}
            self.shared = {stage: record.taken_from for stage, record in records.items() if record.taken_from}


def prepare(jobs: Sequence[Job], runs_dir: Path, until: str) -> list[Status]:
    """The jobs with what was there already; jobs of one recipe, whatever it is called, are one run."""
    folders: dict[str, Path] = {}
    known: dict[Path, Status] = {}
    for job in jobs:
        path = folders.setdefault(job.recipe.hash, runs_dir / job.recipe.run_name)
        if path not in known:
            status = Status(job, path, tuple(stage.name for stage in plan.until(until, job.recipe)))
            status.look()
            status.state = State.complete if status.have == set(status.stages) else State.waiting
            known[path] = status
    return [known[folders[job.recipe.hash]] for job in jobs]


def execute(
    statuses: Sequence[Status],
    *,
    workers: int,
    until: str,
    data_dir: Path | None,
    folder: Path,
    watch: Callable[[], None],
) -> None:
    """Runs what is waiting; `statuses` are changed as it goes on.

    A job waits while another one is computing a stage that it needs too; then its run takes that stage over and does the rest.
    A job that fails leaves the others alone: the next that needs its stage computes it.

    Args:
        statuses: From `prepare`.
        workers: How many jobs at a time. Each has an equal share of the processor's cores to itself.
        until: The last stage.
        data_dir: Where data sets are stored.
        folder: Where logs go.
        watch: Called whenever something has changed.
    """
    with start(workers, logs=folder / "logs", reuse=False) as executor:
        _Schedule(statuses, executor, workers, until, data_dir).run(watch)


class _Schedule:
    """Submits jobs when they can go on, and hears what becomes of them.

    Executors call back in threads of their own. What they say is put into a queue, and taken up in the thread of the sweep.
    """

    def __init__(self, statuses: Sequence[Status], executor: Executor, workers: int, until: str, data_dir: Path | None) -> None:
        self._everybody = list({id(status): status for status in statuses}.values())
        self._executor, self._workers = executor, workers
        self._until, self._data_dir = until, data_dir
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def run(self, watch: Callable[[], None]) -> None:
        try:
            while self._submit():
                watch()
                self._events.get()()
        finally:
            for status in self._of(State.running):  # the sweep is interrupted
                status.state = State.waiting
        watch()

    def _of(self, state: State) -> list[Status]:
        return [status for status in self._everybody if status.state is state]

    def _submit(self) -> bool:
        """Submits what can run; whether anything does."""
        for status in self._of(State.waiting):
            if len(self._of(State.running)) < self._workers and not self._must_wait(status):
                self._begin(status)
        return bool(self._of(State.running))

    def _must_wait(self, status: Status) -> bool:
        """Whether a running job is on the way to a stage that this one needs and nobody has."""
        for stage, signature in status.signatures.items():
            makers = [one for one in self._everybody if one is not status and one.signatures.get(stage) == signature]
            if stage in status.have or any(stage in maker.have for maker in makers):
                continue
            if any(maker.state is State.running for maker in makers):
                return True
        return False

    def _begin(self, status: Status) -> None:
        status.state, status.began = State.running, time.monotonic()
        task = RunTask(
            name=status.path.name,
            recipe=status.job.recipe,
            runs_dir=status.path.parent,
            until=self._until,
            data_dir=self._data_dir,
        )
        future = self._executor.submit(
            task,
            _NEEDS,
            progress=lambda *told: self._events.put(partial(_progressed, status, *told)),
            announce=lambda stage: self._events.put(partial(status.have.add, stage)),
        )
        future.add_done_callback(lambda future: self._events.put(partial(_ended, status, future)))


def _progressed(status: Status, label: str, done: int, total: int) -> None:
    status.label, status.done, status.total = label, done, max(1, total)
    status.seconds = time.monotonic() - status.began


def _ended(status: Status, future: "Future[JsonValue]") -> None:
    status.seconds, status.label = time.monotonic() - status.began, ""
    try:
        future.result()
    except CancelledError:
        status.state = State.waiting
    except Exception as problem:  # whatever it is, the other jobs go on
        status.state, status.error = State.failed, str(problem)
    else:
        status.state = State.complete
        status.look()
