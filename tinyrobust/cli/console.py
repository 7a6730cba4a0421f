"""What every command shares: options, progress, results for people or machines, errors as one readable block."""

import contextlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import rich.progress
import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from tinyrobust.errors import TinyRobustError
from tinyrobust.progress import Progress, silent

OUT = Console()
ERR = Console(stderr=True)

_debug = False


def _set_debug(value: bool) -> bool:
    global _debug
    _debug = _debug or value
    return value


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_set_debug)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, nothing else, for other programs.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where data sets are stored. Default: TINYROBUST_DATA; TFDS_DATA_DIR for images."),
]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Where run folders are made.")]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        min=1,
        help="Processes that attack at the same time (about 1 GB each). Same figures. Fastest with TF_NUM_INTRAOP_THREADS=1.",
    ),
]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the recipe, e.g. train.epochs=3. Repeatable.")
]


def prepare_libraries() -> None:
    """Settings of libraries before they are loaded; a user's own come first."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what a user must know, tinyrobust says itself
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def keep_stderr() -> None:
    """Keeps stderr for what tinyrobust says: nothing of libraries, neither of their C++ nor of processes that are started here.

    With --debug all of it is shown.
    """
    if "--debug" in sys.argv:
        return
    logging.disable(logging.WARNING)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    sys.stderr = os.fdopen(kept, "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Silences what native libraries write to stderr while they are loaded, before any log level counts."""
    if _debug:
        yield
        return
    ERR.file.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def progress(shown: bool = True) -> Iterator[Progress]:
    """Yields a `Progress` that draws a bar with the time left; in a pipe or a log, a line every few seconds."""
    if not shown:
        yield silent
    elif ERR.is_terminal:
        with _bars() as bars:
            yield _Bar(bars)
    else:
        yield _Lines()


def _bars() -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.SpinnerColumn(finished_text="[green]✓"),
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=True),
        console=ERR,
    )


class _Bar:
    """One bar for each kind of work: the part of the label before the colon; the rest of the label changes with it."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._task: rich.progress.TaskID | None = None
        self._kind = ""

    def __call__(self, label: str, done: int, total: int) -> None:
        kind = label.partition(":")[0]
        if kind != self._kind or self._task is None:
            if self._task is not None:
                task = self._bars.tasks[self._bars.task_ids.index(self._task)]
                self._bars.update(self._task, completed=task.total)
            self._kind, self._task = kind, self._bars.add_task(label, total=total)
        self._bars.update(self._task, description=label, completed=done, total=total)


class _Lines:
    """A line when the work changes or ends, and every ten seconds."""

    def __init__(self) -> None:
        self._kind, self._last = "", 0.0

    def __call__(self, label: str, done: int, total: int) -> None:
        kind, now = label.partition(":")[0], time.monotonic()
        if kind != self._kind or now - self._last > 10 or (done == total and kind == self._kind):
            self._kind, self._last = kind, now
            ERR.print(f"{label} ({done} of {total})", highlight=False)


def print_json(values: object) -> None:
    """Prints a value as JSON on stdout, without markup or wrapping."""
    typer.echo(values if isinstance(values, str) else json.dumps(values, indent=2))


@contextlib.contextmanager
def readable_errors() -> Iterator[None]:
    """Turns a `TinyRobustError` into one block on stderr and exit status 1; Ctrl-C into 130."""
    try:
        yield
    except TinyRobustError as error:
        if _debug:
            raise
        body = Text(error.message)
        if error.hint:
            body.append(f"\n\n{error.hint}", style="cyan")
        title = type(error).__name__.removesuffix("Error").replace("TinyRobust", "tinyrobust") or "tinyrobust"
        ERR.print(Panel(body, title=f"[red]{title} error", border_style="red", title_align="left"))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        ERR.print("\nInterrupted. Run the same command again: it goes on where it stopped.")
        raise SystemExit(130) from None
