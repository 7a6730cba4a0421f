"""What training starts from: a float network that is trained first, or one of an earlier run."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tinyrobust
from tinyrobust import recipe as recipes
from tinyrobust.errors import ModelFileError, RecipeError
from tinyrobust.pipeline.plan import signatures

_RECIPE = """
[data]
name = "digits"
train_samples = 500
test_samples = 120
[network]
kind = "stqnet"
width = 0.25
[[precision.rule]]
layers = ".*"
weights = { kind = "lsq", bits = 4 }
activations = { kind = "lsq", bits = 4 }
[train]
epochs = 1
batch_size = 50
learning_rate = 1e-2
"""
_AFTER = (
    "train.quantization=after",
    'precision.rule=[{layers=".*", weights={kind="uniform", bits=8}, activations={kind="calibrated", bits=8}}]',
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "started.toml"
    path.write_text(_RECIPE)
    return path


@pytest.fixture(scope="module")
def run(recipe: Path) -> Any:
    """A run that trains a float network first."""
    start = 'train.start={kind="float-network", epochs=8}'
    return tinyrobust.run(recipe, overrides=[start], runs_dir=recipe.parent / "runs", until="train")


def _from_file(recipe: Path, path: Path, *settings: str, runs: str) -> Any:
    start = f'train.start={{kind="keras-file", path="{path}"}}'
    return tinyrobust.run(recipe, overrides=[start, *settings], runs_dir=recipe.parent / runs, until="train")


def _weights(path: Path) -> list[Any]:
    return keras.models.load_model(path, compile=False).get_weights()


def test_training_starts_from_the_float_network(run: Any, recipe: Path) -> None:
    anew = tinyrobust.run(recipe, runs_dir=recipe.parent / "anew", until="train")
    assert list(run.record.stages) == ["float", "train"]
    assert list(anew.record.stages) == ["train"]
    assert run.history[0]["loss"] < 0.7 * anew.history[0]["loss"]


def test_quantization_after_training_shares_that_network(recipe: Path) -> None:
    aware = recipes.load(recipe, ['train.start={kind="float-network", epochs=8, learning_rate=0.02}'])
    after = recipes.load(recipe, [*_AFTER, "train.epochs=8", "train.learning_rate=0.02"])
    assert signatures(aware)["float"] == signatures(after)["float"]
    assert signatures(aware)["train"] != signatures(after)["train"]


def test_a_file_of_an_earlier_run_stands_for_the_training(run: Any, recipe: Path) -> None:
    path = run.path / "float_model.keras"
    other = _from_file(recipe, path, runs="aware")
    for ours, theirs in zip(_weights(other.path / "float_model.keras"), _weights(path), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (row,) = [json.loads(line) for line in (other.path / "float_history.jsonl").read_text().splitlines()]
    last = json.loads((run.path / "float_history.jsonl").read_text().splitlines()[-1])
    assert row["val_accuracy"] == pytest.approx(last["val_accuracy"], abs=1e-6)
    assert other.history[0]["loss"] == pytest.approx(run.history[0]["loss"], rel=1e-4)


def test_a_file_is_quantized_after_training_without_any(run: Any, recipe: Path) -> None:
    done = _from_file(recipe, run.path / "float_model.keras", *_AFTER, "train.epochs=0", runs="after")
    for ours, theirs in zip(_weights(done.path / "float_model.keras"), _weights(run.path / "float_model.keras"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_of_another_network_is_refused(run: Any, recipe: Path) -> None:
    with pytest.raises(ModelFileError, match=r"Expected in .*float_model\.keras the weights of the recipe's network in float"):
        _from_file(recipe, run.path / "float_model.keras", "network.width=0.5", runs="other")


def test_a_file_that_changed_is_refused(run: Any, recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "float.keras"
    path.write_bytes((run.path / "model.keras").read_bytes())
    settings = f'train.start={{kind="keras-file", path="{path}", sha256="{"0" * 64}"}}'
    with pytest.raises(ModelFileError, match="the file was changed"):
        tinyrobust.run(recipe, overrides=[settings], runs_dir=tmp_path, until="train")


def test_the_file_is_looked_for_beside_the_recipe_and_where_it_lies_changes_no_hash(run: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "float.keras").write_bytes((run.path / "float_model.keras").read_bytes())
        (tmp_path / name / "mine.toml").write_text(f'{_RECIPE}[train.start]\nkind = "keras-file"\npath = "float.keras"\n')
    first, second = (recipes.load(tmp_path / name / "mine.toml") for name in ("a", "b"))
    assert Path(getattr(first.train.start, "path", "")) == tmp_path / "a" / "float.keras"
    assert first.hash == second.hash
    assert signatures(first) == signatures(second)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('train.start={kind="keras-file", path="missing.keras"}', "there is no such file"),
        ('train.start={kind="float-network"}', "epochs"),
        ('train.start={kind="float-network", epochs=2, objective=[{kind="distillation", temperature=5}]}', "without teachers"),
        ('train.start={kind="float-network", epochs=2, objective=[{kind="jacobian"}]}', "beside penalties. Received: jacobian"),
        ('train.start={kind="float"}', "Did you mean 'float-network'"),
    ],
)
def test_bad_starts_are_refused_before_anything_trains(recipe: Path, setting: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        recipes.load(recipe, [setting])


def test_what_is_quantized_after_training_trains_no_other_network_first(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r'beside quantization = "aware" only'):
        recipes.load(recipe, [*_AFTER, 'train.start={kind="float-network", epochs=2}'])
