"""The layers around the quantizers: what they compute with, what they leave alone, saving, freezing."""

import keras
import numpy as np
import pytest
from keras import ops

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.layers import (
    QuantConv2D,
    QuantDense,
    QuantDepthwiseConv2D,
    set_declared,
    weight_layers,
)
from tinyrobust.quantizers.weights import Binary, FixedPoint, StochasticTernary, Ternary
from tinyrobust.recipe.precision import Precision


def _network(weights: str, activations: str = "relu6") -> keras.Model:
    """Every kind of layer, a residual branch, batch norm with statistics that are not the initial ones."""
    keras.utils.set_random_seed(0)
    layers = LayerFactory(
        Precision.model_validate({"rule": [{"layers": ".*", "weights": weights, "activations": activations}]}), 5
    )
    image = keras.Input((8, 8, 1))
    x = layers.relu("stem")(layers.norm("stem")(layers.conv("stem", 6, 3)(image)))
    y = layers.norm("depthwise")(layers.depthwise("depthwise", 3)(x))
    x = layers.relu("depthwise")(keras.layers.Add()([x, y]))
    network = keras.Model(image, layers.dense("logits", 4, bias=True)(keras.layers.Flatten()(x)))
    random = np.random.default_rng(1)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    network.get_layer("logits").bias.assign(random.normal(size=4))
    return network


@pytest.mark.parametrize("quantizer", [StochasticTernary, Ternary, Binary, FixedPoint, lambda: None])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_training_does_not_clip_latent_weights(kind, quantizer):
    quantizer = quantizer()
    make = {
        "conv": lambda: QuantConv2D(2, 3, use_bias=False, kernel_quantizer=quantizer),
        "depthwise": lambda: QuantDepthwiseConv2D(3, use_bias=False, depthwise_quantizer=quantizer),
        "dense": lambda: QuantDense(2, use_bias=False, kernel_quantizer=quantizer),
    }
    shape = (5,) if kind == "dense" else (5, 5, 2)
    layer = make[kind]()
    network = keras.Sequential([keras.Input(shape), layer])
    latent = np.linspace(-4, 4, layer.latent_weights.value.shape.num_elements()).reshape(layer.latent_weights.shape)
    layer.latent_weights.assign(latent)
    network.compile(keras.optimizers.SGD(1e-3), "mse", run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(4, *shape))
    network.fit(x, np.zeros_like(network(x)), epochs=2, verbose=0)
    moved = ops.convert_to_numpy(layer.latent_weights)
    assert 0 < np.abs(moved - latent).max() < 0.5
    assert np.abs(moved).max() > 3


def test_the_initial_weights_are_those_of_the_initializer():
    """QKeras replaces it for some quantizers: kernels would start from zeros or with another spread."""
    spreads = []
    for quantizer in (StochasticTernary(), Ternary(), Binary(), FixedPoint(8), None):
        keras.utils.set_random_seed(0)
        layer = QuantConv2D(16, 3, kernel_quantizer=quantizer)
        layer.build((None, 8, 8, 8))
        spreads.append(ops.convert_to_numpy(layer.latent_weights))
    for other in spreads[1:]:
        np.testing.assert_array_equal(other, spreads[0])
    assert spreads[0].std() == pytest.approx(np.sqrt(2 / 72), rel=0.1)  # He's


def test_a_variable_is_set_where_it_is_declared():
    network = _network("ternary")
    set_declared(network, "quantized_fraction", 0.5)
    assert not any("fraction" in variable.path for variable in network.variables)
    network = _network("stochastic-ternary")
    set_declared(network, "quantized_fraction", 0.5)
    fractions = [float(v.numpy()) for v in network.variables if "fraction" in v.path]
    assert fractions == [0.5] * 3


def test_the_layers_with_weights_come_in_order():
    assert [layer.name for layer in weight_layers(_network("ternary"))] == ["stem", "depthwise", "logits"]
