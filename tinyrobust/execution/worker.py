"""A worker of the local executor: `python -m tinyrobust.execution.worker CORES`, started by `tinyrobust.execution.local`.

Orders come in on stdin and messages go out on stdout, a JSON object a line; everything else that is printed goes to stderr. It
ends at an empty line, and at once when stdin ends: where its parent is killed, it does not live on.
"""

import os
import pkgutil
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import IO

from pydantic import BaseModel, JsonValue

from tinyrobust.errors import TinyRobustError
from tinyrobust.execution.executor import Channel, Task
from tinyrobust.execution.messages import Announced, Done, Failed, Order, Progressed

_PAUSE = 0.5  # seconds between two lines of one kind of progress


class LineChannel:
    """A `Channel` that writes lines."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._lock = threading.Lock()  # a task may speak from several threads
        self._kind, self._last = "", 0.0

    def progress(self, label: str, done: int, total: int) -> None:
        """Writes a line unless the last of its kind was a moment ago."""
        kind, now = label.partition(":")[0], time.monotonic()
        if kind != self._kind or done == total or now - self._last > _PAUSE:
            self._kind, self._last = kind, now
            self.send(Progressed(label=label, done=done, total=total))

    def announce(self, event: str) -> None:
        """Writes a line."""
        self.send(Announced(event=event))

    def send(self, message: BaseModel) -> None:
        """Writes any message."""
        with self._lock:
            self._out.write(message.model_dump_json() + "\n")
            self._out.flush()


def main(cores: str) -> None:
    """Does one task after the other on these cores, `0,1`, until an empty line."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, map(int, cores.split(",")))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    channel = LineChannel(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    while line := lines.get():
        task = Order.model_validate_json(line).read()
        work: Callable[[Task, Channel], JsonValue] = pkgutil.resolve_name(task.work)
        try:
            channel.send(Done(result=work(task, channel)))
        except TinyRobustError as error:
            channel.send(Failed(error=type(error).__name__, message=error.message, hint=error.hint))


def _listen(lines: "queue.SimpleQueue[bytes]") -> None:
    rest = b""
    while part := os.read(0, 2**16):  # not sys.stdin: a thread that holds its lock breaks the interpreter's end
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            lines.put(line)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
