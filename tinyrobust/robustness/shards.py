"""Pieces of an evaluation made by several processes: the same pieces, and so the same figures.

A piece depends on nothing but the evaluation, the attack, its radius and its rows. So worker processes make pieces, in any
order, and the evaluation reads them as if an interrupted one had left them.
"""

import contextlib
import json
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from types import TracebackType
from typing import Self

from tinyrobust import workers
from tinyrobust.errors import TinyRobustError
from tinyrobust.progress import Progress, silent

_POLL = 1.0  # seconds between two looks at what was told
_TRIES = 3  # times that a piece is tried when its process is killed
_HINT = "Finished pieces are kept: run the same command again, with fewer jobs where memory is short."


class Shards:
    """Worker processes that make pieces. They are started when there is work, and end with the block.

    Args:
        jobs: How many.
        write: Writes what a worker needs to know into the folder that it is given.
        tell: Progress: told of processes that were killed.
    """

    def __init__(self, jobs: int, write: Callable[[Path], None], tell: Progress = silent) -> None:
        self._jobs, self._write, self._tell = jobs, write, tell
        self._tasks: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        self._pieces: dict[str, Future[None]] = {}
        self._said: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._threads: list[threading.Thread] = []
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended = True
        for _ in self._threads:
            self._tasks.put(None)
        for process in list(self._processes.values()):
            process.kill()
        for thread in self._threads:
            thread.join()
        if self._folder is not None:
            self._folder.cleanup()

    def want(self, name: str, task: dict[str, object]) -> None:
        """Has a piece made, once."""
        if name in self._pieces:
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="tinyrobust-")
            self._write(Path(self._folder.name))
        self._pieces[name] = Future()
        self._tasks.put((name, json.dumps({"name": name, **task})))
        if len(self._threads) < self._jobs:
            cores = workers.shares(self._jobs)[len(self._threads)]
            thread = threading.Thread(target=self._work, args=(len(self._threads), cores), daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait(self, name: str, done: int, total: int) -> None:
        """Returns when a wanted piece is there.

        Args:
            name: Of the piece.
            done: Of `total`, for the progress.
            total: Likewise.

        Raises:
            TinyRobustError: It cannot be made.
        """
        while True:
            while not self._said.empty():
                self._tell(f"attack: {self._said.get()}", done, total)
            try:
                return self._pieces[name].result(timeout=_POLL)
            except NotYet:
                continue

    def _work(self, number: int, cores: Sequence[int]) -> None:
        """One worker's thread: gives it a task at a time, and starts it anew when it is killed."""
        tries: dict[str, int] = {}
        while (task := self._tasks.get()) is not None:
            name, line = task
            try:
                while not self._made(number, cores, name, line):
                    tries[name] = tries.get(name, 0) + 1
                    self._said.put(self._again(number, name, tries[name]))
                self._pieces[name].set_result(None)
            except BaseException as error:  # it is raised where the piece is waited for
                self._pieces[name].set_exception(error)
                if self._ended:
                    break
        process = self._processes.pop(number, None)
        if process is not None:
            _close(process)

    def _made(self, number: int, cores: Sequence[int], name: str, line: str) -> bool:
        """Whether the worker made the piece; False where its process ended over it."""
        assert self._folder is not None
        if self._ended:
            raise TinyRobustError("The evaluation was interrupted.", hint=_HINT)
        process = self._processes.get(number)
        if process is None or process.poll() is not None:
            if process is not None:
                _close(process)
            with Path(self._folder.name, f"{number}.log").open("w", encoding="utf-8") as errors:
                process = workers.started("tinyrobust.robustness.shard_worker", [self._folder.name], cores, errors)
            self._processes[number] = process
            if self._ended:  # meanwhile
                process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
        for answer in process.stdout:
            told = workers.message(answer)
            if "error" in told:
                raise TinyRobustError(told["error"], hint=told["hint"])
            if told.get("made") == name:
                return True
        process.wait()
        return False

    def _again(self, number: int, name: str, tries: int) -> str:
        """What to say of a piece that is made again; an error where that would not help."""
        if tries == _TRIES or self._processes[number].returncode >= 0:
            raise TinyRobustError(f"Expected the piece {name}. Received: {self._death(number)}.", hint=_HINT)
        return f"{self._death(number)}, {name} is made again"

    def _death(self, number: int) -> str:
        status = self._processes[number].returncode
        if status < 0:
            return f"process {number + 1} of {self._jobs} was ended by {signal.Signals(-status).name}"
        assert self._folder is not None
        last = Path(self._folder.name, f"{number}.log").read_text(encoding="utf-8").strip().rpartition("\n")[2]
        return f"process {number + 1} of {self._jobs} ended with status {status} ({last})"


def _close(process: "subprocess.Popen[str]") -> None:
    process.kill()
    with contextlib.suppress(BrokenPipeError), process:  # a line that it never read may still be in the buffer
        pass
