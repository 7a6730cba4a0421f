"""What worker processes have in common: an equal share of the cores, a line of JSON a message, and an end with their parent."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

_PAUSE = 0.5  # seconds between two lines of one kind of work
# Where numeric libraries are told how many threads to start.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def cores() -> list[int]:
    """The cores that this process may use; where the system does not tell, all that there are."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def threads() -> int:
    """Among how many threads TensorFlow splits its sums here: as many as it is told to, else one a core."""
    told = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(told) if told.isdigit() and int(told) else len(cores())


def shares(count: int) -> list[list[int]]:
    """The cores of `count` workers: equal shares; where there are more workers than cores, some have one together."""
    mine = cores()
    return [mine[worker::count] or [mine[worker % len(mine)]] for worker in range(count)]


def started(module: str, words: Sequence[str], share: Sequence[int], errors: IO[Any]) -> "subprocess.Popen[str]":
    """Starts `python -m module words... share`, which calls `begin(share)`; its stderr goes to `errors`.

    It ends when its stdin, which the process holds, is closed.
    """
    # As many threads as one process alone would have, on fewer cores: TensorFlow splits its sums among its threads, so their
    # number changes figures, and where they run does not.
    alone = dict.fromkeys(THREADS, str(len(cores())))
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", module, *words, ",".join(map(str, share))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env={**alone, **os.environ},
    )


def message(line: str) -> dict[str, Any]:
    """A line of a worker; nothing where it was killed in the middle of one."""
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


class Teller:
    """A `Progress` that writes lines, not too many."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._kind, self._last = "", 0.0

    def __call__(self, label: str, done: int, total: int) -> None:
        """Writes one unless the last was a moment ago."""
        kind, now = label.partition(":")[0], time.monotonic()
        if kind != self._kind or done == total or now - self._last > _PAUSE:
            self._kind, self._last = kind, now
            self.tell({"label": label, "done": done, "total": total})

    def tell(self, values: dict[str, object]) -> None:
        """Writes one line."""
        print(json.dumps(values), file=self._out, flush=True)


def begin(share: str) -> tuple[Teller, "queue.SimpleQueue[str]"]:
    """What a worker does first; afterwards its stdout holds messages only, everything else that is printed goes to stderr.

    Returns:
        Where to tell, and the lines that come in on stdin. When that ends the process does: where the parent is killed, its
        workers do not live on.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, map(int, share.split(",")))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return Teller(out), lines


def _listen(lines: "queue.SimpleQueue[str]") -> None:
    rest = b""
    while part := os.read(0, 2**16):  # not sys.stdin: a thread that holds its lock breaks the interpreter's end
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            lines.put(line.decode())
    os._exit(1)
