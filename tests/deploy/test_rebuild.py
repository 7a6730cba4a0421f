"""The twin of a file: it answers like the file, and it has the gradients of the network that the file was made from."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from tinyrobust.attacks.repair import smoothed
from tinyrobust.data.sources import load
from tinyrobust.deploy import artefact
from tinyrobust.deploy.cgen.lower import SUPPORTED
from tinyrobust.deploy.cgen.variables import STATE
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.operators import LAYERS
from tinyrobust.deploy.rebuild import rebuild
from tinyrobust.errors import ModelFileError
from tinyrobust.recipe.data import Data
from tinyrobust.robustness.targets import KerasTarget

Floats = npt.NDArray[np.float32]


def _compared(path: Path, x: Floats) -> tuple[float, float]:
    """Share of equal classes, and the mean difference of the logits in steps of the file's grid of logits."""
    file, twin = Int8Model(path), rebuild(path)
    theirs, ours = file.logits(file.quantized(x)), np.asarray(twin(x, training=False))
    last = artefact.read(path).last_operator
    tensor = artefact.read(path).tensors[(last.inputs if last.name == "SOFTMAX" else last.outputs)[0]]
    scale, zero = tensor.scales[0], tensor.zero_points[0]
    # The twin's logits have no bounds.
    bounded = np.clip(ours, (-128 - zero) * scale, (127 - zero) * scale)
    agreement = float(np.mean(theirs.argmax(axis=1) == ours.argmax(axis=1)))
    return agreement, float(np.abs(theirs - bounded).mean() / scale)


@pytest.mark.parametrize(("name", "agreement", "steps"), [("mlperf-tiny-kws", 0.97, 0.5), ("ds-cnn-ternary", 0.97, 0.7)])
def test_peers_on_random_features(name, agreement, steps, shared) -> None:
    path = shared / "peers" / f"{name}.tflite"
    file = Int8Model(path)
    low, high = file.input_range
    random = np.random.default_rng(0).normal((low + high) / 2, (high - low) / 8, (200, *file.input_shape))
    found = _compared(path, random.astype(np.float32))
    assert found[0] >= agreement
    assert found[1] <= steps


def test_mlperf_image_classification_on_cifar10(shared) -> None:
    """It drifts by rounding: TensorFlow Lite Micro itself differs from the interpreter as much on this file."""
    path = shared / "peers" / "mlperf-tiny-ic.tflite"
    test = load(Data(name="cifar10", color="rgb"), 7, shared / "data" / "tfds").test
    x, y = test.x[:300].astype(np.float32), test.y[:300]
    agreement, steps = _compared(path, x)
    assert agreement >= 0.95
    assert steps <= 2
    accuracy = np.mean(np.asarray(rebuild(path)(x, training=False)).argmax(axis=1) == y)
    assert abs(accuracy - np.mean(Int8Model(path).predict(x).argmax(axis=1) == y)) <= 0.02


def test_our_digits_net(digits_net) -> None:
    agreement, steps = _compared(digits_net.tflite, digits_net.x.astype(np.float32) / 255)
    assert agreement >= 0.99
    assert steps <= 0.5


@pytest.mark.parametrize("activations", ["relu6", "pact"])
def test_our_exports(activations, exported) -> None:
    made = exported("stochastic-ternary", activations)
    agreement, steps = _compared(made.tflite, made.unit)
    assert agreement >= 0.99
    assert steps <= 0.8


def test_a_float_file_has_the_networks_own_logits_and_gradients(digits_net, converted) -> None:
    image = keras.Input((8, 8, 1))
    path = converted(keras.Model(image, keras.layers.Softmax()(digits_net.model(image))), None)
    x, y = digits_net.x[:50].astype(np.float32) / 255, digits_net.y[:50]
    twin, source = KerasTarget(rebuild(path)), KerasTarget(digits_net.model)
    np.testing.assert_allclose(twin.predict(x), source.predict(x), atol=1e-3)
    np.testing.assert_allclose(twin.loss_gradient(x, y), source.loss_gradient(x, y), atol=1e-3)


def test_every_operator(every_operator, images) -> None:
    path, _ = every_operator
    names = {operator.name for operator in artefact.read(path).operators}
    assert names >= {
        "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "PAD",
        "RESHAPE", "CONCATENATION", "SOFTMAX",
    }  # fmt: skip
    agreement, steps = _compared(path, images)
    assert agreement >= 0.9
    assert steps <= 2


def test_every_operator_in_float_is_exact(every_operator, converted, images) -> None:
    model = every_operator[1]
    twin = rebuild(converted(model, None))
    np.testing.assert_allclose(keras.ops.softmax(twin(images)), model(images), atol=1e-5)


def test_activations_stay_on_the_files_grid(digits_net) -> None:
    twin = rebuild(digits_net.tflite)
    grids = [layer for layer in twin.layers if layer.name.startswith("grid")]
    inner = keras.Model(twin.inputs[0], [layer.output for layer in grids])
    for layer, values in zip(grids, inner(digits_net.x[:20].astype(np.float32) / 255), strict=True):
        steps = np.asarray(values) / layer.scale
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
        assert len(np.unique(np.round(steps))) <= 256


def test_curves_and_other_ways_to_reduce(converted, images) -> None:
    """What networks of strangers bend and reduce with; the twin of the float file is exact, and clipped like the network."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    image = keras.Input((8, 8, 1))
    bent = [layers.Activation(name)(layers.Conv2D(4, 3)(image)) for name in ("hard_silu", "sigmoid", "tanh", "elu", "gelu")]
    bent += [layers.LeakyReLU(0.1)(layers.Conv2D(4, 3)(image)), layers.PReLU("uniform")(layers.Conv2D(4, 3)(image))]
    bent += [layers.Maximum()(bent[:2]), layers.Minimum()(bent[2:4]), layers.Subtract()(bent[4:6]), 1 - bent[0]]
    bent += [layers.ReLU(0.4)(layers.Conv2D(4, 3)(image))]
    turned = layers.Permute((3, 1, 2))(layers.Concatenate()(bent))
    long = layers.Conv1D(8, 3)(layers.Reshape((36, 48))(layers.Permute((2, 3, 1))(turned)))
    pooled = [layers.GlobalMaxPooling2D()(turned), layers.GlobalMaxPooling1D()(long), layers.GlobalAveragePooling1D()(long)]
    scores = layers.Dense(5)(layers.Concatenate()(pooled))
    float_file = converted(keras.Model(image, layers.Activation("sigmoid")(scores)), None)
    names = {operator.name for operator in artefact.read(float_file).operators}
    assert names >= {
        "HARD_SWISH", "LOGISTIC", "TANH", "ELU", "GELU", "LEAKY_RELU", "PRELU", "MAXIMUM", "MINIMUM", "SUB", "TRANSPOSE",
        "REDUCE_MAX", "MEAN",
    }  # fmt: skip
    network, twin = keras.Model(image, scores), rebuild(float_file)
    # A sigmoid at the end is left out, as a softmax is: scores that saturate have no slope.
    np.testing.assert_allclose(twin(images), network(images), atol=1e-4)
    np.testing.assert_array_equal(smoothed(twin)(images), twin(images))
    agreement, steps = _compared(converted(network, images), images)
    assert agreement >= 0.9
    assert steps <= 2


def test_parts_and_other_orders(converted, images) -> None:
    """Slices, splits, stacks and nearest neighbours move pixels; their gradients move the other way."""
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu")(image)
    first, second = keras.ops.split(x[:, 1:7:2, ::-1], 2, axis=-1)
    row = keras.ops.squeeze(x[:, 2:3], 1)
    stacked = keras.ops.stack([first, second], axis=2)
    large = keras.ops.image.resize(first, (9, 12), "nearest")
    parts = [keras.layers.Flatten()(part) for part in (stacked, row, large, keras.ops.expand_dims(second[:, 1], 1))]
    network = keras.Model(image, keras.layers.Dense(5)(keras.layers.Concatenate()(parts)))
    float_file = converted(network, None)
    names = {operator.name for operator in artefact.read(float_file).operators}
    assert names >= {"STRIDED_SLICE", "SPLIT", "PACK", "RESIZE_NEAREST_NEIGHBOR"}
    twin, source = KerasTarget(rebuild(float_file)), KerasTarget(network)
    np.testing.assert_allclose(twin.predict(images), source.predict(images), atol=1e-4)
    labels = np.zeros(len(images), np.int64)
    np.testing.assert_allclose(twin.loss_gradient(images, labels), source.loss_gradient(images, labels), atol=1e-4)
    agreement, steps = _compared(converted(network, images), images)
    assert agreement >= 0.9
    assert steps <= 2


def test_what_runs_as_c_has_a_twin() -> None:
    """But for what only ends a network, and what an answer would depend on beside its input."""
    assert SUPPORTED - set(LAYERS) == {"SOFTMAX", *STATE}


@pytest.mark.parametrize(("activation", "operator"), [("exponential", "EXP"), ("softmax", "SOFTMAX")])
def test_an_operator_without_a_twin_is_named(activation, operator, converted) -> None:
    image = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(keras.layers.Conv2D(3, 3, activation=activation)(image))
    path = converted(keras.Model(image, keras.layers.Dense(3)(flat)), None)
    with pytest.raises(ModelFileError, match=f"Received: {operator}") as caught:
        rebuild(path)
    assert "black box" in str(caught.value.hint)


@pytest.mark.parametrize("scheme", ["dynamic range", "float16", "int16 activations", "uint8", "per tensor"])
def test_other_schemes_of_quantization(scheme, digits_net, converted) -> None:
    x = digits_net.x[:60].astype(np.float32) / 255
    path = converted(digits_net.model, None if scheme in ("dynamic range", "float16") else x, scheme=scheme)
    theirs, ours = Int8Model(path).predict(x), np.asarray(rebuild(path)(x, training=False))
    assert np.mean(theirs.argmax(axis=1) == ours.argmax(axis=1)) >= 0.98
    assert np.abs(theirs - ours).max() <= 0.02 * np.abs(theirs).max()


def test_constants_larger_than_what_they_are_added_to_have_no_twin(converted) -> None:
    image = keras.Input((8, 8, 1))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True)(keras.layers.Conv2D(3, 3)(image))
    wide = keras.ops.add(pooled, np.arange(27, dtype=np.float32).reshape(1, 3, 3, 3))
    path = converted(keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(wide))), None)
    with pytest.raises(ModelFileError, match=r"constants of ADD that fit \(1, 1, 1, 3\). Received: shape \(1, 3, 3, 3\)"):
        rebuild(path)


def test_a_window_wider_than_memory_has_no_twin(every_operator, changed, tmp_path) -> None:
    def change(model: Any) -> None:
        options = [operator.builtinOptions for operator in model.subgraphs[0].operators]
        next(each for each in options if hasattr(each, "dilationWFactor")).dilationWFactor = 2**24

    path = changed(every_operator[0], tmp_path / "wide.tflite", change)
    with pytest.raises(ModelFileError, match=r"has no differentiable twin: Expected a window that fits \(None, 8, 8, 1\)"):
        rebuild(path)


def test_the_dilation_of_a_single_tap_changes_nothing(small_tflite, changed, tmp_path) -> None:
    def change(model: Any) -> None:
        graph = model.subgraphs[0]
        pointwise = [op for op in graph.operators if list(graph.tensors[op.inputs[1]].shape[1:3]) == [1, 1]]
        pointwise[0].builtinOptions.dilationWFactor = 2**16

    plain, spread = rebuild(small_tflite), rebuild(changed(small_tflite, tmp_path / "spread.tflite", change))
    images = np.random.default_rng(0).uniform(0, 1, (4, *plain.input_shape[1:])).astype(np.float32)
    np.testing.assert_array_equal(spread(images), plain(images))
    # TensorFlow would make 65,536 pieces of the image, 65,536 times its size.
    assert all(layer.dilation_rate == (1, 1) for layer in spread.layers if hasattr(layer, "dilation_rate"))


@pytest.fixture(scope="module")
def every_operator(converted, images) -> tuple[Path, keras.Model]:
    """A network of all operators, with strides, dilation, groups, a depth multiplier and unequal kernels; int8 and Keras."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((8, 8, 1))
    stem = layers.Conv2D(8, (3, 2), padding="same", activation="relu6")(image)
    depthwise = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu")(stem)
    dilated = layers.Conv2D(16, 3, dilation_rate=2, padding="same")(depthwise)
    total = layers.ReLU()(layers.Add()([depthwise, dilated]))
    gate = layers.Conv2D(16, 1, activation="relu6")(layers.GlobalAveragePooling2D(keepdims=True)(total))
    padded = layers.ZeroPadding2D(((1, 0), (0, 1)))(layers.Multiply()([total, gate]))
    pooled = [layers.MaxPooling2D(3, 2, padding="same")(padded), layers.AveragePooling2D(3, 2, padding="same")(padded)]
    shifted = layers.Rescaling(0.5, 0.25)(layers.Concatenate()(pooled))
    strided = layers.Conv2D(12, 3, strides=2, groups=2, use_bias=False)(shifted)
    hidden = layers.Dense(24, activation="relu")(layers.Flatten()(strided))
    model = keras.Model(image, layers.Dense(5, activation="softmax")(hidden))
    # Logits far enough apart that rounding seldom decides.
    model.layers[-1].set_weights([8 * weight for weight in model.layers[-1].get_weights()])
    return converted(model, images), model
