from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.data import load
from tinyrobust.errors import DataError
from tinyrobust.recipe.data import Augment, Data


def arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(0)
    values = {
        "x_train": random.integers(0, 256, (30, 6, 6), dtype=np.uint8),
        "y_train": np.arange(30) % 3,
        "x_test": random.integers(0, 256, (9, 6, 6), dtype=np.uint8),
        "y_test": np.arange(9) % 3,
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def saved(folder: Path, **changes: Any) -> Data:
    np.savez(folder / "mine.npz", **arrays(**changes))
    return Data(name=str(folder / "mine.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("axes", ["none", "one", "three"])
def test_gray_and_colour_images_load(tmp_path: Path, save: Any, axes: str) -> None:
    values = arrays()
    for name in ("x_train", "x_test"):
        values[name] = {
            "none": values[name],
            "one": values[name][..., None],
            "three": np.repeat(values[name][..., None], 3, 3),
        }[axes]
    save(tmp_path / "mine.npz", **values)
    dataset = load(Data(name=str(tmp_path / "mine.npz"), augment=Augment(flip=True)), seed=1)
    assert dataset.name == "mine.npz"
    assert dataset.classes == ("0", "1", "2")
    assert dataset.input_shape == (6, 6, 1)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (27, 3, 9)
    np.testing.assert_array_equal(dataset.test.x[..., 0], arrays()["x_test"])
    np.testing.assert_array_equal(dataset.test.y, arrays()["y_test"])


def test_the_file_may_name_its_classes(tmp_path: Path) -> None:
    assert load(saved(tmp_path, classes=np.array(["bolt", "nut", "pin"])), seed=1).classes == ("bolt", "nut", "pin")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"y_test": None, "x_test": None}, "Received: x_train, y_train", id="arrays missing"),
        pytest.param({"x_train": np.zeros((30, 6, 6), np.float32)}, "x_train as uint8.*float32.*0 to 255", id="float images"),
        pytest.param({"x_test": np.full((9, 6, 6), np.nan)}, "x_test as uint8.*float64", id="NaN images"),
        pytest.param({"x_train": np.zeros((30, 36), np.uint8)}, r"x_train of shape.*\(30, 36\)", id="flat images"),
        pytest.param({"x_train": np.zeros((30, 6, 6, 4), np.uint8)}, r"1 or 3\].*\(30, 6, 6, 4\)", id="four channels"),
        pytest.param({"x_test": np.zeros((0, 6, 6), np.uint8)}, r"x_test of shape.*\(0, 6, 6\)", id="no test images"),
        pytest.param({"x_test": np.zeros((9, 6, 5), np.uint8)}, r"one shape.*\(6, 6, 1\) and \(6, 5, 1\)", id="two sizes"),
        pytest.param({"y_train": np.arange(29) % 3}, "Expected 30 labels in y_train.*Received: 29", id="label missing"),
        pytest.param({"y_test": np.zeros((9, 1), np.int64)}, r"y_test of shape \[n\].*reshape", id="label column"),
        pytest.param({"y_test": np.full(9, np.nan)}, "integers in y_test.*NaN", id="NaN label"),
        pytest.param({"y_train": np.zeros(30)}, "integers in y_train.*float64", id="float label"),
        pytest.param({"y_train": np.arange(30) % 3 - 1}, "0 to 1 in y_train.*-1 to 1", id="negative label"),
        pytest.param({"y_test": np.arange(9)}, "0 to 2 in y_test.*0 to 8", id="label only in test"),
        pytest.param({"y_train": np.arange(30) % 3 * 2}, "each of the 5 classes.*none with the label 1, 3", id="gap"),
        pytest.param({"classes": np.array(["a", "b"])}, "0 to 1 in y_train", id="too few names"),
        pytest.param({"classes": np.array(["a", "b", "c", "d"])}, "none with the label 3", id="too many names"),
        pytest.param({"classes": np.arange(3)}, "classes as two or more texts", id="names are numbers"),
        pytest.param({"classes": np.array(["a", "b", "c"], object)}, "cannot be read", id="a pickle"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(saved(tmp_path, **changes), seed=1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz.*there is no such file"):
        load(Data(name=str(tmp_path / "nowhere.npz")), seed=1)


@pytest.mark.parametrize("damage", ["empty", "text", "npy", "cut", "flipped"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    data = saved(tmp_path)
    path = tmp_path / "mine.npz"
    whole = path.read_bytes()
    if damage == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        flipped = whole[:500] + bytes(255 - value for value in whole[500:520]) + whole[520:]
        path.write_bytes({"empty": b"", "text": b"x_train", "cut": whole[: len(whole) // 2], "flipped": flipped}[damage])
    with pytest.raises(DataError, match=r"mine\.npz cannot be read as a \.npz file.*The file needs x_train"):
        load(data, seed=1)
