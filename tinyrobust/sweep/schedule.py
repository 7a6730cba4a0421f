"""Runs jobs in worker processes, a few at a time: shared stages once, a failure alone, and only what is missing."""

import queue
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tinyrobust.errors import RunFolderError
from tinyrobust.files import write_atomic
from tinyrobust.recipe import Recipe
from tinyrobust.sweep import share
from tinyrobust.sweep.expand import Job
from tinyrobust.sweep.spec import STAGES
from tinyrobust.workers import message, shares, started

_POLL = 0.25  # seconds between two looks at what is running


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
        label: What it does now.
        done: Of `total`, how much of that.
        total: How much there is.
        seconds: How long it has been running in this sweep; 0 where it was complete before.
        error: Why it failed.
        shared: Stages that were not computed here, and the run that they are from.
    """

    job: Job
    path: Path
    stages: tuple[str, ...]
    state: State = State.waiting
    label: str = ""
    done: int = 0
    total: int = 1
    seconds: float = 0.0
    error: str = ""
    shared: dict[str, str] = field(default_factory=dict)


def prepare(jobs: Sequence[Job], runs_dir: Path, until: str) -> list[Status]:
    """The jobs with what was there already; jobs of one recipe, whatever it is called, are one run."""
    wanted = STAGES[: STAGES.index(until) + 1]
    folders: dict[str, Path] = {}
    found: dict[Path, Status] = {}
    statuses = []
    for job in jobs:
        path = folders.setdefault(job.recipe.hash, runs_dir / job.recipe.run_name)
        if path not in found:
            stages = tuple(stage for stage in wanted if _needs(job.recipe, stage))
            state = State.complete if share.intact(path, stages) else State.waiting
            found[path] = Status(job, path, stages, state)
        statuses.append(found[path])
    return statuses


def _needs(recipe: Recipe, stage: str) -> bool:
    """As in `tinyrobust.pipeline.stages`, which is not imported here: it takes seconds."""
    asked = {
        "teacher": recipe.train.distillation is not None,
        "float": recipe.train.quantization == "after",
        "attack-waveform": recipe.robustness.waveform is not None,
        "listen": recipe.listening is not None,
    }
    return asked.get(stage, True)


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

    A job waits while another one is computing a stage that it needs too; then it copies that stage and does the rest. A job
    that fails leaves the others alone: the next that needs its stage computes it.

    Args:
        statuses: From `prepare`.
        workers: How many jobs at a time. Each has an equal share of the processor's cores to itself.
        until: The last stage.
        data_dir: Where data sets are stored.
        folder: Where resolved recipes and logs go.
        watch: Called several times a second.
    """
    everybody = list({id(status): status for status in statuses}.values())
    pending = [status for status in everybody if status.state is State.waiting]
    pool = _Pool(workers, until, data_dir, folder)
    running: dict[Future[None], Status] = {}
    with ThreadPoolExecutor(workers) as threads:
        try:
            while pending or running:
                for status in list(pending):
                    if len(running) < workers and not _must_wait(status, everybody):
                        pending.remove(status)
                        if _begin(status, everybody):
                            running[threads.submit(pool.work, status)] = status
                watch()
                for future in wait(running, timeout=_POLL, return_when=FIRST_COMPLETED).done:
                    status = running.pop(future)
                    problem = future.exception()
                    if problem is not None:
                        status.state, status.error = State.failed, str(problem)
        finally:
            pool.end()
    watch()


def _must_wait(status: Status, everybody: Sequence[Status]) -> bool:
    """Whether a running job is on the way to a stage that this one needs, and lacks."""
    mine, have = share.keys(status.job.recipe), share.complete(status.path)
    for stage in (stage for stage in status.stages if stage in mine and stage not in have):
        makers = [
            other for other in everybody if other is not status and share.keys(other.job.recipe).get(stage) == mine[stage]
        ]
        if any(stage in share.complete(maker.path) for maker in makers):
            continue
        if any(maker.state is State.running and stage in maker.stages for maker in makers):
            return True
    return False


def _begin(status: Status, everybody: Sequence[Status]) -> bool:
    """Takes over what is there; False where the run's folder cannot be had."""
    try:
        status.shared |= _shared(status, everybody)
    except RunFolderError as problem:
        status.state, status.error = State.failed, str(problem)
        return False
    status.state = State.running
    return True


def _shared(status: Status, everybody: Sequence[Status]) -> dict[str, str]:
    """Takes over what other jobs have: the stages, and from which run."""
    mine, taken = share.keys(status.job.recipe), {}
    for stage in (stage for stage in status.stages if stage in mine):
        if stage in share.complete(status.path):
            continue
        for other in everybody:
            same = other is not status and share.keys(other.job.recipe).get(stage) == mine[stage]
            if same and stage in share.complete(other.path) and share.take(status.job.recipe, status.path, other.path, [stage]):
                taken[stage] = other.path.name
                break
        else:
            return taken
    return taken


class _Pool:
    """Starts worker processes, listens to them, and ends them."""

    def __init__(self, workers: int, until: str, data_dir: Path | None, folder: Path) -> None:
        self._until = until
        self._data_dir = "" if data_dir is None else str(data_dir)
        self._folder = folder
        self._shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        for cores in shares(workers):
            self._shares.put(cores)
        self._processes: list[subprocess.Popen[str]] = []
        self._ended = False

    def work(self, status: Status) -> None:
        """Runs a job in a process, to its end."""
        cores = self._shares.get()
        try:
            self._work(status, cores)
        finally:
            self._shares.put(cores)

    def _work(self, status: Status, cores: Sequence[int]) -> None:
        recipe, began = status.job.recipe, time.monotonic()
        resolved = self._folder / "recipes" / f"{status.path.name}.toml"
        log = self._folder / "logs" / f"{status.path.name}.log"
        write_atomic(resolved, recipe.to_toml())
        log.parent.mkdir(exist_ok=True)
        words = (recipe.name, str(resolved), str(status.path.parent), self._until, self._data_dir)
        with log.open("w", encoding="utf-8") as errors:
            process = started("tinyrobust.sweep.worker", words, cores, errors)
            self._processes.append(process)
            if self._ended:
                process.terminate()
            with process:
                assert process.stdout is not None
                for line in process.stdout:
                    _hear(status, line)
                    status.seconds = time.monotonic() - began
                process.wait()  # before its stdin is closed: that would end it
        status.seconds = time.monotonic() - began
        if process.returncode == 0:
            status.state, status.label = State.complete, ""
        elif self._ended:
            status.state = State.waiting
        else:
            status.state = State.failed
            status.error = status.error or f"the process ended with status {process.returncode}: see {log}"

    def end(self) -> None:
        """Ends every worker that still runs: the sweep was interrupted."""
        self._ended = True
        for process in self._processes:
            if process.poll() is None:
                process.terminate()


def _hear(status: Status, line: str) -> None:
    """One line of a worker."""
    told = message(line)
    if "error" in told:
        status.error = told["error"]
    elif told:
        status.label, status.done, status.total = told["label"], told["done"], max(1, told["total"])
