"""A network and a task that train in a second: two convolutions on some of the real digits."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from pydantic import TypeAdapter

from tinyrobust import recipe as recipes
from tinyrobust.data.arrays import Dataset
from tinyrobust.data.sources import load
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe import Recipe
from tinyrobust.recipe import objectives as tables
from tinyrobust.training.fit import FitFiles, fit, seed_everything
from tinyrobust.training.objectives import Objective, Supplies, build_objectives

_SETTINGS = (
    "train.epochs=4",
    "train.batch_size=32",
    "precision.rule.-1.weights.starts=[0.0, 0.25, 0.5, 0.75]",
    "data.train_samples=240",
    "data.validation=0.2",
)


def tiny_network(recipe: Recipe) -> keras.Model:
    """8x8 gray to ten logits; stem and logits in fixed point, the block stochastic, as the recipe of digits-stq says."""
    layers = LayerFactory(recipe.precision, recipe.seed)
    image = keras.Input((8, 8, 1))
    x = layers.relu("stem")(layers.norm("stem")(layers.conv("stem", 8, 3, 2)(image)))
    x = layers.relu("block")(layers.norm("block")(layers.conv("block", 8, 3)(x)))
    return keras.Model(image, layers.dense("logits", 10, bias=True)(keras.layers.Flatten()(x)))


def objective_of(
    kind: str, *, seed: int = 0, label_smoothing: float = 0.0, teacher: keras.Model = None, **settings: Any
) -> Objective:
    """The objective of a table, as a recipe would have it."""
    table: Any = TypeAdapter(tables.Objective).validate_python({"kind": kind, **settings})
    (built,) = build_objectives([table], Supplies(seed, label_smoothing, teacher))
    return built


@pytest.fixture(scope="session")
def objective() -> Callable[..., Objective]:
    """Makes an objective of its kind and settings."""
    return objective_of


class Trial:
    """One way to train, again and again: every call starts like a new process."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.recipe = recipes.load("digits-stq", [*_SETTINGS, *overrides])
        self.dataset: Dataset = load(self.recipe.data, self.recipe.seed)
        self.files = FitFiles.in_folder(folder, "train")
        self.network: keras.Model = None

    def train(self, *objectives: Objective, **settings: Any) -> keras.Model:
        seed_everything(self.recipe.seed)
        self.network = tiny_network(self.recipe)
        objectives = objectives or (objective_of("cross-entropy", label_smoothing=self.recipe.train.label_smoothing),)
        return fit(self.network, objectives, self.dataset, self.recipe, self.files, **settings)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows without the seconds."""
        rows = [json.loads(line) for line in self.files.history.read_text().splitlines()]
        return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in self.files.checkpoints.glob("*"))


@pytest.fixture
def trial(tmp_path: Path) -> Callable[..., Trial]:
    """Makes a `Trial` in a folder of this test."""
    return lambda *overrides, folder="run": Trial(tmp_path / folder, *overrides)
