"""From a `.tflite` to figures of an emulated board: small networks and peers, bit for bit."""

import tomllib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tinyrobust.deploy import device, firmware, probing, tflm
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.deploy_records import DeviceRecord
from tinyrobust.errors import MissingToolError

PEERS = ("ds-cnn-ternary", "mlperf-tiny-kws", "mlperf-tiny-ic")


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    try:
        firmware.require()
    except MissingToolError as error:
        pytest.skip(str(error))
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")


@pytest.mark.parametrize("optimisation", ["-Os", "-O2"])
@pytest.mark.parametrize("board", ["mps2-an385", "mps2-an386", "mps2-an500", "mps3-an547"])
def test_every_board_answers_like_tensorflow_lite_micro(small_tflite: Path, board: str, optimisation: str) -> None:
    record = device.measure(small_tflite, probing.probes(read(small_tflite), 16), board=board, optimisation=optimisation)
    assert (record.equal, record.n, record.right) == (16, 16, None)
    assert record.golden.startswith("tflite-micro 0.dev")


@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500"])
@pytest.mark.parametrize("name", PEERS)
def test_peers_answer_like_tensorflow_lite_micro_on_the_board(shared: Path, name: str, board: str) -> None:
    path = shared / "peers" / f"{name}.tflite"
    record = device.measure(path, probing.probes(read(path), 16), board=board, optimisation="-O2")
    assert (record.equal, record.n) == (16, 16)


@pytest.mark.parametrize("name", PEERS)
def test_peers_need_less_than_tensorflow_lite_micro(shared: Path, checkout: Path, name: str) -> None:
    figures = {one["model"]: one for one in tomllib.loads((checkout / "benchmarks" / "peers.toml").read_text())["tflm"]}[name]
    record = device.measure(shared / "peers" / f"{name}.tflite")
    assert record.flash < 0.65 * figures["flash"]["os_reference"]
    assert record.ram < figures["arena_reference"]["head"]
    assert record.instructions < figures["instructions"]["o2_reference"]


@pytest.mark.parametrize("name", ["clock", "main", "semihosting", "2 käse-Ω"])
def test_a_model_may_be_called_as_it_likes(small_tflite: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(small_tflite.read_bytes())
    record = device.measure(path)
    assert (record.model, record.equal) == (path.name, 3)


def test_the_figures_belong_together(small_tflite: Path, tmp_path: Path) -> None:
    record = device.measure(small_tflite)
    assert record.board == "mps2-an386"
    assert record.core.startswith("Arm MPS2 with image AN386: Cortex-M4F")
    assert "arm-none-eabi-gcc" in record.compiler
    assert record.flash == sum(one.code + one.rodata + one.data for one in record.objects)
    assert record.static_ram == sum(one.data + one.bss for one in record.objects) + 3
    assert record.ram == record.static_ram + record.stack
    assert sum(layer.macs for layer in record.layers) == 64 * 4 * 9 + 64 * 4 * 9 + 64 * 4 * 4 + 3 * 4
    assert sum(layer.weight_bytes + layer.table_bytes for layer in record.layers) <= record.rodata + record.code
    record.save(tmp_path / "device.json")
    assert DeviceRecord.load(tmp_path / "device.json") == record


def test_right_answers_are_counted_where_labels_are_known(small_tflite: Path) -> None:
    probes = probing.probes(read(small_tflite), 5)
    best = tflm.outputs(small_tflite, probes.raw).argmax(axis=1)
    labels = np.where(np.arange(5) < 2, best, (best + 1) % 3)
    assert device.measure(small_tflite, probing.Inputs(probes.raw, "probes", labels)).right == 2


def test_float_ends_are_fed_and_compared(converted, digits_net) -> None:
    """As most files from the field have them: the C takes integers, TensorFlow Lite Micro the file's floats."""
    path = converted(digits_net.model, digits_net.x[:50].astype(np.float32) / 255, scheme="float ends")
    assert read(path).tensors[read(path).inputs[0]].dtype == "float32"
    record = device.measure(path, probing.probes(read(path), 8))
    assert (record.equal, record.n) == (8, 8)


def test_probes_start_with_the_extremes(small_tflite: Path) -> None:
    artefact = read(small_tflite)
    raw = probing.probes(artefact, 4).raw
    assert raw.shape == (4, 64)
    assert (raw[0] == 127).all()
    assert (raw[1] == -128).all()
    assert len(np.unique(raw[2])) > 10
    np.testing.assert_array_equal(raw, probing.probes(artefact, 4).raw)
    assert probing.probes(artefact, 1).raw.shape == (1, 64)


def test_the_benchmark_measures_what_its_goals_name(benchmark: ModuleType, checkout: Path) -> None:
    goals = tomllib.loads((checkout / "benchmarks" / "goals.toml").read_text())
    assert {figure for wanted in goals.values() for figure in wanted} == set(benchmark.FIGURES)
