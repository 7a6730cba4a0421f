"""Somebody's Keras model: in float it answers as it did, in the recipe's precision it exports, and what cannot is refused."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as kl

from tinyrobust.deploy.convert import convert
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import ModelFileError, RecipeError
from tinyrobust.graphs.freeze import freeze
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.pipeline import plan
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.quantizers.norm import FixedNormalization
from tinyrobust.quantizers.weights import FixedPoint, Ternary
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.network import KerasFile
from tinyrobust.recipe.precision import FLOAT, Precision

SHAPE, CLASSES = (12, 12, 3), 5
Tensor = keras.KerasTensor


def _norms(x: Tensor) -> Tensor:
    x = kl.BatchNormalization(epsilon=1e-5, momentum=0.99)(kl.Conv2D(6, 3, strides=2, use_bias=True)(x))
    x = kl.BatchNormalization(scale=False)(kl.Conv2D(6, 3, padding="same", use_bias=False)(kl.ReLU()(x)))
    x = kl.BatchNormalization(center=False, scale=False)(kl.Conv2D(6, 1)(kl.ReLU(6.0)(x)))
    return kl.Dense(CLASSES)(kl.Flatten()(x))


def _windows(x: Tensor) -> Tensor:
    x = kl.Conv2D(8, 3, dilation_rate=2, kernel_regularizer="l2", kernel_constraint="non_neg", activation="relu")(x)
    x = kl.Conv2D(8, (1, 3), groups=4, padding="same", activation="relu6")(x)
    x = kl.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(kl.ZeroPadding2D(((0, 1), (1, 0)))(x))
    x = kl.SeparableConv2D(6, 3, strides=2, padding="same", depth_multiplier=2, activation="relu")(x)
    x = kl.AveragePooling2D(2, padding="same")(x)
    return kl.Dense(CLASSES, use_bias=False)(kl.Dropout(0.5)(kl.Reshape((-1,))(x)))


def _branches(x: Tensor) -> Tensor:
    x = kl.Conv2D(6, 3, padding="same", name="first")(x)
    left, right = kl.Conv2D(6, 1, activation="relu6", name="left")(x), kl.Activation("relu6")(x)
    both = kl.Concatenate()([left, right, kl.MaxPooling2D(3, 1, padding="same")(left)])
    both = kl.BatchNormalization()(kl.Conv2D(6, 3, padding="same", name="mix")(both))
    x = kl.Add()([both, left, right])
    x = keras.ops.relu6(kl.Conv2D(6, 3, padding="same", name="middle")(x) + x)
    return kl.Dense(CLASSES, name="classes")(kl.GlobalAveragePooling2D()(x))


def _nested(x: Tensor) -> Tensor:
    start = keras.Input(SHAPE)
    inner = kl.Conv2D(4, 3, name="conv", activation="relu")(kl.Rescaling(1 / 127.5, -1)(start))
    x = keras.Model(start, inner, name="base")(x)
    x = keras.Sequential([kl.Conv2D(4, 3, padding="same", name="conv"), kl.ReLU()], name="tail")(x)
    return kl.Dense(CLASSES)(kl.Flatten()(x))


def _shifted_and_padded(x: Tensor) -> Tensor:
    x = kl.Rescaling(1 / 127.5, -1)(x)
    x = kl.Concatenate()([kl.Conv2D(4, 3, padding="same", activation="relu")(x), kl.Conv2D(4, 1, activation="relu")(x)])
    return kl.Dense(CLASSES)(kl.Flatten()(x))


def _normalised(x: Tensor) -> Tensor:
    x = kl.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.05, 0.06])(kl.Rescaling(1 / 255)(x))
    x = kl.ReLU()(kl.DepthwiseConv2D(3, depth_multiplier=2)(x))
    return kl.Dense(CLASSES)(kl.Rescaling(0.5, 0.25)(kl.Flatten()(x)))


def _dense(x: Tensor) -> Tensor:
    x = kl.Dense(8)(kl.Flatten()(kl.Rescaling(1 / 127.5, -1)(x)))
    return kl.Dense(CLASSES)(kl.Activation("relu")(kl.BatchNormalization()(x)))


_UNIT, _PIXELS = (0.0, 1.0), (0.0, 255.0)
PLAIN: dict[Callable[[Tensor], Tensor], tuple[float, float]] = {
    _norms: _UNIT,
    _windows: _UNIT,
    _branches: (-1.0, 1.0),
    _nested: _PIXELS,
    _shifted_and_padded: _PIXELS,
    _normalised: _PIXELS,
    _dense: _PIXELS,
}
SCALED = (_nested, _shifted_and_padded, _normalised, _dense)  # these say themselves what they take


def _model(graph: Callable[[Tensor], Tensor], shape: tuple[int, ...] = SHAPE) -> keras.Model:
    """With batch norms that do something."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    model = keras.Model(inputs, graph(inputs), name="somebodys")
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, kl.BatchNormalization):
            layer.set_weights([random.uniform(0.3, 1.5, weight.shape) for weight in layer.weights])
        elif isinstance(layer, kl.Conv2D | kl.Dense) and layer.use_bias:
            layer.bias.assign(random.normal(0, 0.3, layer.bias.shape))
    return model


def _saved(model: keras.Model, folder: Path) -> Path:
    path = folder / "model.keras"
    model.save(path)
    return path


def _built(path: Path, precision: Precision = FLOAT, stated: tuple[float, float] | None = None, **given: object) -> keras.Model:
    table = KerasFile(kind="keras-file", path=str(path), input_range=stated)
    layers = LayerFactory(precision, 7)
    model = table.build(given.get("shape", SHAPE), given.get("classes", CLASSES), layers)  # type: ignore[arg-type]
    layers.check_every_rule_is_used()
    return model


def _rules(activations: str = "relu6", weights: str = "ternary") -> Precision:
    rules = ({"layers": "stem|logits", "weights": "fixed-point"}, {"layers": ".*", "weights": weights})
    return Precision.model_validate({"rule": [{**rule, "activations": activations} for rule in rules]})


def _images(n: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, *shape), np.uint8)


@pytest.mark.parametrize("graph", PLAIN, ids=lambda graph: graph.__name__.strip("_"))
def test_in_float_it_answers_as_it_did(graph, tmp_path):
    model, (low, high) = _model(graph), PLAIN[graph]
    network = _built(_saved(model, tmp_path), stated=None if graph in SCALED else (low, high))
    x = _images(6) / np.float32(255)
    expected = np.asarray(model(low + (high - low) * x, training=False))
    assert expected.std() > 0
    for one in (network, freeze(network)):
        np.testing.assert_allclose(np.asarray(one(x, training=False)), expected, atol=1e-5 * np.abs(expected).max())
    assert network.trainable_variables


def test_the_scaling_of_inputs_stays_as_it_is(tmp_path):
    network = _built(_saved(_model(_shifted_and_padded), tmp_path))
    (scaling,) = [layer for layer in network.layers if isinstance(layer, FixedNormalization)]
    assert not scaling.trainable_variables
    before, x = scaling.get_weights(), _images(8) / np.float32(255)
    network.trainable = True  # as what measures batch norms anew does
    inner = keras.Model(network.inputs[0], scaling.output)
    np.testing.assert_allclose(np.asarray(inner(x, training=True)), 2 * x - 1, atol=1e-6)
    for one, other in zip(scaling.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["layer", "function", "of its own model"])
def test_a_softmax_at_the_end_is_left_out(kind, tmp_path):
    ends = {
        "layer": lambda x: kl.Softmax()(kl.Dense(CLASSES)(x)),
        "function": lambda x: kl.Dense(CLASSES, activation="softmax")(x),
        "of its own model": lambda x: keras.Sequential([kl.Dense(CLASSES), kl.Activation("softmax")])(x),
    }
    model = _model(lambda x: ends[kind](kl.Flatten()(kl.Conv2D(4, 3, activation="relu")(x))))
    x = _images(4) / np.float32(255)
    logits = _built(_saved(model, tmp_path), stated=(0, 1))(x, training=False)
    np.testing.assert_allclose(np.asarray(keras.ops.softmax(logits)), np.asarray(model(x, training=False)), atol=1e-6)


def test_rules_match_the_names_in_the_file(tmp_path):
    path = _saved(_model(_branches), tmp_path)
    network = _built(path, _rules(), (0, 1))
    kinds = {layer.name: type(layer.weight_quantizer) for layer in weight_layers(network)}
    assert kinds == {"first": FixedPoint, "left": Ternary, "mix": Ternary, "middle": Ternary, "classes": FixedPoint}
    named = ({"layers": "left|mi.*", "weights": "binary"}, {"layers": "first|classes", "weights": "float"})
    _built(path, Precision.model_validate({"rule": named}), (0, 1))
    with pytest.raises(RecipeError, match=r"'rigth'.* matches no layer") as problem:
        _built(path, Precision.model_validate({"rule": ({"layers": "rigth", "weights": "binary"}, *_rules().rules)}), (0, 1))
    assert problem.value.hint is not None
    assert "first (or stem), left" in problem.value.hint
    assert "classes (or logits)" in problem.value.hint


@pytest.mark.parametrize(
    ("graph", "activations"), [(_branches, "relu6"), (_branches, "float"), (_windows, "float"), (_shifted_and_padded, "relu6")]
)
def test_its_file_answers_as_it_does(graph, activations, tmp_path):
    stated = None if graph in SCALED else (0, 1)
    network = _built(_saved(_model(graph), tmp_path), _rules(activations, "fixed-point"), stated)
    pixels, path = _images(32), tmp_path / "model.tflite"
    x = pixels / np.float32(255)
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    network.fit(x, np.arange(32) % CLASSES, batch_size=8, verbose=0)
    path.write_bytes(convert(network, pixels))
    expected, answers = np.asarray(network(x, training=False)), Int8Model(path).predict(x)
    assert np.sqrt(np.mean((answers - expected) ** 2)) < 0.05 * np.sqrt(np.mean(expected**2))


def test_joined_ranges_that_will_differ_are_refused_before_training(tmp_path):
    def graph(x: Tensor) -> Tensor:
        both = kl.Concatenate(name="both")([kl.Conv2D(4, 1, activation="relu", name="a")(x), kl.Conv2D(4, 1, name="b")(x)])
        return kl.Dense(CLASSES)(kl.Flatten()(both))

    path = _saved(_model(graph), tmp_path)
    with pytest.raises(ModelFileError, match=r"before 'both'.*a-relu, b"):
        _built(path, _rules(), (0, 1))
    with pytest.raises(ModelFileError, match="learned"):
        _built(_saved(_model(_shifted_and_padded), tmp_path), _rules("pact"))


@pytest.mark.slow  # a minute of loading and converting 90 layers
def test_mobilenetv2_of_keras(tmp_path):
    keras.utils.set_random_seed(0)
    shape = (96, 96, 3)
    model = keras.applications.MobileNetV2(weights=None, input_shape=shape, alpha=0.35, classes=10)
    path = _saved(model, tmp_path)
    pixels = _images(32, shape)
    x = pixels / np.float32(255)
    network = _built(path, stated=(-1, 1), shape=shape, classes=10)
    np.testing.assert_allclose(keras.ops.softmax(network(x, training=False)), model(2 * x - 1, training=False), atol=1e-6)
    network = _built(path, _rules(weights="fixed-point"), (-1, 1), shape=shape, classes=10)
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(x, np.arange(32) % 10, batch_size=8, epochs=3, verbose=0)
    (tmp_path / "model.tflite").write_bytes(convert(network, pixels))
    expected, answers = np.asarray(network(x, training=False)), Int8Model(tmp_path / "model.tflite").predict(x)
    assert np.sqrt(np.mean((answers - expected) ** 2)) < 0.1 * np.sqrt(np.mean(expected**2))


def _small(middle: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: kl.Dense(CLASSES)(kl.Flatten()(middle(kl.Conv2D(4, 3, name="conv")(x))))


@keras.saving.register_keras_serializable("somebody")
class _Own(kl.Layer):
    def call(self, x: Tensor) -> Tensor:
        return x


def _shared(x: Tensor) -> Tensor:
    twice = kl.Conv2D(4, 1, name="twice")
    return twice(twice(x))


REFUSED = {
    "unknown": (lambda x: kl.LayerNormalization(name="ln")(x), r"'ln' \(LayerNormalization\)", "Replace what is named"),
    "two unknown": (lambda x: kl.LeakyReLU(name="l")(kl.RandomFlip(name="r")(x)), "RandomFlip.*Leaky", "augment.*use ReLU"),
    "an operation": (lambda x: keras.ops.exp(x), r"operation Exp", "layer of Keras that does the same"),
    "another slope": (lambda x: kl.ReLU(negative_slope=0.1, name="r")(x), "negative_slope=0.1", "Use ReLU"),
    "another function": (lambda x: kl.Activation("tanh", name="t")(x), "'t' with tanh", "Use relu"),
    "softmax inside": (lambda x: kl.Conv2D(3, 1)(kl.Softmax(name="s")(x)), "softmax at the end only.*'s'", "Leave it out"),
    "a sum with a number": (lambda x: x + 1.0, "of one and a number", "bias"),
    "used twice": (lambda x: _shared(x), "'twice', used several times", "a copy"),
    "channels first": (lambda x: kl.MaxPooling2D(1, data_format="channels_first")(x), "channels_first", "channels_last"),
    "half precision": (lambda x: kl.Conv2D(2, 1, dtype="mixed_float16", name="h")(x), "'h' in mixed_float16", "float32"),
    "another axis": (lambda x: kl.BatchNormalization(axis=1, name="n")(x), "'n', axis=1", "per channel"),
    "code in it": (lambda x: kl.Lambda(lambda y: y, name="f")(x), "Lambda", "never loaded"),
    "code that it needs": (lambda x: _Own()(x), "_Own", "never loaded"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_named_with_what_can_be_done(case, tmp_path):
    middle, message, remedy = REFUSED[case]
    path = _saved(_model(_small(middle)), tmp_path)
    with pytest.raises(ModelFileError, match=message) as problem:
        _built(path, stated=(0, 1))
    assert problem.value.hint is not None
    assert re.search(remedy, problem.value.hint)


def test_other_shapes_classes_and_ranges_are_refused(tmp_path):
    path = _saved(_model(_norms), tmp_path)
    with pytest.raises(ModelFileError, match=r"inputs of \(28, 28, 1\).*one for \(12, 12, 3\).*data.size=12 .*data.color=rgb"):
        _built(path, stated=(0, 1), shape=(28, 28, 1))
    with pytest.raises(ModelFileError, match=r"output of \[n, 10\].*\(None, 5\)"):
        _built(path, stated=(0, 1), classes=10)
    with pytest.raises(ModelFileError, match=r"expected an input_range.*none"):
        _built(path)
    scaled = _saved(_model(_dense), tmp_path)
    with pytest.raises(ModelFileError, match=r"fits the scaling at the front.*\[0.0, 1.0\], and a scale of 0.007843"):
        _built(scaled, stated=(0, 1))
    with pytest.raises(ValueError, match="low below high"):
        KerasFile(kind="keras-file", path=str(path), input_range=(1.0, 0.0))


def test_two_outputs_are_refused(tmp_path):
    inputs = keras.Input(SHAPE)
    x = kl.Flatten()(inputs)
    path = _saved(keras.Model(inputs, [kl.Dense(CLASSES)(x), kl.Dense(CLASSES)(x)]), tmp_path)
    with pytest.raises(ModelFileError, match=r"one output\. Received: 1 and 2"):
        _built(path, stated=(0, 1))


def test_files_that_are_not_what_they_should_be_are_refused(tmp_path):
    good = _saved(_model(_norms), tmp_path)
    content = good.read_bytes()
    old = tmp_path / "model.h5"
    old.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"Expected a .keras file. Received: .*model.h5.*model.save\('model.keras'\)"):
        _built(old, stated=(0, 1))
    with pytest.raises(ValueError, match=r"there is no such file"):
        KerasFile(kind="keras-file", path=str(tmp_path / "none.keras"))
    damaged = tmp_path / "damaged.keras"
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match=r"no \.keras file, or a damaged one"):
        _built(damaged, stated=(0, 1))
    spot = content.index(b"HDF") + 3000
    damaged.write_bytes(content[:spot] + bytes([content[spot] ^ 1]) + content[spot + 1 :])
    with pytest.raises(ModelFileError, match=r"damaged: model.weights.h5"):
        _built(damaged, stated=(0, 1))
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("config.json", json.dumps({"module": "os", "class_name": "system", "config": "true"}))
    with pytest.raises(ModelFileError, match=r"needs code.*os.system"):
        _built(damaged, stated=(0, 1))


def test_another_file_in_its_place_is_refused(tmp_path):
    path = _saved(_model(_norms), tmp_path)
    table = KerasFile(kind="keras-file", path=str(path), input_range=(0, 1))
    _saved(_model(_windows), tmp_path)
    with pytest.raises(ModelFileError, match="the file was changed"):
        table.build(SHAPE, CLASSES, LayerFactory(FLOAT, 7))


def _recipe(path: Path, **train: object) -> Recipe:
    settings = {"epochs": 1, **train}
    network = {"kind": "keras-file", "path": str(path), "input_range": [0, 1]}
    values = {"name": "r", "data": {"name": "digits"}, "network": network, "precision": _rules().model_dump(by_alias=True)}
    return Recipe.model_validate_json(json.dumps({**values, "train": settings}), strict=True)


def test_runs_are_told_apart_by_what_the_file_says(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    one = _recipe(_saved(_model(_norms), first))
    copy = second / "moved.keras"
    copy.write_bytes((first / "model.keras").read_bytes())
    moved, other = _recipe(copy), _recipe(_saved(_model(_windows), first))
    assert len({one.hash, other.hash}) == 2
    assert plan.signatures(one)["train"] == plan.signatures(moved)["train"] != plan.signatures(other)["train"]


def test_no_epochs_only_where_trained_weights_are_quantized(tmp_path):
    path = _saved(_model(_norms), tmp_path)
    assert _recipe(path, epochs=0, quantization="after").train.epochs == 0
    with pytest.raises(ValueError, match="Expected at least one epoch, or quantization = 'after'"):
        _recipe(path, epochs=0)
    untrained = _recipe(path).model_dump(mode="json", by_alias=True) | {"network": {"kind": "dscnn"}}
    untrained["train"] |= {"epochs": 0, "quantization": "after"}
    with pytest.raises(ValueError, match=r"comes without trained weights.*'dscnn'"):
        Recipe.model_validate_json(json.dumps(untrained), strict=True)


_UNDER_JAX = """
import sys
import keras, numpy as np
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.network import KerasFile
from tinyrobust.recipe.precision import FLOAT

assert keras.backend.backend() == "jax"
x = np.load(sys.argv[2])
network = KerasFile(kind="keras-file", path=sys.argv[1]).build(x.shape[1:], int(sys.argv[3]), LayerFactory(FLOAT, 7))
np.save(sys.argv[2], np.asarray(network(x, training=False)))
"""


def test_under_jax_it_answers_as_it_did(under_jax, tmp_path):
    model, images = _model(_shifted_and_padded), tmp_path / "x.npy"
    x = _images(4) / np.float32(255)
    np.save(images, x)
    command = [sys.executable, "-c", _UNDER_JAX, str(_saved(model, tmp_path)), str(images), str(CLASSES)]
    done = subprocess.run(command, env=under_jax, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = np.asarray(model(255 * x, training=False))
    np.testing.assert_allclose(np.load(images), expected, atol=1e-4 * np.abs(expected).max())
