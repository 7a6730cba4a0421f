"""One network in every form that people flash: the same clean and robust accuracy, or a refusal that names the remedy."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tinyrobust
from tinyrobust.data.arrays import scale
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import DataError, ModelFileError, TinyRobustError
from tinyrobust.pipeline.inputs import Inputs, check, read_inputs
from tinyrobust.robustness.ranges import in_units
from tinyrobust.robustness.robustness_record import RobustnessRecord

_MEAN, _STD = 0.1307, 0.3081
_RANGES = {
    "0 to 1": (0.0, 1.0),
    "0 to 255": (0.0, 255.0),
    "-1 to 1": (-1.0, 1.0),
    "pixel - 128": (-128.0, 127.0),
    "as MNIST": (-_MEAN / _STD, (1 - _MEAN) / _STD),
}
_PGD = """
description = "one attack"
[[attack]]
name = "pgd"
kind = "pgd"
steps = 10
on = "keras"
transfer_to = ["int8"]
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """scikit-learn's digits of eight by eight pixels, as anybody's `.npz`."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x = np.round(found.images * (255 / 16)).astype(np.uint8)
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, x_train=x[:1400], y_train=found.target[:1400], x_test=x[1400:], y_test=found.target[1400:])
    return path


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as opened:
        return dict(opened)


@pytest.fixture(scope="module")
def weights(digits: Path) -> list[np.ndarray]:
    """Two dense layers that tell digits apart, for pixels from 0 to 1."""
    data = _arrays(digits)
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(24, activation="relu"), keras.layers.Dense(10)])
    net.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.fit(data["x_train"].reshape(-1, 64) / 255, data["y_train"], epochs=12, verbose=0)
    return list(net.get_weights())


def _network(weights: list[np.ndarray], units: tuple[float, float], shape: tuple[int, ...] = (8, 8, 1)) -> keras.Model:
    """The same network for pixels in other units and inputs of another shape: the first layer takes them over."""
    low, high = units
    first, bias, *others = weights
    image = keras.Input(shape)
    values = keras.layers.Permute((2, 3, 1))(image) if shape[0] == 3 else image
    rows = keras.layers.Flatten()(values)
    hidden = keras.layers.Dense(24, activation="relu")
    scores = keras.layers.Dense(len(others[1]), activation="sigmoid" if len(others[1]) == 1 else "softmax")
    model = keras.Model(image, scores(hidden(rows)))
    first = np.repeat(first, 3, axis=0) / 3 if shape[0] == 3 else first
    hidden.set_weights([first / (high - low), bias - low / (high - low) * first.sum(axis=0)])
    scores.set_weights(others)
    return model


@pytest.fixture(scope="module")
def form(digits: Path, weights: list[np.ndarray], converted: Callable[..., Path], changed: Any) -> Callable[[str], Path]:
    """The file of a form, by its name."""
    pixels = scale(_arrays(digits)["x_train"][:200])[..., np.newaxis]
    pixels = np.concatenate([pixels, np.zeros_like(pixels[:1]), np.ones_like(pixels[:1])])
    made: dict[str, Path] = {}

    def int8(units: tuple[float, float], shape: tuple[int, ...] = (8, 8, 1), **settings: Any) -> Path:
        low, high = units
        images = np.repeat(pixels, 3, axis=3).transpose(0, 3, 1, 2) if shape[0] == 3 else pixels.reshape(-1, *shape)
        return converted(_network(settings.pop("of", weights), units, shape), low + images * (high - low), **settings)

    def one_score() -> Path:
        *hidden, last, bias = weights
        return int8((0, 1), of=[*hidden, last[:, 1:2] - last[:, :1], bias[1:2] - bias[:1]])

    makers: dict[str, Callable[[], Path]] = {
        **{name: lambda units=units: int8(units) for name, units in _RANGES.items()},
        "uint8 in and out": lambda: int8((0, 1), scheme="uint8"),
        "16x8": lambda: int8((0, 1), scheme="int16 activations"),
        "symmetric": lambda: changed(form("0 to 1"), form("0 to 1").with_name("symmetric.tflite"), _symmetric),
        "float in, 0 to 255 by its QUANTIZE": lambda: _float_in_and_out(weights, pixels, form("0 to 1").parent),
        "float, 0 to 255": lambda: converted(_network(weights, (0, 255))),
        "channels first": lambda: int8((0, 1), (3, 8, 8)),
        "flat": lambda: int8((0, 1), (64,)),
        "dynamic batch": lambda: int8((0, 1), batch=None),
        "eight rows": lambda: int8((0, 1), (8, 8)),
        "one score": one_score,
    }

    def form(name: str) -> Path:
        if name not in made:
            made[name] = makers[name]()
        return made[name]

    return form


def _float_in_and_out(weights: list[np.ndarray], pixels: np.ndarray, folder: Path) -> Path:
    converter = tf.lite.TFLiteConverter.from_keras_model(_network(weights, (0, 255)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([255 * image[np.newaxis]] for image in pixels)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path = folder / "float_in_and_out.tflite"
    path.write_bytes(converter.convert())
    return path


def _symmetric(model: Any) -> None:
    """Gives the input the scale 1/127 and the zero point 0, as symmetric quantizers do; the first layer's biases follow."""
    graph = model.subgraphs[0]
    for tensor in graph.tensors:
        grid = tensor.quantization
        if (
            grid is not None
            and grid.zeroPoint is not None
            and list(grid.zeroPoint) == [-128]
            and np.isclose(grid.scale[0], 1 / 255)
        ):
            grid.scale, grid.zeroPoint = np.float32([1 / 127]), np.int64([0])
    (first,) = (
        op
        for op in graph.operators
        if len(op.inputs) > 2
        and len(graph.tensors[op.inputs[1]].shape) == 2
        and op.outputs[0] != graph.outputs[0]
        and graph.tensors[op.inputs[1]].shape[1] == 64
    )
    bias = graph.tensors[first.inputs[2]]
    values = np.asarray(model.buffers[bias.buffer].data, np.uint8).view(np.int32)
    model.buffers[bias.buffer].data = np.round(values * (127 / 255)).astype(np.int32).view(np.uint8)
    bias.quantization.scale = np.float32(bias.quantization.scale) * np.float32(255 / 127)


def _right(path: Path, read: Inputs) -> int:
    """How many of the inputs the file is right on, in the units that were decided."""
    x = read.attacked.stored
    x = scale(x) if x.dtype == np.uint8 else x
    values = np.asarray(in_units(x, read.attacked.units.input_range), np.float32)
    return int((Int8Model(path).predict(values).argmax(axis=1) == read.samples.y).sum())


_FORMS = {
    "0 to 1": "file",
    "0 to 255": "file",
    "-1 to 1": "file",
    "pixel - 128": "file",
    "as MNIST": "data",
    "uint8 in and out": "file",
    "16x8": "data",
    "symmetric": "data",
    "float in, 0 to 255 by its QUANTIZE": "file",
    "float, 0 to 255": "data",
    "channels first": "file",
    "flat": "file",
    "dynamic batch": "file",
    "eight rows": "file",
}


@pytest.mark.parametrize("name", _FORMS)
def test_every_form_is_right_on_the_same_images(name: str, form: Callable[[str], Path], digits: Path) -> None:
    plain = _right(form("0 to 1"), read_inputs(form("0 to 1"), digits, None, None))
    read = read_inputs(form(name), digits, None, None)
    assert plain > 340
    # Rounding of another grid moves a few of the 397.
    assert abs(_right(form(name), read) - plain) <= 2
    assert read.attacked.units.source == _FORMS[name]
    assert "in the file's units" in read.attacked.units.words


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("0 to 1", lambda x: x.astype(np.float32) / 255),
        ("0 to 1", lambda x: x.astype(np.int32)),
        ("0 to 1", lambda x: x.astype(np.float64)),
        ("0 to 1", lambda x: (x.astype(np.int16) - 128).astype(np.int8)),
        ("0 to 1", lambda x: x.reshape(len(x), 64)),
        ("0 to 255", lambda x: x.astype(np.float32) / 255),
        ("-1 to 1", lambda x: x.astype(np.float32) / 127.5 - 1),
        ("-1 to 1", lambda x: x.astype(np.float32) / 255),
        ("channels first", lambda x: np.repeat(x[..., np.newaxis], 3, axis=3)),
        ("channels first", lambda x: np.repeat(x[:, np.newaxis], 3, axis=1)),
        ("float, 0 to 255", lambda x: x.astype(np.float32) / 255),
        ("float in, 0 to 255 by its QUANTIZE", lambda x: x.astype(np.float32)),
    ],
)
def test_every_number_type_is_the_same_data(
    name: str, make: Callable[[np.ndarray], np.ndarray], form: Callable[[str], Path], digits: Path, tmp_path: Path
) -> None:
    data = _arrays(digits)
    np.savez(tmp_path / "mine.npz", x_test=make(data["x_test"]), y_test=data["y_test"])
    plain = _right(form("0 to 1"), read_inputs(form("0 to 1"), digits, None, None))
    read = read_inputs(form(name), tmp_path / "mine.npz", None, None)
    assert read.attacked.stored.dtype == np.uint8
    assert abs(_right(form(name), read) - plain) <= 2


def _attacked(path: Path, data: Path, folder: Path, **settings: Any) -> RobustnessRecord:
    (folder / "pgd.toml").write_text(_PGD)
    settings = {"epsilons": [12 / 127], "samples": 100, "protocol": str(folder / "pgd.toml")} | settings
    return tinyrobust.attack(path, data=str(data), output=folder / "out", fresh=True, **settings)


@pytest.fixture(scope="module")
def plainly(form: Callable[[str], Path], digits: Path, tmp_path_factory: pytest.TempPathFactory) -> RobustnessRecord:
    """What an attack on the usual form finds."""
    return _attacked(form("0 to 1"), digits, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "name", ["float in, 0 to 255 by its QUANTIZE", "symmetric", "channels first", "flat", "as MNIST", "dynamic batch"]
)
def test_a_form_is_as_robust_as_the_network(
    name: str, form: Callable[[str], Path], plainly: RobustnessRecord, digits: Path, tmp_path: Path
) -> None:
    record = _attacked(form(name), digits, tmp_path)
    assert plainly.headline is not None
    assert record.headline is not None
    assert abs(record.headline.count - plainly.headline.count) <= 2
    assert abs(record.clean[0].test.count - plainly.clean[0].test.count) <= 2
    assert record.units.endswith(".")
    assert record.units_from == _FORMS[name]


def test_one_score_is_two_classes(form: Callable[[str], Path], digits: Path, tmp_path: Path) -> None:
    data = _arrays(digits)
    two = data["y_test"] < 2
    np.savez(tmp_path / "two.npz", x_test=data["x_test"][two], y_test=data["y_test"][two])
    record = _attacked(form("one score"), tmp_path / "two.npz", tmp_path)
    assert record.clean[0].test.value > 0.95
    assert record.headline is not None
    assert record.headline.value < record.clean[0].attacked.value
    assert {row.crafted_on for row in record.attacks} == {"twin"}
    assert record.golden.differing == 0


@pytest.mark.parametrize(
    ("change", "raised"),
    [
        (lambda x, y: (x, (y + 1) % 10), "permuted-classes"),
        (lambda x, y: (x, np.random.default_rng(0).permutation(y)), "at-chance"),
        (lambda x, y: (np.zeros_like(x), y), "one-class"),
        (lambda x, y: (x[y < 4], y[y < 4]), "fewer-classes"),
    ],
)
def test_clean_answers_that_say_something_is_wrong_leave_no_headline(
    change: Any, raised: str, form: Callable[[str], Path], digits: Path, tmp_path: Path
) -> None:
    data = _arrays(digits)
    x, y = change(data["x_test"], data["y_test"])
    np.savez(tmp_path / "wrong.npz", x_test=x, y_test=y)
    record = _attacked(form("0 to 1"), tmp_path / "wrong.npz", tmp_path, samples=20)
    assert raised in {check.name for check in record.checks if check.raised}
    assert record.headline is None
    assert not record.reliable


def test_an_autoencoder_is_no_classifier(digits: Path, converted: Callable[..., Path], tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((64,), batch_size=1), keras.layers.Dense(8), keras.layers.Dense(64)])
    path = converted(net, scale(_arrays(digits)["x_train"][:50]).reshape(-1, 64))
    record = _attacked(path, digits, tmp_path, samples=10)
    assert record.headline is None
    assert "no-classifier" in {check.name for check in record.checks if check.raised}


@pytest.mark.parametrize(
    ("name", "stated", "message"),
    [
        ("0 to 1", (0.0, 255.0), r"within 0 to 1, all that the file can tell apart.*would saturate"),
        ("0 to 255", (0.0, 1.0), r"that fills 0 to 255.*0\.4% of it"),
        ("float in, 0 to 255 by its QUANTIZE", (0.0, 1.0), "its first QUANTIZE"),
        ("0 to 1", (-1.0, 1.0), "50% would saturate"),
    ],
)
def test_a_range_that_contradicts_the_file_is_refused(
    name: str, stated: tuple[float, float], message: str, form: Callable[[str], Path], digits: Path
) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        read_inputs(form(name), digits, stated, None)
    assert "--input-range LOW HIGH" in str(caught.value.hint)


def test_what_nothing_decides_is_asked(converted: Callable[..., Path], weights: Any, digits: Path, tmp_path: Path) -> None:
    first, bias, *others = weights
    # Without biases scores only grow with the input: 0 to 1 and 0 to 255 are equally right.
    path = converted(_network([first, 0 * bias, others[0], 0 * others[1]], (0, 1)))
    with pytest.raises(ModelFileError, match=r"allows several.*0 to 1: .*0 to 255: ") as caught:
        read_inputs(path, digits, None, None)
    assert "--input-range LOW HIGH" in str(caught.value.hint)
    assert read_inputs(path, digits, (0.0, 1.0), None).attacked.units.source == "user"
    data = _arrays(digits)
    np.savez(tmp_path / "noise.npz", x_test=data["x_test"], y_test=np.random.default_rng(0).permutation(data["y_test"]))
    with pytest.raises(ModelFileError, match="better than chance"):
        read_inputs(path, tmp_path / "noise.npz", None, None)


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory, converted: Callable[..., Path]) -> tuple[Path, Path]:
    """Accelerometer windows of three axes in three units, and the int8 file of a network that tells them apart."""
    random = np.random.default_rng(0)
    y = np.arange(400) % 2
    x = random.normal(size=(400, 32, 3)).astype(np.float32)
    x += np.where(y, 1.0, -1.0)[:, np.newaxis, np.newaxis]
    x = x * np.float32([1, 100, 1000]) + np.float32([0, 0, 500])
    folder = tmp_path_factory.mktemp("windows")
    np.savez(folder / "windows.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    window = keras.Input((32, 3, 1), batch_size=1)
    keras.utils.set_random_seed(0)
    scaled = keras.layers.Conv2D(1, (1, 3))
    scores = keras.layers.Dense(2)
    net = keras.Model(window, scores(keras.layers.Flatten()(scaled(window))))
    scaled.set_weights([np.float32([1, 0.01, 0.001]).reshape(1, 3, 1, 1), np.float32([-0.5])])
    scores.set_weights([np.tile(np.float32([[-0.1, 0.1]]), (32, 1)), np.zeros(2, np.float32)])
    return converted(net, x[:200, ..., np.newaxis]), folder / "windows.npz"


def test_sensor_windows_have_an_epsilon_for_each_axis(windows: tuple[Path, Path], tmp_path: Path) -> None:
    record = _attacked(*windows, tmp_path, samples=40)
    low, high = record.input_range
    assert len(low) == len(high) == 3
    assert 50 < (high[1] - low[1]) / (high[0] - low[0]) < 150
    assert "each feature's range" in record.epsilon_unit
    assert record.clean[0].test.value > 0.95
    assert record.headline is not None
    assert record.headline.value < 0.9


def test_epsilons_in_standard_deviations(windows: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = windows
    record = _attacked(model, data, tmp_path, samples=20, scale="std", epsilons=[0.5])
    low, high = (np.asarray(bound) for bound in record.input_range)
    values = np.concatenate([_arrays(data)[part].reshape(-1, 3) for part in ("x_test", "x_train")])
    # An epsilon of half a standard deviation is that of every axis, in the file's own units.
    np.testing.assert_allclose(record.headline_epsilon * (high - low), 0.5 * values.std(axis=0), rtol=1e-3)
    with pytest.raises(TinyRobustError, match="Expected epsilons in standard deviations"):
        _attacked(model, data, tmp_path, scale="std", epsilons=[])


def test_data_in_other_units_than_the_file_s_are_refused(windows: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = windows
    found = _arrays(data)
    np.savez(tmp_path / "scaled.npz", x_test=found["x_test"] * 40, y_test=found["y_test"])
    with pytest.raises(DataError, match="Expected data in the units of"):
        read_inputs(model, tmp_path / "scaled.npz", None, None)
    turned = found["x_test"].transpose(0, 2, 1)
    np.savez(tmp_path / "turned.npz", x_test=turned, y_test=found["y_test"])
    assert "channels first in the data" in read_inputs(model, tmp_path / "turned.npz", None, None).notes[0]


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((30, 3), "these have 90"), ((40, 3, 1), r"x_test\[:, :32\]"), ((4, 24), r"reshape\(-1, 32, 3, 1\)")],
)
def test_a_shape_that_does_not_fit_is_refused(
    shape: tuple[int, ...], hint: str, windows: tuple[Path, Path], tmp_path: Path
) -> None:
    np.savez(tmp_path / "other.npz", x_test=np.zeros((4, *shape), np.float32), y_test=np.arange(4) % 2)
    with pytest.raises(DataError, match=r"Expected inputs of shape \[n, 32, 3, 1\]") as caught:
        check(windows[0], str(tmp_path / "other.npz"))
    assert re.search(hint, str(caught.value.hint))


def test_sigmoids_are_refused_by_name(weights: Any, digits: Path, converted: Callable[..., Path], tmp_path: Path) -> None:
    net = _network(weights, (0, 1))
    several = keras.Model(net.input, keras.layers.Activation("sigmoid")(net.output))
    path = converted(several, scale(_arrays(digits)["x_train"][:50])[..., np.newaxis])
    with pytest.raises(ModelFileError, match="10 sigmoids"):
        _attacked(path, digits, tmp_path)
