import numpy as np
import pytest

from tinyrobust.deploy import artefact, grids
from tinyrobust.deploy.deploy_records import ParityRecord, TernaryKernel
from tinyrobust.deploy.matching import match
from tinyrobust.deploy.parity import Samples, check, layer_errors, measure
from tinyrobust.deploy.twin import build_twin
from tinyrobust.errors import ModelFileError, ParityError
from tinyrobust.recipe.export import Export


def measured(net, path=None) -> ParityRecord:
    settings = Export(accuracy_drop=1, agreement=0.97)
    return measure(net.model, path or net.tflite, Samples(net.x, net.y, "digits"), settings, arena_bytes=100)


@pytest.fixture(scope="module")
def record(ternary) -> ParityRecord:
    return measured(ternary)


def test_the_export_of_a_trained_network_passes(record) -> None:
    check(record)
    assert record.n == 497
    assert record.accuracy_qkeras > 0.85
    assert record.accuracy_drop_points == pytest.approx(100 * (record.accuracy_qkeras - record.accuracy_int8))
    assert record.twin_relative_error <= record.twin_tolerance == 1e-4
    assert record.kernel_error_steps < 0.01
    assert record.operators == ["ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "RESHAPE"]


def test_all_ternary_kernels_are_listed(record) -> None:
    assert len(record.ternary_kernels) == 9
    assert {kernel.most_values_per_channel for kernel in record.ternary_kernels} == {3}


def test_layers_are_compared_one_by_one(record) -> None:
    errors = {layer.layer: layer.relative_error for layer in record.layers}
    assert next(iter(errors)) == "stem-relu"
    assert list(errors)[-1] == "logits"
    assert {"block2-bn", "block2-relu", "pool", "dense2-relu"} < set(errors)
    assert errors[record.worst_layer] == max(errors.values()) < 0.05
    # The first activation is on the trained grid, from exact pixels and exact weights: few values fall on another step. How
    # many depends on the weights, and those on the machine: 0.004 was seen.
    assert errors["stem-relu"] < 0.008


def test_residual_branches_need_not_reach_beyond_the_activation(ternary) -> None:
    twin = build_twin(ternary.model)
    assert grids.limits(twin) == dict.fromkeys(("block2", "block5", "block6"), (-6.0, 6.0))


def _with_weight(net, layer: str, value: int, path) -> None:
    """Writes the file with the first weight that is 127 in the kernel of `layer` changed."""
    file = artefact.read(net.tflite)
    kernel = file.tensors[match(build_twin(net.model), file)[layer].operator.inputs[1]].data
    content = bytearray(file.content)
    start = file.content.index(kernel.tobytes())
    content[start + int(np.flatnonzero(kernel.reshape(-1) == 127)[0])] = value % 256
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        (
            5,
            [
                "within 0.51 steps of the twin's. Received: 122.0 steps in 'block4'",
                "at most 3 values per channel. Received: up to 4",
            ],
        ),
        (-127, ["within 0.51 steps of the twin's. Received: 254.0 steps in 'block4'"]),
    ],
    ids=["fourth value", "other sign"],
)
def test_one_changed_weight_is_found(value, messages, ternary, tmp_path) -> None:
    path = tmp_path / "model.tflite"
    _with_weight(ternary, "block4", value, path)
    with pytest.raises(ParityError) as caught:
        check(measured(ternary, path))
    for message in messages:
        assert message in caught.value.message
    assert caught.value.message.count("\n  - ") >= len(messages)


def test_another_networks_file_does_not_pass(ternary, exported) -> None:
    with pytest.raises(ParityError, match="accuracy: expected int8 to lose at most 1 points"):
        check(measured(ternary, exported("binary", "relu6").tflite))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"twin_relative_error": 2e-4}, "twin against QKeras: expected a relative error of at most 1e-04. Received: 2.00e-04"),
        ({"twin_relative_error": float("nan")}, "twin against QKeras"),
        ({"kernel_error_steps": 1.0, "worst_kernel": "dense1"}, "Received: 1.0 steps in 'dense1'"),
        ({"accuracy_drop_points": 1.1}, "accuracy: expected int8 to lose at most 1 points"),
        ({"top1_agreement": 0.9}, "top-1 agreement: expected at least 97.00 %. Received: 90.00 %"),
        ({"ternary_kernels": [TernaryKernel(tensor="k", channels=2, most_values_per_channel=7)]}, "Received: up to 7 in k"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_whatever_breaks_is_refused_with_figures_and_the_worst_layer(changes, message, record) -> None:
    with pytest.raises(ParityError) as caught:
        check(record.model_copy(update=changes))
    assert message in caught.value.message
    assert caught.value.message.count("\n  - ") == 1
    assert f"The worst layer is {record.worst_layer!r}" in caught.value.message
    assert caught.value.hint


def test_the_record_survives_its_file(record, tmp_path) -> None:
    record.save(tmp_path / "parity.json")
    assert ParityRecord.load(tmp_path / "parity.json") == record


def test_no_images_are_refused(ternary) -> None:
    with pytest.raises(ModelFileError, match="Expected images to measure parity on"):
        measure(ternary.model, ternary.tflite, Samples(ternary.x[:0], ternary.y[:0], ""), Export(), arena_bytes=0)


def test_trained_grids_come_closer_than_calibrated_ones(ternary, tmp_path) -> None:
    """The file with every trained grid replaced by the range of the calibration images, as the converter would choose it."""
    file, twin = artefact.read(ternary.tflite), build_twin(ternary.model)
    matches = match(twin, file)
    images = ternary.calibration.astype(np.float32) / 255
    calibrated = tmp_path / "calibrated.tflite"
    calibrated.write_bytes(grids.write(file, matches, grids.measured(twin, grids.free(matches), images)))
    errors = [
        np.mean([layer.relative_error for layer in layer_errors(ternary.model, candidate, matches, {}, ternary.unit[:32])])
        for candidate in (file, artefact.read(calibrated))
    ]
    assert errors[0] < 0.9 * errors[1]


def test_how_near_the_weights_are_is_said_of_every_layer(record, exported) -> None:
    """Exactly, where levels are multiples of one step; to the nearest of 255, where piecewise linear ones are not."""
    assert [
        kernel.layer for kernel in record.kernels if kernel.largest_steps == kernel.mean_steps == kernel.relative_error == 0
    ] == [kernel.layer for kernel in record.kernels]
    assert len(record.kernels) == 11
    nearest = measured(exported("pwlq", "calibrated"))
    errors = {kernel.layer: kernel for kernel in nearest.kernels}
    assert errors.pop("stem").relative_error == errors.pop("logits").relative_error == 0
    for kernel in errors.values():
        assert 0.25 < kernel.largest_steps <= 0.5001, kernel
        assert 0 < kernel.mean_steps < 0.3
        # Rounding to 255 levels, of kernels whose weights are a tenth to all of the largest.
        assert 1e-4 < kernel.relative_error < 0.02
    assert nearest.kernel_error_steps == max(kernel.largest_steps for kernel in nearest.kernels)
    assert nearest.holds["kernels"]
