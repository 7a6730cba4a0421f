"""The seam of executors: what a task is, what it may say while it runs, and what carries it out.

An executor takes tasks and gives futures. Who submits does not know where the work is done: in local processes (`local.py`),
or on other machines. To add one, write its class in a file here and enter it in `EXECUTORS`; `tests/execution` then tests it.
"""

import pkgutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Protocol, Self

from pydantic import JsonValue

from tinyrobust.choices import no_such
from tinyrobust.errors import TinyRobustError
from tinyrobust.progress import Progress, silent
from tinyrobust.records import Record

Announce = Callable[[str], None]
"""Called as `announce(event)` with what others may be waiting for, such as the name of a stage that is complete."""


def unheard(event: str) -> None:
    """An `Announce` that nobody listens to."""
    del event


@dataclass(frozen=True)
class Resources:
    """What a task needs at least. An executor refuses what it can never have, and may give more.

    Attributes:
        cores: Processor cores.
        memory: Bytes.
    """

    cores: int = 1
    memory: int = 0


class Task(Record):
    """Something to do, as a record, so that it can travel. A subclass sets `SCHEMA` and `work`.

    Attributes:
        work: The function that does it, `module:function`: called as `work(task, channel)` where the executor runs it. What it
            returns is the task's result: anything that JSON can hold.
        name: Names it in messages and logs: a file's name without its ending.
    """

    work: ClassVar[str]
    name: str


class Channel(Protocol):
    """How a task speaks to whoever submitted it, while it runs."""

    def progress(self, label: str, done: int, total: int) -> None:
        """A `Progress`; of many calls in a moment some are left out."""

    def announce(self, event: str) -> None:
        """Tells of an event; every one arrives, in order."""


class Executor(Protocol):
    """Carries out tasks, several at a time. It ends with its block: what is not done then is cancelled.

    It keeps this contract, and `tests/execution/test_executors.py` shows it:

    - Results do not depend on how many workers there are, nor on the order of the tasks.
    - Every worker splits its sums among as many threads as one process alone would, because that changes figures.
    - A `TinyRobustError` of the work is raised, with its type, message and hint, by the future.
    - A worker that is killed is started again with its task, up to three tries in all; then the future raises.
    - Where the process that submitted is killed, its workers end too.
    """

    def submit(
        self, task: Task, resources: Resources, *, progress: Progress = silent, announce: Announce = unheard
    ) -> "Future[JsonValue]":
        """Has a task done, as soon as a worker is free.

        Args:
            task: What to do.
            resources: What it needs.
            progress: Called with what the task says, in a thread of the executor.
            announce: Likewise.

        Returns:
            The future of its result. It raises `concurrent.futures.CancelledError` where the executor ended before.

        Raises:
            TinyRobustError: The executor can never have these resources.
        """

    def __enter__(self) -> Self:
        """Begins the block."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Cancels what waits, ends what runs, and returns when nothing runs any more."""


EXECUTORS = {"local": "tinyrobust.execution.local:LocalExecutor"}
"""Every executor by name: `module:class`, made with the arguments of `start`."""


def start(workers: int, *, kind: str = "local", logs: Path | None = None, reuse: bool = True) -> Executor:
    """An executor, to be used as a block.

    Args:
        workers: How many tasks run at the same time, each with an equal share of the cores.
        kind: Which executor.
        logs: A folder that keeps what workers print, in a file for each task that a worker was started for.
        reuse: Whether a worker goes on to the next task when it has done one. Else every task has a fresh process.

    Raises:
        TinyRobustError: There is no such executor.
    """
    if kind not in EXECUTORS:
        raise TinyRobustError(no_such("executor", kind, EXECUTORS))
    executor: Executor = pkgutil.resolve_name(EXECUTORS[kind])(workers, logs=logs, reuse=reuse)
    return executor
