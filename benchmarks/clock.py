"""What a piece of work takes: seconds, CPU seconds, memory."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MEGABYTE = 2**20


@dataclass
class Clock:
    """The best time and the fewest CPU seconds of several runs, and the most memory in MB that one of them took."""

    seconds: float = np.inf
    cpu: float = np.inf
    memory: float = 0.0
    total: float = 0.0
    found: Any = field(default=None, repr=False)

    def run(self, work: Callable[[], Any]) -> None:
        """Once more."""
        with _Peak() as peak:
            start, cpu = time.perf_counter(), time.process_time()
            self.found = work()
            taken = time.perf_counter() - start
            self.seconds, self.total = min(self.seconds, taken), self.total + taken
            self.cpu = min(self.cpu, time.process_time() - cpu)
        self.memory = max(self.memory, peak.grown)


class _Peak:
    """The most resident memory of this process above what it was at first, in MB, looked at every 5 ms."""

    def __enter__(self) -> "_Peak":
        self._first = self._most = _resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._most = max(self._most, _resident())

    @property
    def grown(self) -> float:
        return (self._most - self._first) / MEGABYTE

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._most = max(self._most, _resident())


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
