"""The executor of this machine: worker processes with equal shares of the cores, one thread here for each to drive it.

`concurrent.futures.ThreadPoolExecutor` queues the tasks and makes the futures. The standard library's pool of processes does
not fit: it breaks as a whole when one process is killed, and its processes outlive a parent that is killed.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import JsonValue

from tinyrobust.errors import TinyRobustError
from tinyrobust.execution import processor
from tinyrobust.execution.executor import Announce, Resources, Task, unheard
from tinyrobust.execution.messages import Announced, Done, Failed, Order, Progressed, read
from tinyrobust.progress import Progress, silent

_TRIES = 3  # times that a task is tried when its process is killed
_HINT = "What is finished is kept: run the same command again, with fewer jobs where memory is short."


class LocalExecutor:
    """An `Executor` of local processes; they are started when there is work. Arguments as of `executor.start`."""

    def __init__(self, workers: int, *, logs: Path | None = None, reuse: bool = True) -> None:
        self._reuse = reuse
        self._temporary = tempfile.TemporaryDirectory(prefix="tinyrobust-") if logs is None else None
        folder = logs or Path(self._temporary.name if self._temporary else "")
        folder.mkdir(parents=True, exist_ok=True)
        self._workers = [
            _Worker(n, workers, cores, folder, kept=logs is not None) for n, cores in enumerate(processor.shares(workers))
        ]
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()  # the one that worked last is the first to work again
        for worker in reversed(self._workers):
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers)

    def submit(
        self, task: Task, resources: Resources, *, progress: Progress = silent, announce: Announce = unheard
    ) -> "Future[JsonValue]":
        """As `Executor.submit`: refused is what this machine does not have."""
        has = Resources(len(processor.cores()), processor.memory())
        if resources.cores > has.cores or (has.memory and resources.memory > has.memory):
            raise TinyRobustError(f"Expected a task that fits {has}. Received: {task.name}, which needs {resources}")
        return self._threads.submit(self._carry_out, task, progress, announce)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for worker in self._workers:
            worker.end()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.kill()  # nobody reads from it any more
        if self._temporary is not None:
            self._temporary.cleanup()

    def _carry_out(self, task: Task, progress: Progress, announce: Announce) -> JsonValue:
        worker = self._idle.get()
        try:
            answer = self._answer(worker, task, progress, announce)
            if not self._reuse:
                worker.finish()
        except BaseException:  # whatever it was at, the next task finds a fresh process
            worker.kill()
            raise
        finally:
            self._idle.put(worker)
        if isinstance(answer, Failed):
            raise answer.exception()
        return answer.result

    def _answer(self, worker: "_Worker", task: Task, progress: Progress, announce: Announce) -> Done | Failed:
        for tries in range(1, _TRIES + 1):
            answer = worker.ask(task, progress, announce, again=tries > 1)
            if answer is not None:
                return answer
            if not worker.was_killed:
                break
            if tries < _TRIES:
                progress(f"{worker.death}, {task.name} is made again", 0, 1)
        raise TinyRobustError(f"Expected a result of {task.name}. Received: {worker.death}.", hint=_HINT)


class _Worker:
    """A place for one process: its share of the cores, and the process that is there, if any.

    Args:
        number: Which, from 0.
        count: Of how many.
        cores: Its share.
        logs: A folder for what its processes print.
        kept: Whether it is there when the executor has ended.
    """

    def __init__(self, number: int, count: int, cores: Sequence[int], logs: Path, *, kept: bool) -> None:
        self._name, self._cores, self._logs = f"process {number + 1} of {count}", cores, logs
        self._process: subprocess.Popen[str] | None = None
        self._log, self._kept = logs, kept
        self._lock = threading.Lock()  # between the start of a process and the end of the executor
        self._ended = False

    def ask(self, task: Task, progress: Progress, announce: Announce, *, again: bool) -> Done | Failed | None:
        """Has the process do a task; returns its answer, None where it ended over it.

        Args:
            task: What to do.
            progress: Called with what it says.
            announce: Likewise.
            again: Whether it is tried again: the log goes on.

        Raises:
            CancelledError: The executor has ended.
        """
        process = self._ready(task, again)
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has just been killed
            process.stdin.write(Order.of(task).model_dump_json() + "\n")
            process.stdin.flush()
        for line in process.stdout:
            match read(line):
                case Done() | Failed() as answer:
                    return answer
                case Progressed(label=label, done=done, total=total):
                    progress(label, done, total)
                case Announced(event=event):
                    announce(event)
        process.wait()
        if self._ended:
            raise CancelledError
        return None

    @property
    def was_killed(self) -> bool:
        """Whether a signal ended the process."""
        return self._process is not None and self._process.poll() is not None and self._process.returncode < 0

    @property
    def death(self) -> str:
        """How the process ended, in words."""
        assert self._process is not None
        status = self._process.returncode
        if status < 0:
            return f"{self._name} was ended by {signal.Signals(-status).name}"
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        return f"{self._name} ended with status {status} ({last}{f'; see {self._log}' if self._kept else ''})"

    def finish(self) -> None:
        """Lets the process end by itself when it has done its task."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write("\n")
                self._process.stdin.flush()
            self._process.wait()
        self.kill()

    def kill(self) -> None:
        """Ends the process that is there, at once."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(BrokenPipeError), process:  # a line that it never read may still be in the buffer
                pass

    def end(self) -> None:
        """Ends the process, and starts no other. Called from another thread than the rest."""
        with self._lock:
            self._ended = True
            process = self._process
        if process is not None:
            process.kill()

    def _ready(self, task: Task, again: bool) -> "subprocess.Popen[str]":
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.kill()
        self._log = self._logs / f"{task.name}.log"
        # As many threads as one process alone would have, on fewer cores: TensorFlow splits its sums among its threads, so
        # their number changes figures, and where they run does not.
        alone = dict.fromkeys(processor.THREADS, str(len(processor.cores())))
        with self._lock, self._log.open("a" if again else "w", encoding="utf-8") as errors:
            if self._ended:
                raise CancelledError
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", "tinyrobust.execution.worker", ",".join(map(str, self._cores))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env={**alone, **os.environ},
            )
            return self._process
