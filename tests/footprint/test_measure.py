"""The footprint of real files: figures that add up, and figures that others measured."""

import contextlib
import tomllib

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy import firmware, micro, tflm
from tinyrobust.deploy.artefact import read
from tinyrobust.errors import MissingToolError, ModelFileError, TinyRobustError
from tinyrobust.footprint import budget
from tinyrobust.footprint.footprint_record import FootprintRecord
from tinyrobust.footprint.measure import footprint

PEERS = ("ds-cnn-ternary", "mlperf-tiny-ic", "mlperf-tiny-kws")


def _adds_up(record: FootprintRecord) -> None:
    parts = (record.weights_stored, record.bias, record.quantization, record.structure)
    assert record.file.value == sum(part.value for part in parts)
    assert min(part.value for part in parts) >= 0
    assert record.macs.value == sum(layer.macs for layer in record.layers)
    assert record.weights_stored.value == sum(layer.weight_bytes for layer in record.layers)
    assert record.weights_packed.value == sum(layer.weight_bytes_packed for layer in record.layers)
    assert record.weights_packed.value <= record.weights_stored.value
    assert max(layer.arena_bytes for layer in record.layers) <= record.arena.value
    assert max(life.offset + life.bytes for life in record.lifetimes) == record.arena.value
    for layer in record.layers:
        assert layer.arena_bytes >= layer.activation_bytes
        assert (layer.weight_kind == "none") == (layer.weight_count == 0)


def test_a_small_file_layer_by_layer(small_tflite):
    record = footprint(small_tflite)
    _adds_up(record)
    assert record.model == "small.tflite"
    assert record.file.value == small_tflite.stat().st_size
    assert (record.input_shape, record.output_shape) == ([1, 8, 8, 1], [1, 3])
    assert record.operators == ["ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN"]
    macs = [64 * 4 * 9, 64 * 4 * 9, 64 * 4 * 4, 0, 0, 3 * 4]
    assert [layer.macs for layer in record.layers] == macs
    assert [layer.weight_kind for layer in record.layers] == ["int8", "int8", "ternary", "none", "none", "int8"]
    stem, _, pointwise, added, _, logits = record.layers
    assert (pointwise.weight_count, pointwise.weight_bytes) == (16, 16)
    assert (pointwise.weight_bits_needed, pointwise.weight_bytes_packed) == (2, 4)
    assert pointwise.bias_bytes == 16
    assert pointwise.quantization_bytes == 4 * 12 + 4 * 12 + 12  # weights and bias per channel, and the output
    assert (stem.input_shapes, stem.output_shape, stem.activation_bytes) == ([[1, 8, 8, 1]], [1, 8, 8, 4], 64 + 256)
    assert (added.input_shapes, added.activation_bytes) == ([[1, 8, 8, 4]] * 2, 3 * 256)
    assert logits.weight_bytes_packed == 12


def test_every_figure_says_where_it_comes_from(small_tflite):
    record = footprint(small_tflite)
    provenance = {
        name: getattr(record, name).provenance for name in ("file", "weights_stored", "weights_packed", "arena", "macs")
    }
    assert provenance == {
        "file": "measured",
        "weights_stored": "measured",
        "weights_packed": "computed",
        "arena": "computed",
        "macs": "computed",
    }
    assert "runtime's code" in record.fit_counts


def test_the_record_survives_its_file(small_tflite, tmp_path):
    record = footprint(small_tflite)
    record.save(tmp_path / "footprint.json")
    assert FootprintRecord.load(tmp_path / "footprint.json") == record


@pytest.mark.parametrize("name", PEERS)
def test_peers_add_up_and_match_what_tflm_measured(shared, checkout, name, within):
    measured = {entry["model"]: entry for entry in tomllib.loads((checkout / "benchmarks" / "peers.toml").read_text())["tflm"]}
    with within(2):
        record = footprint(shared / "peers" / f"{name}.tflite")
    _adds_up(record)
    assert record.file.value == measured[name]["file"]
    assert record.arena.value == measured[name]["arena_reference"]["head"]


def test_ternary_weights_are_counted_at_two_bits(shared):
    record = footprint(shared / "peers" / "ds-cnn-ternary.tflite")
    assert sum(layer.weight_count for layer in record.layers) == record.weights_stored.value == 30_976
    assert record.weights_packed.value == 30_976 // 4
    assert {layer.weight_kind for layer in record.layers} == {"ternary", "none"}
    assert record.macs.value == 2_665_728


def test_ordinary_weights_need_their_eight_bits(shared):
    record = footprint(shared / "peers" / "mlperf-tiny-ic.tflite")
    assert record.weights_packed.value == record.weights_stored.value == 77_360
    assert record.macs.value == 12_501_632


def test_boards_are_those_that_are_named(small_tflite):
    record = footprint(small_tflite, ["arduino-zero"])
    assert [board.board for board in record.boards] == ["arduino-zero"]
    assert record.boards[0].flash_needed == record.tflm_flash.value
    assert record.boards[0].ram_needed == record.tflm_ram.value
    assert len(footprint(small_tflite).boards) >= 8
    with pytest.raises(TinyRobustError, match="arduino-zero"):
        footprint(small_tflite, ["arduino-zerro"])


def test_a_board_too_small_says_what_binds(shared):
    record = footprint(shared / "peers" / "mlperf-tiny-ic.tflite", ["arduino-zero"])
    assert (record.boards[0].fits, record.boards[0].binds) == (False, "ram")


def test_damaged_files_are_sized_or_refused(small_tflite, tmp_path):
    content = small_tflite.read_bytes()
    random = np.random.default_rng(3)
    path = tmp_path / "damaged.tflite"
    sized = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        with contextlib.suppress(ModelFileError):
            footprint(path, ["arduino-zero"])
            sized += 1
    assert 0 < sized < 300


def test_what_the_runtime_takes_is_at_least_what_was_measured(checkout, shared):
    """On a microcontroller, in `benchmarks/peers.toml`: code within a third, its own data a fifth less than the bound."""
    for entry in tomllib.loads((checkout / "benchmarks" / "peers.toml").read_text())["tflm"]:
        record = footprint(shared / "peers" / f"{entry['model']}.tflite")
        code = entry["flash"]["os_reference"] - entry["file"]
        assert code <= record.tflm_flash.value - entry["file"] <= 1.35 * code
        own = entry["arena_reference"]["total"] - entry["arena_reference"]["head"]
        assert 1.2 * own <= record.tflm_own.value <= 1.6 * own
        assert record.tflm_ram.value == record.arena.value + record.tflm_own.value + micro.STACK
    assert f"{micro.CODE:,} B and {micro.CODE_OF_A_KIND:,} B" in record.fit_counts
    assert f"{micro.STACK:,} B for stack" in record.fit_counts


def test_a_fit_counts_what_the_page_measures(small_tflite):
    record = footprint(small_tflite, ["nucleo-f103rb"], device=True)
    (board,) = record.boards
    assert board.ram_needed >= record.arena.value + micro.STACK
    if record.tflm_arena:
        assert board.ram_needed == record.tflm_arena.value + micro.STACK <= footprint(small_tflite).tflm_ram.value
    assert board.flash_needed == record.tflm_flash.value > record.file.value


@pytest.mark.parametrize(
    ("scheme", "kind", "reason"),
    [
        ("dynamic range", "hybrid", "it is hybrid: FULLY_CONNECTED has int8 weights"),
        ("float16", "float32", "half precision"),
        ("int16 activations", "16x8", ""),
        ("uint8", "int8", ""),
        (None, "float32", ""),
    ],
)
def test_what_a_file_computes_in_and_whether_it_is_run(converted, digits_net, scheme, kind, reason):
    images = digits_net.x[:20].astype(np.float32) / 255 if scheme in ("int16 activations", "uint8") else None
    path = converted(_wide(), images, scheme=scheme) if scheme else converted(digits_net.model)
    record = footprint(path, ["teensy-41"])
    assert record.kind.startswith(kind)
    assert bool(record.tflm_refused) == bool(reason)
    assert reason in record.tflm_refused
    (board,) = record.boards
    assert (board.fits, board.binds) == ((False, "runtime") if reason else (True, "nothing"))
    assert budget.check(record, budget.Budget()).fits is not bool(reason)
    if tflm.available():
        assert bool(tflm.refuses(read(path))) == bool(reason)


def _wide():
    """A dense layer large enough for the converter to quantize its weights alone."""
    import keras

    image = keras.Input((8, 8, 1), batch_size=1)
    return keras.Model(image, keras.layers.Dense(40)(keras.layers.Flatten()(image)))


@pytest.mark.parametrize("code", ["ethos-u", "edgetpu-custom-op", "own"])
def test_compiled_files_and_custom_operators_are_named(small_tflite, tmp_path, changed, code):
    def change(model):
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.customCode = schema.BuiltinOperator.CUSTOM, 32, code
        operator, graph = schema.OperatorT(), model.subgraphs[0]
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes), graph.inputs, graph.outputs
        model.operatorCodes.append(entry)
        graph.operators = [operator]

    record = footprint(changed(small_tflite, tmp_path / "custom.tflite", change), ["teensy-41"])
    assert record.operators == [f"CUSTOM:{code}"]
    said = {"ethos-u": "Ethos-U NPU by Vela", "edgetpu-custom-op": "Edge TPU", "own": "no custom operator 'own'"}[code]
    assert said in record.tflm_refused
    assert not record.boards[0].fits


def test_nothing_is_compiled_unless_asked_for(small_tflite):
    record = footprint(small_tflite)
    assert (record.device, record.device_missing, record.tflm_arena) == (None, "", None)


def test_the_c_is_compiled_and_emulated(small_tflite, tmp_path):
    try:
        firmware.require()
    except MissingToolError as error:
        pytest.skip(str(error))
    record = footprint(small_tflite, ["nrf5340-dk", "arduino-zero", "esp32-s3-devkitc-1"], device=True)
    device = record.device
    assert device
    run = device.emulation
    assert (run.equal, run.n) == ((3, 3) if tflm.available() else (None, 3))
    assert device.flash.value == run.code + run.rodata + run.data == sum(o.code + o.rodata + o.data for o in run.objects)
    assert device.ram.value == run.data + run.bss + run.output_bytes + run.stack
    assert (device.flash.provenance, device.ram.provenance, device.instructions.provenance) == (
        "measured", "emulated", "emulated",
    )  # fmt: skip
    assert sum(layer.instructions for layer in run.layers) == pytest.approx(run.instructions, rel=0.1)
    assert device.flash.value < record.file.value
    assert 2 <= device.bits_per_weight <= 10
    assert [fit.board for fit in device.boards] == ["nrf5340-dk", "arduino-zero", "esp32-s3-devkitc-1"]
    assert all(fit.flash_needed == device.flash.value for fit in device.boards)
    m33 = device.times[0]  # its core is not modelled, but runs the same program
    assert (m33.board, m33.time.provenance, m33.at_most) == ("nrf5340-dk", "estimated", None)
    assert m33.time.value == round(run.instructions / 128)
    if run.cycles:
        m0plus = run.cycles[1]
        (time,) = device.times[1:]  # an ESP32-S3 runs other instructions
        assert (time.board, time.time.provenance, time.at_most.provenance) == ("arduino-zero", "modelled", "modelled")
        assert time.time.value == round(m0plus.low / 48)
        assert time.at_most.value == round((m0plus.high + m0plus.fetches[32] + m0plus.flash_reads) / 48)
    if tflm.available():
        assert record.tflm_arena.value > record.arena.value
    record.save(tmp_path / "footprint.json")
    assert FootprintRecord.load(tmp_path / "footprint.json") == record


def test_without_the_tools_the_rest_is_there_and_the_line_that_installs_them(small_tflite, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    record = footprint(small_tflite, device=True)
    assert record.device is None
    assert "sudo apt install make gcc-arm-none-eabi" in record.device_missing


def test_the_package_can_be_called_whatever_was_imported_before(small_tflite):
    import tinyrobust

    for _ in range(2):  # the first access may still find the function, the second finds the imported package
        assert tinyrobust.footprint(small_tflite, boards=["arduino-zero"]) == footprint(small_tflite, ["arduino-zero"])
