"""One run in a process of its own: `python -m tinyrobust.sweep.worker`, started by `tinyrobust.sweep.schedule`.

It tells its progress on stdout, a JSON object a line; everything else that is printed goes to stderr, which the sweep keeps as
a log. It ends when its stdin ends: where the sweep is killed, its workers do not live on.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO

from tinyrobust import recipe as recipes
from tinyrobust.errors import TinyRobustError

_PAUSE = 0.5  # seconds between two lines of one kind of work


class _Teller:
    """A `Progress` that writes lines, not too many."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._kind, self._last = "", 0.0

    def __call__(self, label: str, done: int, total: int) -> None:
        kind, now = label.partition(":")[0], time.monotonic()
        if kind != self._kind or done == total or now - self._last > _PAUSE:
            self._kind, self._last = kind, now
            self.tell({"label": label, "done": done, "total": total})

    def tell(self, values: dict[str, object]) -> None:
        print(json.dumps(values), file=self._out, flush=True)


def main(name: str, recipe: str, runs_dir: str, until: str, data_dir: str, cores: str) -> int:
    """Runs the resolved recipe in the file `recipe` on these cores; returns the exit status."""
    os.sched_setaffinity(0, map(int, cores.split(",")))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the sweep, which ends its workers
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    teller = _Teller(out)
    try:
        from tinyrobust.pipeline.run import run

        resolved = recipes.load(recipe).model_copy(update={"name": name})
        run(resolved, until=until, runs_dir=runs_dir, data_dir=Path(data_dir) if data_dir else None, progress=teller)
    except TinyRobustError as error:
        teller.tell({"error": str(error)})
        return 1
    return 0


def _end_with_the_sweep() -> None:
    os.read(0, 1)  # not sys.stdin: a thread that holds its lock breaks the interpreter's end
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
