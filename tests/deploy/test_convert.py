import keras
import numpy as np
import pytest

from tinyrobust.deploy import artefact, grids
from tinyrobust.deploy.convert import check_integer, convert
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.matching import bias, kernel_error, match
from tinyrobust.deploy.twin import build_twin
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.folding import WEIGHT_LAYERS
from tinyrobust.quantizers.activations import ActivationQuantizer, Pact, QuantizedReLU6
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D, weight_layers
from tinyrobust.quantizers.weights import Ternary

PLAIN = keras.layers
NETS = [("stochastic-ternary", "relu6"), ("stochastic-ternary", "pact"), ("binary", "relu6"), ("float", "float")]


def matched(exported):
    file = artefact.read(exported.tflite)
    return file, match(build_twin(exported.model), file)


def test_every_operator_is_int8_and_belongs_to_a_layer(ternary) -> None:
    file, _ = matched(ternary)
    assert {operator.name for operator in file.operators} == {
        "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "AVERAGE_POOL_2D", "RESHAPE",
    }  # fmt: skip
    assert {tensor.dtype for tensor in file.tensors if tensor.data is None} == {"int8"}


def test_an_input_is_the_pixel_minus_128(ternary) -> None:
    file, _ = matched(ternary)
    source = file.tensors[file.inputs[0]]
    assert source.scales.tolist() == [np.float32(1 / 255)]
    assert source.zero_points.tolist() == [-128]


@pytest.mark.parametrize("activations", ["relu6", "pact"])
def test_activations_have_the_grid_they_were_trained_with(activations, exported) -> None:
    net = exported("stochastic-ternary", activations)
    file, matches = matched(net)
    rounded = [layer for layer in net.model.layers if isinstance(layer, ActivationQuantizer)]
    assert len(rounded) == 10
    for layer in rounded:
        tensor = file.tensors[matches[layer.name].tensor]
        assert tensor.scales.tolist() == [np.float32(layer.upper / 255)]
        assert tensor.zero_points.tolist() == [-128]
    if activations == "pact":
        assert len({layer.upper for layer in rounded}) > 1


def test_pooling_and_reshaping_keep_the_grid(ternary) -> None:
    file, _ = matched(ternary)
    copies = [operator for operator in file.operators if operator.name in {"AVERAGE_POOL_2D", "RESHAPE"}]
    assert len(copies) == 2
    for operator in copies:
        source, sink = file.tensors[operator.inputs[0]], file.tensors[operator.outputs[0]]
        assert (source.scales, source.zero_points) == (sink.scales, sink.zero_points)


@pytest.mark.parametrize(("weights", "activations"), NETS, ids=str)
def test_biases_are_the_twins_on_the_product_of_input_and_weight_scale(weights, activations, exported) -> None:
    file, matches = matched(exported(weights, activations))
    for place in matches.values():
        if not isinstance(place.layer, WEIGHT_LAYERS):
            continue
        source, kernel, stored = (file.tensors[i] for i in place.operator.inputs)
        if place.operator.inputs[2] < 0:
            assert not bias(place.layer).any()
            continue
        np.testing.assert_allclose(stored.scales, source.scales * kernel.scales, rtol=1e-6)
        # Of a rectifier they make up for what TensorFlow Lite's first rounding does: see `test_biases`.
        rectified = place.operator.options.get("fused_activation_function", "NONE") != "NONE"
        assert np.abs(stored.data - bias(place.layer) / stored.scales).max() <= (2 if rectified else 0.51)
        assert kernel_error(place.layer, kernel) <= 0.51


@pytest.mark.parametrize(("weights", "levels"), [("stochastic-ternary", {-127, 0, 127}), ("binary", {-127, 127})])
def test_kernels_have_their_levels_and_no_others(weights, levels, exported) -> None:
    net = exported(weights, "relu6")
    file, matches = matched(net)
    kinds = set()
    for layer in weight_layers(net.model):
        if layer.weight_quantizer.storage.levels == len(levels):
            tensor = file.tensors[matches[layer.name].operator.inputs[1]]
            assert set(np.unique(tensor.data).tolist()) == levels
            kinds.add(type(layer))
    assert kinds == {QuantConv2D, QuantDepthwiseConv2D, QuantDense}


def test_float_activations_have_the_range_of_the_calibration_images(exported) -> None:
    net = exported("float", "float")
    file, matches = matched(net)
    twin = build_twin(net.model)
    values = keras.Model(twin.inputs[0], twin.get_layer("dense2-relu").output)(net.calibration / np.float32(255))
    assert file.tensors[matches["dense2-relu"].tensor].scales[0] == pytest.approx(float(np.max(values)) / 255, rel=1e-5)


@pytest.mark.parametrize(("weights", "activations"), NETS, ids=str)
def test_the_file_answers_like_the_network(weights, activations, exported) -> None:
    net = exported(weights, activations)
    expected = np.asarray(net.model(net.unit))
    found = Int8Model(net.tflite).predict(net.unit)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.05 * np.sqrt(np.mean(expected**2))


def test_the_same_network_gives_the_same_bytes(ternary) -> None:
    assert convert(ternary.model, ternary.calibration) == ternary.tflite.read_bytes()


def test_it_is_quiet(ternary, capfd) -> None:
    convert(ternary.model, ternary.calibration[:4])
    assert capfd.readouterr() == ("", "")


def _sequential(*layers):
    def build(x):
        for layer in layers:
            x = layer(x)
        return x

    return build


def _two_readers(x):
    """Two convolutions of the same shape read the same tensor: only their kernels tell them apart."""
    x = QuantizedReLU6(name="relu")(PLAIN.Conv2D(4, 3, name="stem")(x))
    return _logits(PLAIN.Add()([PLAIN.Conv2D(4, 1, name="left")(x), PLAIN.Conv2D(4, 1, name="right")(x)]))


def _concatenated(*activations):
    def build(x):
        branches = [activation()(PLAIN.Conv2D(3, 3)(x)) for activation in activations]
        return _logits(PLAIN.Concatenate()(branches))

    return build


def _logits(x):
    return PLAIN.Dense(3, name="logits")(PLAIN.Flatten()(x))


def _lone_activation(x):
    return _logits(QuantizedReLU6()(PLAIN.AveragePooling2D(2)(PLAIN.Conv2D(3, 3)(x))))


def _net(build) -> keras.Model:
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 2), name="image")
    return keras.Model(image, build(image))


def _pixels(n: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 8, 8, 2), np.uint8)


@pytest.mark.parametrize(
    "build",
    [
        _two_readers,
        _concatenated(QuantizedReLU6, QuantizedReLU6),
        _lone_activation,
        _sequential(QuantConv2D(4, 3), PLAIN.BatchNormalization(), PLAIN.ReLU(6), PLAIN.MaxPooling2D(), _logits),
        _sequential(PLAIN.ZeroPadding2D(), PLAIN.Conv2D(4, 3, strides=2), QuantizedReLU6(), PLAIN.Dropout(0.5), _logits),
        _sequential(PLAIN.Conv2D(4, 3), PLAIN.GlobalAveragePooling2D(), PLAIN.Dense(3)),
        _sequential(PLAIN.Conv2D(4, 3), PLAIN.Reshape((18, 8)), PLAIN.Flatten(), PLAIN.Dense(3), PLAIN.Softmax()),
        _sequential(PLAIN.DepthwiseConv2D(3, depth_multiplier=2), Pact(rounding=False), _logits),
    ],
    ids=["two readers", "concatenate", "lone activation", "max pool", "padding", "mean", "softmax", "multiplier"],
)
def test_graphs_of_other_layers(build, tmp_path) -> None:
    model = _net(build)
    path = tmp_path / "model.tflite"
    path.write_bytes(convert(model, _pixels()))
    expected = np.asarray(model(_pixels() / np.float32(255)))
    found = Int8Model(path).predict(_pixels().astype(np.float32) / 255)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.06 * np.sqrt(np.mean(expected**2))


def test_a_learned_bound_saturates(tmp_path) -> None:
    model = _net(_sequential(PLAIN.Conv2D(4, 3), Pact(name="relu"), PLAIN.GlobalAveragePooling2D()))
    model.get_layer("relu").alpha.assign(0.3)
    path = tmp_path / "model.tflite"
    path.write_bytes(convert(model, _pixels()))
    assert {operator.name for operator in artefact.read(path).operators} == {"CONV_2D", "MEAN"}
    x = _pixels().astype(np.float32) / 255
    free = build_twin(model, clip=False)
    assert np.abs(np.asarray(free(x)) - np.asarray(model(x))).max() > 0.05
    np.testing.assert_allclose(Int8Model(path).predict(x), np.asarray(model(x)), atol=2 * 0.3 / 255)


@pytest.mark.parametrize("gamma", [0.0, 1e-9, 1e-4, -1.0], ids=["zero", "tiny", "small", "negative"])
def test_a_channel_of_nearly_no_weights_keeps_its_bias(gamma, tmp_path) -> None:
    """Its weights have so small a scale that its bias leaves int32, the more so behind a small learned bound."""
    model = _net(
        _sequential(
            PLAIN.Conv2D(4, 3),
            Pact(name="relu"),
            QuantConv2D(4, 3, use_bias=False, kernel_quantizer=Ternary(), name="conv"),
            PLAIN.BatchNormalization(name="norm"),
            QuantizedReLU6(),
            PLAIN.GlobalAveragePooling2D(),
        )
    )
    model.get_layer("relu").alpha.assign(0.01)
    model.get_layer("norm").set_weights([np.array([100, gamma, 100, 100]), np.array([0, 5, 0, 0]), np.zeros(4), np.ones(4)])
    path = tmp_path / "model.tflite"
    path.write_bytes(convert(model, _pixels()))
    file = artefact.read(path)
    stored = file.tensors[match(build_twin(model), file)["conv"].operator.inputs[2]]
    assert np.abs(stored.data.astype(np.int64)).max() <= 2**30
    assert stored.data[1] * stored.scales[1] == pytest.approx(5, abs=0.01)
    x = _pixels().astype(np.float32) / 255
    np.testing.assert_allclose(Int8Model(path).predict(x), np.asarray(model(x)), atol=0.05)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            _sequential(PLAIN.Conv2D(3, 3), PLAIN.Activation("relu", name="mine")),
            "'mine' cannot be exported. Received: Activation",
        ),
        (_sequential(PLAIN.Conv2D(3, 3), PLAIN.Cropping2D()), "Received: STRIDED_SLICE"),
        (_sequential(PLAIN.Conv2D(3, 3), PLAIN.LayerNormalization()), "Expected a file of int8 operators"),
        (_concatenated(QuantizedReLU6, Pact), "CONCATENATION to read one int8 grid. Received: 2"),
    ],
    ids=["unknown layer", "unknown operator", "many operators", "two grids"],
)
def test_what_cannot_be_exported_is_named(build, message) -> None:
    model = _net(build)
    for layer in model.layers:
        if hasattr(layer, "alpha"):
            layer.alpha.assign(2.0)
    with pytest.raises(ModelFileError, match=message):
        convert(model, _pixels())


@pytest.mark.parametrize("images", [_pixels(0), _pixels() / 255], ids=["none", "float"])
def test_other_calibration_images_are_refused(images, ternary) -> None:
    with pytest.raises(ModelFileError, match="Expected uint8 calibration images"):
        convert(ternary.model, images)


def test_a_float_file_is_refused(converted) -> None:
    path = converted(keras.Sequential([keras.Input((8, 8, 2), batch_size=1), PLAIN.Conv2D(2, 3)]))
    with pytest.raises(ModelFileError, match="outputs that are not int8: CONV_2D"):
        check_integer(artefact.read(path))


@pytest.mark.parametrize(("low", "high", "zero"), [(-1, 1, 0), (0, 6, -128), (2, 6, -128), (-3, -1, 127), (0, 0, -128)])
def test_a_measured_grid_holds_its_range_and_zero(low, high, zero) -> None:
    grid = grids.Grid.around(low, high)
    assert grid.zero_point == pytest.approx(zero, abs=1)
    assert grid.scale * (-128 - grid.zero_point) <= min(low, 0) + grid.scale
    assert grid.scale * (127 - grid.zero_point) >= max(high, 0) - grid.scale
