"""TensorFlow Lite Micro itself: its outputs, and the arena in which it really runs."""

from pathlib import Path

import numpy as np
import pytest

from tinyrobust.deploy import tflm
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import MissingToolError, ModelFileError


@pytest.fixture(autouse=True)
def _wheel() -> None:
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")


def test_its_outputs_are_those_of_the_file(small_tflite: Path) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (130, 64), dtype=np.int8)
    told: list[tuple[int, int]] = []
    golden = tflm.outputs(small_tflite, x, lambda _, done, total: told.append((done, total)))
    assert golden.shape == (130, 3)
    assert told == [(0, 130), (100, 130), (130, 130)]
    fast = Int8Model(small_tflite).run(x.reshape(-1, 8, 8, 1))
    assert np.abs(golden.astype(int) - fast).max() <= 1


def test_the_smallest_arena_runs_and_a_smaller_one_does_not(small_tflite: Path) -> None:
    found = tflm.arena(small_tflite)
    assert found % 16 == 0
    assert 1000 < found < 16_000
    assert tflm.arena(small_tflite) == found


@pytest.mark.parametrize(("name", "head"), [("mlperf-tiny-kws", 16_000), ("mlperf-tiny-ic", 49_152)])
def test_the_arena_of_peers_lies_above_the_head_that_they_record(shared: Path, name: str, head: int) -> None:
    assert head < tflm.arena(shared / "peers" / f"{name}.tflite") < head + 10_000


def test_files_and_inputs_that_do_not_fit_are_refused(small_tflite: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be run by TensorFlow Lite Micro"):
        tflm.outputs(small_tflite, np.zeros((1, 63), np.int8))
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(small_tflite.read_bytes()[:500])
    with pytest.raises(ModelFileError, match="corrupt or truncated"):
        tflm.arena(damaged)


def test_without_the_wheel_the_extra_is_named(small_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingToolError, match=r"tinyrobust\[mcu\]"):
        tflm.outputs(small_tflite, np.zeros((1, 64), np.int8))
