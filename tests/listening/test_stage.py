"""The stage of a run that listens, and the table of a recipe that asks for it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tinyrobust import recipe as recipes
from tinyrobust.data.speech.frontend_record import FRONTEND
from tinyrobust.errors import RecipeError
from tinyrobust.listening.detection_record import DetectionRecord
from tinyrobust.pipeline import plan
from tinyrobust.pipeline.context import Context
from tinyrobust.pipeline.folder import begun
from tinyrobust.sweep.expand import Job
from tinyrobust.sweep.schedule import prepare

_RECIPE = """
[data]
name = "{tones}"
[data.speech]
task = "own-words"
words = ["low", "high"]
[[precision.rule]]
layers = ".*"
weights = "ternary"
[train]
epochs = 1
"""
_LISTENING = """
[listening]
clips = 6
snr_db = 15
"""


@pytest.fixture
def recipe_file(tones: Path, tmp_path: Path) -> Path:
    path = tmp_path / "spotter.toml"
    path.write_text(_RECIPE.format(tones=tones))
    return path


def _listens(path: Path) -> recipes.Recipe:
    path.write_text(path.read_text() + _LISTENING)
    return recipes.load(path)


def test_a_run_that_listens_leaves_its_record(tone_spotter: Any, recipe_file: Path, tmp_path: Path) -> None:
    recipe = _listens(recipe_file)
    (tmp_path / "run").mkdir()
    folder = begun(tmp_path / "run", recipe, tone_spotter.data)
    for name in ("model.tflite", FRONTEND):
        shutil.copy(tone_spotter.path.parent / name, folder.path / name)
    stage = plan.named("listen")
    told: list[str] = []
    with folder.stage(stage):
        stage.run(Context(folder, tone_spotter.data, lambda label, *_: told.append(label)))
    assert folder.is_complete("listen")
    record = DetectionRecord.load(folder.path / "detection.json")
    assert record.settings == recipe.listening
    assert record.test.material.keywords == record.validation.material.keywords == 6
    assert "15 dB" in record.test.material.source
    assert {"listening to validation words", "listening to test noise"} <= set(told)


def test_only_a_recipe_that_asks_for_it_listens(recipe_file: Path, tmp_path: Path) -> None:
    stage = plan.named("listen")
    silent = recipes.load(recipe_file)
    asking = _listens(recipe_file)
    assert (stage.needed(silent), stage.needed(asking)) == (False, True)
    jobs = [Job((("recipe", name),), recipe) for name, recipe in (("silent", silent), ("asking", asking))]
    assert ["listen" in status.stages for status in prepare(jobs, tmp_path, "report")] == [False, True]


def test_a_run_that_listens_is_another_one(recipe_file: Path) -> None:
    silent = recipes.load(recipe_file)
    assert _listens(recipe_file).hash != silent.hash


def test_what_is_no_speech_cannot_be_listened_to() -> None:
    with pytest.raises(RecipeError, match=r"Expected \[data\.speech\] beside \[listening\]"):
        recipes.load("digits-stq", ["listening.hop_ms=100"])


def test_the_hop_is_a_multiple_of_the_front_ends(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"a multiple of 20, the front end's step\. Received: 110"):
        recipes.load(recipe_file, ["listening.hop_ms=110"])
    assert recipes.load(recipe_file, ["listening.hop_ms=120"]).listening is not None
