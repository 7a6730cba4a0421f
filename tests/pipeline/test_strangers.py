"""Files that nobody here trained, through the command: white box through the rebuilt twin, black box where there is none."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tinyrobust
from tinyrobust.data.sources import load
from tinyrobust.errors import ModelFileError
from tinyrobust.recipe.data import Data
from tinyrobust.robustness.robustness_record import RobustnessRecord

# Every view of `adaptive`, each on every image, at a budget for everyday: most of the time is tracing.
_VIEWS = """
description = "every view"
[[attack]]
name = "repaired"
kind = "apgd"
loss = "ce"
steps = 10
on = "repaired"
transfer_to = ["int8"]
[[attack]]
name = "logits"
kind = "apgd"
loss = "dlr"
steps = 10
on = "keras"
transfer_to = ["int8"]
[[attack]]
name = "temperature"
kind = "apgd"
loss = "ce"
steps = 10
on = "keras/T"
transfer_to = ["int8"]
[[attack]]
name = "bpda"
kind = "apgd"
loss = "ce"
steps = 10
on = "bpda"
[[attack]]
name = "square-int8"
kind = "square"
iterations = 50
restarts = 1
on = "int8"
"""


def _attack(*words: Any) -> RobustnessRecord:
    """What the command prints."""
    command = [sys.executable, "-m", "tinyrobust.cli.app", "attack", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return RobustnessRecord.model_validate_json(done.stdout)


def _left(record: RobustnessRecord) -> dict[str, float]:
    assert {row.target for row in record.attacks} == {"int8"}
    return {row.attack: row.robust.value for row in record.attacks}


def _raised(record: RobustnessRecord) -> set[str]:
    return {check.name for check in record.checks if check.raised}


@pytest.fixture(scope="module")
def pictures(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 100 test images of CIFAR-10 as anybody's `.npz`."""
    test = load(Data(name="cifar10", color="rgb"), 7, shared / "data" / "tfds").test
    path = tmp_path_factory.mktemp("pictures") / "some.npz"
    np.savez(path, x_train=test.x[:100], y_train=test.y[:100], x_test=test.x[:100], y_test=test.y[:100])
    return path


def test_every_view_of_mlperf_image_classification(pictures: Path, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "views.toml").write_text(_VIEWS)
    options = ("--protocol", tmp_path / "views.toml", "--samples", 24, "--epsilon", 2 / 255, "--output", tmp_path / "out")
    record = _attack(shared / "peers" / "mlperf-tiny-ic.tflite", "--data", pictures, *options)
    assert record.clean[0].test.value >= 0.8
    assert any("twin rebuilt from the file itself" in note for note in record.notes)
    left = _left(record)
    # An undefended network: at 2/255 every attack that has its gradients takes nearly all.
    assert all(left[name] <= 0.1 for name in ("repaired", "logits", "temperature", "bpda")), left
    assert record.headline.value <= 0.05
    assert not _raised(record)


@pytest.mark.slow
def test_mlperf_image_classification_adaptive(shared: Path, tmp_path: Path) -> None:
    options = ("--protocol", "adaptive", "--samples", 32, "--epsilon", 0.00392, "--output", tmp_path)
    data = ("--data", "cifar10", "--data-dir", shared / "data" / "tfds")
    record = _attack(shared / "peers" / "mlperf-tiny-ic.tflite", *data, *options)
    assert abs(record.clean[0].test.value - 0.87) <= 0.01
    assert record.headline.value <= 0.05
    assert record.reliable


def test_a_file_that_takes_no_images_is_refused(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"expected an input of images, gray and square.*Received: \(49, 10, 1\)"):
        tinyrobust.attack(shared / "peers" / "mlperf-tiny-kws.tflite", data="digits", output=tmp_path)


def test_a_file_without_a_twin_is_attacked_as_a_black_box(converted: Callable[..., Path], tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), batch_size=1)
    bent = keras.layers.Conv2D(4, 3, activation="exponential")(image)
    scores = keras.layers.Dense(10)(keras.layers.Flatten()(bent))
    path = converted(keras.Model(image, scores))
    settings = {"protocol": "quick", "samples": 10, "epsilons": [0.1], "input_range": (0.0, 1.0)}
    record = tinyrobust.attack(path, data="digits", output=tmp_path / "out", **settings)
    assert set(_left(record)) == {"square-int8"}
    assert any("EXP" in note for note in record.notes)
    assert not record.reliable
    assert "black-box-only" in _raised(record)
