"""Pieces of an evaluation made by several processes: the same pieces, and so the same figures.

A piece depends on nothing but the evaluation, the attack, its radius and its rows. So an executor's workers make pieces, in any
order, and the evaluation reads them as if an interrupted one had left them.
"""

import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from pydantic import JsonValue

from tinyrobust.execution.executor import Executor, Resources, Task, start
from tinyrobust.progress import Progress, silent

_NEEDS = Resources(cores=1, memory=2**30)  # a TensorFlow of its own


class Piece(Task):
    """A piece to be made: what an attack does to some rows of the attacked samples.

    Attributes:
        folder: What the worker needs to know of the evaluation lies there.
        attack: Its table.
        epsilon: Its radius.
        number: Of the piece.
        rows: Of the attacked samples.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.piece/1"
    work: ClassVar[str] = "tinyrobust.robustness.shard_worker:make"
    folder: Path
    attack: dict[str, JsonValue]
    epsilon: float
    number: int
    rows: list[int]


class Shards:
    """Workers that make pieces. They are started when there is work, and end with the block.

    Args:
        jobs: How many.
        write: Writes what a worker needs to know into the folder that it is given.
        tell: Progress: told of processes that were killed.
    """

    def __init__(self, jobs: int, write: Callable[[Path], None], tell: Progress = silent) -> None:
        self._jobs, self._write, self._tell = jobs, write, tell
        self._pieces: dict[str, Future[JsonValue]] = {}
        self._step = (0, 1)
        self._block = ExitStack()
        self._executor: Executor | None = None
        self._folder = Path()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._block.close()

    def want(self, name: str, task: Mapping[str, JsonValue]) -> None:
        """Has a piece made, once.

        Args:
            name: Of the piece.
            task: The other fields of `Piece`, but the folder.
        """
        if name in self._pieces:
            return
        if self._executor is None:
            self._folder = Path(self._block.enter_context(tempfile.TemporaryDirectory(prefix="tinyrobust-")))
            self._write(self._folder)
            self._executor = self._block.enter_context(start(self._jobs))
        piece = Piece.model_validate({"name": name, "folder": self._folder, **task})
        self._pieces[name] = self._executor.submit(piece, _NEEDS, progress=self._again)

    def wait(self, name: str, done: int, total: int) -> None:
        """Returns when a wanted piece is there.

        Args:
            name: Of the piece.
            done: Of `total`, for the progress.
            total: Likewise.

        Raises:
            TinyRobustError: It cannot be made.
        """
        self._step = (done, total)
        self._pieces[name].result()

    def _again(self, label: str, done: int, total: int) -> None:
        """Tells of a piece that is made again, as a part of the evaluation's step."""
        del done, total
        self._tell(f"attack: {label}", *self._step)
