import keras
import numpy as np
import pytest
import qkeras

from tinyrobust.deploy.twin import build_twin, source_layers
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.freeze import without_rounding
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tinyrobust.quantizers.weights import Ternary

PLAIN = keras.layers


@pytest.mark.parametrize("weights", ["stochastic-ternary", "ternary", "binary", "fixed-point", "float"])
@pytest.mark.parametrize("activations", ["relu6", "pact"])
def test_the_twin_answers_like_the_network_without_rounding(weights, activations, untrained, images) -> None:
    model = untrained(weights, activations)
    expected = np.asarray(without_rounding(model)(images))
    assert np.abs(np.asarray(build_twin(model)(images)) - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_twin_of_a_trained_network(ternary) -> None:
    expected = np.asarray(without_rounding(ternary.model)(ternary.unit))
    twin = np.asarray(build_twin(ternary.model)(ternary.unit))
    assert np.abs(twin - expected).max() <= 1e-5 * np.abs(expected).max()


def test_it_has_plain_layers_without_batch_norm_under_the_same_names(ternary) -> None:
    twin = build_twin(ternary.model, batch_size=1)
    assert twin.input_shape == (1, 8, 8, 1)
    assert {type(layer).__module__.split(".")[0] for layer in twin.layers} == {"keras"}
    norms = {layer.name for layer in ternary.model.layers if isinstance(layer, PLAIN.BatchNormalization)}
    assert norms
    assert {layer.name for layer in twin.layers} == {layer.name for layer in ternary.model.layers} - norms
    sources = source_layers(ternary.model)
    assert sources["block1"] == "block1-bn"
    assert sources["logits"] == "logits"
    assert sources["block1-relu"] == "block1-relu"


@pytest.mark.parametrize("norm", [{}, {"scale": False}, {"center": False}, {"epsilon": 0.1}], ids=str)
@pytest.mark.parametrize(
    "layer",
    [
        lambda: QuantConv2D(3, 3, strides=2, padding="same", kernel_quantizer=Ternary(), bias_initializer="uniform"),
        lambda: QuantDepthwiseConv2D(3, depth_multiplier=2, depthwise_quantizer=Ternary((-2, -1)), use_bias=False),
        lambda: QuantDense(5, kernel_quantizer=Ternary(), bias_initializer="uniform"),
        lambda: PLAIN.Conv2D(4, 3, dilation_rate=2, bias_initializer="uniform"),
        lambda: PLAIN.DepthwiseConv2D(3, bias_initializer="uniform"),
    ],
    ids=["convolution", "depthwise", "dense", "plain convolution", "plain depthwise"],
)
def test_batch_norm_is_folded(layer, norm) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 2)), layer(), PLAIN.BatchNormalization(**norm)])
    random = np.random.default_rng(1)
    model.layers[-1].set_weights([random.uniform(0.5, 2, w.shape) for w in model.layers[-1].weights])
    x = random.random((5, 8, 8, 2), dtype=np.float32)
    expected = np.asarray(model(x, training=False))
    twin = build_twin(model)
    assert not any(isinstance(layer, PLAIN.BatchNormalization) for layer in twin.layers)
    np.testing.assert_allclose(np.asarray(twin(x)), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def _used_twice(x):
    layer = PLAIN.Conv2D(2, 3, padding="same", name="conv")
    return layer(layer(x))


def _norm_used_twice(x):
    norm = PLAIN.BatchNormalization(name="norm")
    return norm(norm(x))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (PLAIN.BatchNormalization(axis=1, name="norm"), "batch norm 'norm' over the last axis, the channels. Received: axis=1"),
        (lambda x: _norm_used_twice(PLAIN.Conv2D(2, 3)(x)), "used once. Received: 'norm'"),
        (_used_twice, "used once. Received: 'conv'"),
        (PLAIN.Conv2D(2, 3, activation="relu", name="conv"), "'conv' without an activation of its own"),
        (keras.Sequential([PLAIN.Conv2D(2, 3)], name="inner"), "'inner' has no plain Keras twin"),
        (qkeras.QConv2D(2, 3, kernel_quantizer=Ternary(), name="theirs"), "'theirs' has no plain Keras twin"),
        (lambda x: PLAIN.Add()([x, keras.Input((8, 8, 2))]), "one input and one output. Received: 2 and 1"),
    ],
    ids=["norm of another axis", "norm used twice", "layer used twice", "own activation", "nested", "foreign", "two inputs"],
)
def test_what_has_no_twin_is_refused(build, message) -> None:
    image = keras.Input((8, 8, 2), name="image")
    output = build(image)
    with pytest.raises(ModelFileError, match=message):
        build_twin(keras.Model(keras.utils.get_source_inputs(output), output))
