"""A keyword spotter from clips to what is flashed: what a run of speech leaves, and that it goes on where it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrobust
from tinyrobust.data.arrays import scale
from tinyrobust.data.sources import load
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.pipeline.folder import RunFolder

_RECIPE = """
description = "A few tones: for the tests."
[data]
name = "{tones}"
[data.speech]
task = "own-words"
words = ["low", "high"]
[data.speech.frontend]
kind = "mfcc"
[data.speech.augment]
copies = 2
shift_ms = 50
noise = 0.5
[network]
kind = "dscnn"
width = 0.125
[[precision.rule]]
layers = "stem|logits"
weights = "fixed-point"
[[precision.rule]]
layers = ".*"
weights = "ternary"
[train]
epochs = 12
batch_size = 32
learning_rate = 1e-2
[export]
accuracy_drop = 10.0
agreement = 0.8
"""


@pytest.fixture(scope="module")
def spotter(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("spotter")
    (folder / "spotter.toml").write_text(_RECIPE.format(tones=tones))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYROBUST_CACHE", str(folder / "cache"))
        yield tinyrobust.export(folder / "spotter.toml", runs_dir=folder / "runs")


def test_it_learns_the_tones(spotter: Any) -> None:
    assert len(spotter.history) == 12
    assert spotter.history[-1]["accuracy"] > 0.6  # of four classes


def test_the_front_end_is_exported_beside_the_model(spotter: Any) -> None:
    files = {"frontend.json", "model_frontend.h", "model_frontend_vectors.h"}
    assert files <= set(spotter.record.stages["export"].files)
    record = FrontendRecord.load(spotter.path / "frontend.json")
    assert record.settings == spotter.recipe.data.speech.frontend
    assert list(record.shape) == spotter.record.input_shape[:2]
    assert list(record.classes) == spotter.record.classes


def test_the_vectors_have_the_answers_of_the_int8_file(spotter: Any) -> None:
    dataset = load(spotter.recipe.data, spotter.recipe.seed)
    text = (spotter.path / "model_frontend_vectors.h").read_text()
    answers = text.partition("spotter_vector_answer[8] = {")[2].partition("}")[0]
    predicted = Int8Model(spotter.path / "model.tflite").predict(scale(dataset.validation.x[:8])).argmax(axis=1)
    assert [int(number) for number in answers.split(",")] == predicted.tolist()


def test_an_export_without_its_header_is_not_complete(spotter: Any) -> None:
    folder = RunFolder(spotter.path, spotter.recipe, spotter.record)
    assert folder.is_complete("export")
    header = (spotter.path / "model_frontend.h").read_bytes()
    (spotter.path / "model_frontend.h").unlink()
    assert not folder.is_complete("export")
    (spotter.path / "model_frontend.h").write_bytes(header)


def test_the_input_is_the_grid_itself(spotter: Any) -> None:
    """Scale 1/255, zero point -128: the int8 input is the feature's step minus 128, as the header says."""
    model = Int8Model(spotter.path / "model.tflite")
    steps = np.arange(256, dtype=np.uint8).repeat(np.prod(model.input_shape) // 256 + 1)[: np.prod(model.input_shape)]
    x = steps.reshape(1, *model.input_shape)
    np.testing.assert_array_equal(model.quantized(scale(x)).astype(int), x.astype(int) - 128)
