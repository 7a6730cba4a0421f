"""A run, or anybody's file, on an emulated board."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrobust
from tinyrobust.deploy import firmware, tflm
from tinyrobust.errors import MissingToolError, ModelFileError
from tinyrobust.pipeline.emulate import emulate


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    try:
        firmware.require()
    except MissingToolError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("where", [".", "model.tflite"])
def test_a_run_is_shown_its_test_images(tiny_run: Any, where: str) -> None:
    record = emulate(tiny_run.path / where, images=30)
    assert (record.n, record.inputs) == (30, "test images of digits")
    assert record.equal == (30 if tflm.available() else None)
    assert record.right is not None
    clean = next(one.test for one in tiny_run.robustness.clean if one.target == "int8")
    assert abs(record.right / 30 - clean.value) < 0.35


def test_a_file_with_data_is_shown_them(digits_net: Any, tmp_path: Path) -> None:
    half = len(digits_net.x) // 2
    arrays = {"x_train": digits_net.x[:half], "y_train": digits_net.y[:half]}
    data = tmp_path / "digits.npz"
    np.savez(data, **arrays, x_test=digits_net.x[half:], y_test=digits_net.y[half:])
    record = emulate(digits_net.tflite, data=str(data), images=40, board="mps2-an500")
    assert record.n == 40
    assert record.right >= 36


def test_a_file_of_windows_is_shown_windows(converted: Any, tmp_path: Path) -> None:
    import keras

    random = np.random.default_rng(0)
    windows = random.normal(0, 3, (30, 20, 3)).astype(np.float32)
    network = keras.Sequential([keras.Input((20, 3), batch_size=1), keras.layers.Flatten(), keras.layers.Dense(2)])
    flashed = converted(network, windows)
    data = tmp_path / "windows.npz"
    np.savez(data, x_test=windows, y_test=network.predict(windows, batch_size=1, verbose=0).argmax(axis=1))
    record = emulate(flashed, data=str(data), images=20)
    assert record.inputs == "test samples of windows.npz"
    assert record.right is not None
    assert record.right >= 18


def test_a_file_without_data_gets_random_bytes(small_tflite: Path) -> None:
    record = tinyrobust.emulate(small_tflite, images=2, optimisation="-O2")
    assert (record.n, record.right) == (2, None)
    assert "random" in record.inputs


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="Expected the folder of a run"):
        emulate(tmp_path / "recipe.toml")
