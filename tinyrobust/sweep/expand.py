"""From a sweep file to its jobs: one resolved recipe for every row, seed and fold."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tinyrobust import recipe as recipes
from tinyrobust.recipe import Recipe
from tinyrobust.sweep.spec import Point, Sweep


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        row: Its label on each axis: the row of the comparison that it belongs to.
        recipe: Resolved; its seed and fold are the job's.
    """

    row: tuple[tuple[str, str], ...]
    recipe: Recipe

    @property
    def title(self) -> str:
        """In words: `weights STQ, seed 7, part 1 of 5`."""
        fold = self.recipe.data.fold
        words = [f"{axis} {label}" for axis, label in self.row] + [f"seed {self.recipe.seed}"]
        return ", ".join(words + ([f"part {fold.index + 1} of {fold.of}"] if fold else []))


def rows(sweep: Sweep) -> list[tuple[tuple[str, Point], ...]]:
    """The combinations of the axes, each a point of every axis: in the order of the file, the last axis fastest."""
    places = [[(axis.name, point) for point in axis.places()] for axis in sweep.axes]
    return list(itertools.product(*places) if sweep.combine == "cross" or not places else zip(*places, strict=True))


def expand(sweep: Sweep, path: Path, overrides: Iterable[str] = ()) -> list[Job]:
    """Every job of a sweep: all rows with the first seed, then with the next, so that an early look compares like with like.

    Args:
        sweep: The sweep.
        path: Its file: recipes are looked for beside it, then in the zoo.
        overrides: Settings for all jobs; they are applied last.

    Raises:
        RecipeError: A recipe does not exist, or a setting does not fit it.
    """
    folds = [[f"data.fold.of={sweep.folds}", f"data.fold.index={index}"] for index in range(sweep.folds or 0)] or [[]]
    first = [*([f"robustness.protocol={sweep.protocol}"] if sweep.protocol else []), *sweep.set]
    everywhere = list(overrides)
    jobs = []
    for seed, row, fold in itertools.product(sweep.seeds, rows(sweep), folds):
        settings = [setting for _, point in row for setting in point.set]
        base = next((point.recipe for _, point in reversed(row) if point.recipe), sweep.base)
        resolved = recipes.load(_beside(base, path), [*first, *settings, f"seed={seed}", *fold, *everywhere])
        name = next((point.name for _, point in reversed(row) if point.name), resolved.name)
        resolved = resolved.model_copy(update={"name": name})
        jobs.append(Job(tuple((axis, point.label) for axis, point in row), resolved))
    return jobs


def _beside(recipe: str, path: Path) -> str | Path:
    beside = path.parent / recipe
    return beside if beside.is_file() or (beside / "recipe.toml").is_file() else recipe
