"""A run as a task: what an executor carries out for a sweep."""

from pathlib import Path
from typing import ClassVar

from tinyrobust.execution.executor import Channel, Task
from tinyrobust.recipe import Recipe


class RunTask(Task):
    """A run of a resolved recipe. It announces the name of every stage that is complete.

    Attributes:
        recipe: Resolved.
        runs_dir: Where its folder is made.
        until: The last stage.
        data_dir: Where data sets are stored.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.run-task/1"
    work: ClassVar[str] = "tinyrobust.sweep.worker:execute"
    recipe: Recipe
    runs_dir: Path
    until: str
    data_dir: Path | None


def execute(task: RunTask, channel: Channel) -> None:
    """Runs the recipe of a task."""
    from tinyrobust.pipeline.run import run  # loads TensorFlow, which the sweep's own process does without

    run(
        task.recipe,
        until=task.until,
        runs_dir=task.runs_dir,
        data_dir=task.data_dir,
        progress=channel.progress,
        announce=channel.announce,
    )
