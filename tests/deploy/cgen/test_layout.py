"""Which calls are chosen for the sake of the arena."""

from pathlib import Path

import numpy as np
import pytest

from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cgen.generate import generate

WINDOW = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


@pytest.fixture
def wide(graph, tmp_path: Path) -> Path:
    """A window of many channels over few pixels: four of them, widened, are more than all values."""
    made, random = graph(), np.random.default_rng(0)
    x = source = made.tensor((1, 4, 4, 64), 0.05, 3)

    def layer(x: int, op: str, shape: tuple[int, ...], out: tuple[int, ...], **options: int) -> int:
        axis = 3 if op == "DEPTHWISE_CONV_2D" else 0
        weights = made.tensor(shape, 0.01, 0, random.integers(-127, 128, shape), axis=axis)
        bias = made.tensor((shape[axis],), 0.0005, 0, random.integers(-99, 99, shape[axis]), dtype="int32")
        return int(made.op(op, [x, weights, bias], made.tensor(out, 0.05, -9), **WINDOW, **options))

    x = layer(x, "CONV_2D", (64, 3, 3, 64), (1, 4, 4, 64))
    x = layer(x, "CONV_2D", (13, 1, 1, 64), (1, 4, 4, 13))
    x = layer(x, "DEPTHWISE_CONV_2D", (1, 3, 3, 26), (1, 4, 4, 26), depthMultiplier=2)
    return made.save(tmp_path / "wide.tflite", source, x)


def test_where_scratch_is_larger_than_the_values_it_is_spared(wide, assert_exact, inputs_for, tmp_path):
    made = generate(read(wide), "wide", tmp_path)
    assert made.layers[0].kernel == "tr_lean_conv"
    assert made.arena_bytes <= 2 * 16 * 64
    assert_exact([wide], [inputs_for(wide, 20, 0)])


def test_where_it_is_not_the_fastest_kernels_run(graph, tmp_path):
    made, random = graph(), np.random.default_rng(0)
    x = made.tensor((1, 16, 16, 4), 0.05, 3)
    weights = made.tensor((4, 3, 3, 4), 0.01, 0, random.integers(-127, 128, (4, 3, 3, 4)))
    y = made.op("CONV_2D", [x, weights, -1], made.tensor((1, 16, 16, 4), 0.05, -9), **WINDOW)
    (note,) = generate(read(made.save(tmp_path / "n.tflite", x, y)), "n", tmp_path).layers
    assert note.kernel == "tr_fast_conv"


@pytest.mark.parametrize(
    "name",
    ["021_mlperf_ad01_int8", "007_micro_speech_int8", "058_tinymaix_mnist_depthwise", "064_hps_presence_sigmoid_240x320"],
)
def test_files_of_the_field_need_no_more_than_under_tensorflow_lite_micro(name, shared, tmp_path):
    from tinyrobust.footprint.measure import footprint

    path = shared / "field" / "models" / f"{name}.tflite"
    assert generate(read(path), "m", tmp_path).arena_bytes <= footprint(path, []).arena.value
