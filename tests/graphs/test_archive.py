"""A network that is saved again is the same file."""

import json
import time
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from tinyrobust.graphs import archive


def _network() -> keras.Model:
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    logits = keras.layers.Dense(10, name="logits")(keras.layers.Flatten(name="flat")(x))
    return keras.Model(image, logits, name="small")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    archive.save(_network(), tmp_path / "one.keras")
    return tmp_path / "one.keras"


def test_equal_networks_are_equal_files_at_another_time(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 2e9)
    again = _network()  # other objects, at other addresses
    archive.save(again, tmp_path / "two.keras")
    assert (tmp_path / "two.keras").read_bytes() == saved.read_bytes()
    again.layers[1].bias.assign(np.ones(4))
    archive.save(again, tmp_path / "two.keras")
    assert (tmp_path / "two.keras").read_bytes() != saved.read_bytes()


def test_keras_reads_it(saved: Path) -> None:
    image = np.random.default_rng(0).random((2, 8, 8, 1), dtype=np.float32)
    read = keras.models.load_model(saved, compile=False)
    np.testing.assert_array_equal(read(image), _network()(image))


def test_what_layers_share_they_share_still(saved: Path) -> None:
    def shared(value: object) -> set[int]:
        if isinstance(value, dict):
            own = {value["shared_object_id"]} if "shared_object_id" in value else set()
            return own.union(*map(shared, value.values()))
        return set().union(*map(shared, value)) if isinstance(value, list) else set()

    with zipfile.ZipFile(saved) as members:
        assert shared(json.loads(members.read("config.json"))) == {0}
