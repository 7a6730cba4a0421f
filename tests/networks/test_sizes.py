"""The networks of the papers have the parameters that are known of them."""

import keras
import numpy as np
import pytest

from tinyrobust.choices import members
from tinyrobust.data import load
from tinyrobust.deploy import artefact
from tinyrobust.deploy.twin import build_twin
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.data import Data
from tinyrobust.recipe.network import Network
from tinyrobust.recipe.precision import FLOAT


def _built(shape: tuple[int, int, int], kind: str, **keys: object) -> keras.Model:
    network = members(Network)[kind].model_validate({"kind": kind, **keys})
    return network.build(shape, 10, LayerFactory(FLOAT, 7))


@pytest.mark.parametrize(
    ("parameters", "keys"),
    [
        (78_666 - 240, {"kind": "resnet", "depth": 8}),  # MLPerf Tiny's, without a bias before seven batch norms
        (273_754, {"kind": "resnet", "depth": 20}),
        (11_180_874, {"kind": "resnet", "depth": 18}),
        (2_752_506, {"kind": "wide-resnet", "depth": 16, "widen": 4}),
        (36_497_146, {"kind": "wide-resnet", "depth": 28, "widen": 10}),
        (14_732_490, {"kind": "vgg16"}),
    ],
    ids=str,
)
def test_parameters(parameters, keys):
    assert _built((32, 32, 3), **keys).count_params() == parameters


def test_resnet8_is_that_of_mlperf_tiny(shared):
    """The twin's constants, batch norm folded, are as many as those of the file."""
    file = artefact.read(shared / "peers" / "mlperf-tiny-ic.tflite")
    weighted = [one for one in file.operators if one.name in ("CONV_2D", "FULLY_CONNECTED")]
    constants = sum(file.tensors[index].count for one in weighted for index in one.inputs[1:])
    assert build_twin(_built((32, 32, 3), "resnet", depth=8)).count_params() == constants


@pytest.mark.parametrize("width", [0.35, 1.4])
def test_mobilenet_rounds_its_channels_as_the_original_does(width):
    theirs = keras.applications.MobileNetV2((96, 96, 3), alpha=width, weights=None, classes=10)
    assert _built((96, 96, 3), "mobilenet-v2", width=width).count_params() == theirs.count_params()


@pytest.mark.parametrize(
    ("side", "last_map", "sides"),
    [
        (96, 3, [48, 48, 24, 12, 6, 6, 3, 3]),
        (32, 3, [32, 32, 32, 16, 8, 8, 4, 4]),
        (32, 1, [16, 16, 8, 4, 2, 2, 1, 1]),
        (64, 3, [64, 64, 32, 16, 8, 8, 4, 4]),
        (224, 3, [112, 112, 56, 28, 14, 14, 7, 7]),
        (5, 3, [5, 5, 5, 5, 5, 5, 3, 3]),
        (2, 3, [2] * 8),
    ],
)
def test_mobilenet_halves_small_images_less_often(side, last_map, sides):
    network = _built((side, side, 1), "mobilenet-v2", width=0.1, last_map=last_map)
    layers = ["stem", *(f"stage{stage}-block1-project" for stage in range(1, 8))]
    assert [network.get_layer(layer).output.shape[1] for layer in layers] == sides


def test_lenet_pads_small_images_only():
    for side in (28, 32):
        assert _built((side, side, 1), "lenet5").count_params() == 61_706
    assert _built((12, 12, 1), "lenet5").get_layer("pool2").output.shape[1:3] == (1, 1)
    assert isinstance(_built((28, 28, 1), "lenet5").get_layer("pool1"), keras.layers.MaxPooling2D)
    assert isinstance(_built((28, 28, 1), "lenet5", pooling="average").get_layer("pool1"), keras.layers.AveragePooling2D)


def test_vgg_keeps_a_last_pixel():
    assert _built((8, 8, 1), "vgg16", width=0.1).get_layer("pool").input.shape[1:3] == (1, 1)
    assert "pool4" not in [layer.name for layer in _built((8, 8, 1), "vgg16", width=0.1).layers]


def test_axes_of_sensors_become_one_column():
    for shape in ((128, 3, 1), (128, 1, 3), (50, 6, 1)):
        network = _built(shape, "conv1d", width=0.1)
        assert network.get_layer("stem").output.shape[1:3] == (shape[0], 1)
        assert network.get_layer("conv2").kernel_size == (5, 1)


@pytest.mark.parametrize("depth", [9, 15, 18])
def test_a_wide_network_is_of_whole_blocks(depth):
    with pytest.raises(ValueError, match=f"6n \\+ 4: 10, 16, 22.* Received: {depth}|greater than or equal to 10"):
        _built((32, 32, 3), "wide-resnet", depth=depth)


def test_windows_of_sensor_values_come_as_steps_by_axes(tmp_path):
    """A .npz of them needs no key beside its name: nothing is resized, and axes are not taken for colours."""
    windows = np.random.default_rng(0).integers(0, 256, (40, 128, 3), np.uint8)
    np.savez(tmp_path / "motion.npz", x_train=windows, y_train=np.arange(40) % 2, x_test=windows, y_test=np.arange(40) % 2)
    dataset = load(Data(name=str(tmp_path / "motion.npz")), seed=0)
    assert dataset.input_shape == members(Network)["conv1d"].size.input_shape
    np.testing.assert_array_equal(dataset.test.x[..., 0], windows)
