"""Tasks for the contract of executors; a worker imports them by name."""

import os
import signal
import time
from pathlib import Path
from typing import ClassVar

from tinyrobust.errors import DataError
from tinyrobust.execution.executor import Channel, Task


class Square(Task):
    """A number to be squared, in floats of many digits."""

    SCHEMA: ClassVar[str] = "test.square/1"
    work: ClassVar[str] = "executor_tasks:square"
    number: int


def square(task: Square, channel: Channel) -> dict[str, object]:
    print("this is no message")  # noqa: T201 - that is the point
    channel.progress("squaring", 1, 1)
    channel.announce("squared")
    return {"square": task.number * task.number / 7, "threads": os.environ["TF_NUM_INTRAOP_THREADS"], "process": os.getpid()}


class Trouble(Task):
    """What goes wrong in `how`; `count` is a file with a line for every try."""

    SCHEMA: ClassVar[str] = "test.trouble/1"
    work: ClassVar[str] = "executor_tasks:trouble"
    how: str
    count: Path


def trouble(task: Trouble, channel: Channel) -> int:
    with task.count.open("a") as file:
        file.write(f"{os.getpid()}\n")
    tries = len(task.count.read_text().splitlines())
    if task.how == "refused":
        raise DataError("Expected better data. Received: none", hint="Get some.")
    if task.how == "broken":
        raise ZeroDivisionError("a defect")
    if task.how == "killed" or (task.how == "killed once" and tries == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if task.how == "endless":
        channel.announce("begun")
        time.sleep(600)
    return tries
