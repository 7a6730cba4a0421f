"""Weights in look-up tables: real compressed files, run by TensorFlow Lite Micro itself."""

from pathlib import Path

import numpy as np
import pytest

from tinyrobust.deploy import lut, probing, tflm
from tinyrobust.deploy.artefact import read
from tinyrobust.errors import MissingToolError
from tinyrobust.pipeline.generate import look_up


@pytest.fixture
def _wheel() -> None:
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")


@pytest.mark.usefixtures("_wheel")
def test_a_ternary_network_gets_smaller_and_answers_the_same(shared: Path, tmp_path: Path) -> None:
    artefact = read(shared / "peers" / "ds-cnn-ternary.tflite")
    raw = probing.probes(artefact, 6).raw
    written = look_up(artefact.path, tmp_path, images=6)
    found = written.compressed
    assert written.path == tmp_path / "ds-cnn-ternary.lut.tflite"
    assert written.path.read_bytes() == found.content
    assert found.pays
    assert (found.equal, found.n) == (6, 6)
    assert found.saved == artefact.size - len(found.content) > artefact.size // 4
    assert 0 < found.added < found.saved
    np.testing.assert_array_equal(tflm.outputs_of(found.content, "it", raw), tflm.outputs(artefact.path, raw))


@pytest.mark.usefixtures("_wheel")
def test_weights_of_many_values_do_not_pay(shared: Path) -> None:
    artefact = read(shared / "peers" / "mlperf-tiny-kws.tflite")
    found = lut.compress(artefact, probing.probes(artefact, 2).raw)
    assert not found.pays
    assert (found.content, found.saved, found.added) == (b"", 0, 0)


def test_every_channel_has_a_table_of_its_own(shared: Path) -> None:
    """One table over several channels silently gives garbage."""
    artefact = read(shared / "peers" / "ds-cnn-ternary.tflite")
    chosen = lut.tables(artefact)
    assert chosen
    for one in chosen:
        tensor = artefact.tensors[one["tensor"] or 0]
        assert one["axis"] == (tensor.quantized_dimension if tensor.per_channel else None)
        assert one["bits"] == 2


def test_tables_that_would_take_more_than_they_spare_are_left_out(small_tflite: Path) -> None:
    assert lut.tables(read(small_tflite)) == []


def test_without_the_wheel_the_extra_is_named(small_tflite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    artefact = read(small_tflite)
    with pytest.raises(MissingToolError, match=r"tinyrobust\[mcu\]"):
        lut.compress(artefact, probing.probes(artefact, 1).raw)
