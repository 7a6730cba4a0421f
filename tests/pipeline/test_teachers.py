"""Several teachers: as many networks of other seeds, one model, and an interruption that changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust import recipe as recipes
from tinyrobust.data.arrays import scale
from tinyrobust.data.sources import load
from tinyrobust.networks.catalog import build
from tinyrobust.pipeline.teachers import teach
from tinyrobust.recipe import Recipe

_SETTINGS = (
    "train.objective.0.teacher_epochs=2",
    "train.objective.0.teachers=2",
    "train.objective.0.teacher_width=0.5",
    "train.objective.0.teacher_temperature=1",
)


class _PowerError(Exception):
    """The power fails."""


@pytest.fixture
def teach_in(tiny_recipe: Path) -> Callable[..., dict[str, Any]]:
    """Teaches in a folder; `stop` ends it before that step of the teacher of that number."""

    def run(folder: Path, stop: tuple[int, int] | None = None, settings: tuple[str, ...] = _SETTINGS) -> dict[str, Any]:
        recipe = recipes.load(tiny_recipe, settings)
        dataset = load(recipe.data, recipe.seed)
        seen: list[Recipe] = []

        def network(recipe: Recipe) -> keras.Model:
            seen.append(recipe)
            return build(recipe, dataset.input_shape, len(dataset.classes))

        def progress(label: str, done: int, _total: int) -> None:
            number = 1 if label.startswith("teacher1") else 2
            if (number, done) == stop:
                raise _PowerError

        folder.mkdir(exist_ok=True)
        teach(network, dataset, recipe, folder, progress)
        model = keras.models.load_model(folder / "teacher_model.keras", compile=False)
        rows = [json.loads(line) for line in (folder / "teacher_history.jsonl").read_text().splitlines()]
        return {
            "recipes": seen,
            "model": model,
            "logits": model.predict(scale(dataset.validation.x), verbose=0),
            "x": scale(dataset.validation.x),
            "history": [{key: value for key, value in row.items() if key != "seconds"} for row in rows],
        }

    return run


def test_teachers_are_wider_float_networks_of_other_seeds(teach_in: Any, tmp_path: Path) -> None:
    taught = teach_in(tmp_path)
    assert [recipe.seed for recipe in taught["recipes"]] == [7, 8]
    assert {recipe.network.width for recipe in taught["recipes"]} == {0.5}
    assert {rule.weights.kind for recipe in taught["recipes"] for rule in recipe.precision.rules} == {"float"}
    each = [taught["model"].get_layer(name) for name in ("teacher1", "teacher2")]
    one, other = (keras.ops.convert_to_numpy(model(taught["x"])) for model in each)
    assert np.abs(one - other).max() > 0.1
    np.testing.assert_allclose(taught["logits"], (one + other) / 2, atol=1e-4)
    assert [row["epoch"] for row in taught["history"]] == [1, 2]


@pytest.mark.parametrize("stop", [(1, 12), (2, 1), (2, 12)])
def test_an_interruption_changes_nothing(teach_in: Any, tmp_path: Path, stop: tuple[int, int]) -> None:
    whole = teach_in(tmp_path / "whole")
    with pytest.raises(_PowerError):
        teach_in(tmp_path / "stopped", stop)
    assert not (tmp_path / "stopped" / "teacher_model.keras").exists()
    resumed = teach_in(tmp_path / "stopped")
    np.testing.assert_array_equal(resumed["logits"], whole["logits"])
    assert resumed["history"] == whole["history"]


def test_one_teacher_is_what_it_was(teach_in: Any, tmp_path: Path) -> None:
    taught = teach_in(tmp_path, settings=_SETTINGS[:1])
    (recipe,) = taught["recipes"]
    assert (recipe.seed, recipe.network.width) == (7, 0.25)
    assert not [layer for layer in taught["model"].layers if isinstance(layer, keras.Model)]


def test_the_temperature_that_teachers_are_trained_at(teach_in: Any, tmp_path: Path) -> None:
    """Logits grow with it: the default is the student's, as defensive distillation wants it."""
    hot = (*_SETTINGS[:1], "train.objective.0.temperature=20")
    spread = [
        np.ptp(teach_in(tmp_path / name, settings=more)["logits"])
        for name, more in (("hot", hot), ("cold", (*hot, _SETTINGS[3])))
    ]
    assert spread[0] > 1.5 * spread[1]
