"""Frozen networks: their outputs, what is folded into what, and what stays."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import qkeras

from tinyrobust.choices import members
from tinyrobust.graphs.freeze import freeze, without_rounding
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.layers import set_declared, weight_layers
from tinyrobust.quantizers.weights import Ternary
from tinyrobust.recipe.activations import Activations
from tinyrobust.recipe.precision import Precision
from tinyrobust.recipe.weights import Weights

_X = np.random.default_rng(0).uniform(size=(32, 8, 8, 1)).astype(np.float32)


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


@pytest.mark.parametrize("weights", ["stochastic-ternary", "ternary", "binary", "fixed-point", "float"])
@pytest.mark.parametrize("activations", ["float", "relu6"])
def test_freeze_equals_the_network_at_inference(weights, activations):
    network = _network(weights, activations)
    set_declared(network, "quantized_fraction", 0.5)
    frozen = freeze(network)
    difference = np.abs(frozen.predict(_X, verbose=0) - network.predict(_X, verbose=0)).max(axis=1)
    if activations == "float":
        assert difference.max() < 1e-5
    else:  # sums in another order: a few values between two levels are rounded to the other one
        assert np.median(difference) < 0.01
        assert difference.max() < 0.1
    assert not frozen.trainable_variables
    assert all(layer.weight_quantizer is None for layer in weight_layers(frozen))
    np.testing.assert_array_equal(frozen.get_layer("logits").latent_weights, network.get_layer("logits").quantized_weights())


def test_freeze_folds_batch_norm():
    network = _network("ternary", "float")
    frozen = freeze(network)
    norms = {"stem-bn", "depthwise-bn"}
    assert {layer.name for layer in network.layers[1:]} - {layer.name for layer in frozen.layers} == norms
    norm, stem = network.get_layer("stem-bn"), network.get_layer("stem")
    scale = np.asarray(norm.gamma) / np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
    np.testing.assert_allclose(frozen.get_layer("stem").latent_weights, stem.quantized_weights() * scale, rtol=1e-5)


def _read_twice(x):
    y = keras.layers.Conv2D(3, 3, padding="same")(x)
    return keras.layers.Add()([keras.layers.BatchNormalization()(y), y])


def _used_twice(x):
    conv, norm = keras.layers.Conv2D(1, 3, padding="same"), keras.layers.BatchNormalization()
    return norm(conv(norm(conv(x))))


def _nested(x):
    inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), keras.layers.BatchNormalization()])
    return keras.layers.BatchNormalization()(inner(x))


_AS_THEY_ARE = {
    "read twice": _read_twice,
    "used twice": _used_twice,
    "nested": _nested,
    "of the input": keras.layers.BatchNormalization(),
    "behind an activation": lambda x: keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3, activation="relu")(x)),
    "another axis": lambda x: keras.layers.BatchNormalization(axis=1)(keras.layers.Conv2D(2, 3)(x)),
    "QKeras' own": lambda x: keras.layers.BatchNormalization()(qkeras.QConv2D(2, 3, kernel_quantizer=Ternary())(x)),
    "two outputs": lambda x: [keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3)(x)), keras.layers.Flatten()(x)],
}


@pytest.mark.parametrize("build", _AS_THEY_ARE.values(), ids=_AS_THEY_ARE.keys())
def test_a_batch_norm_that_cannot_be_folded_stays(build):
    image = keras.Input((8, 8, 1))
    network = keras.Model(image, build(image))
    random = np.random.default_rng(1)
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    frozen = freeze(network)
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in frozen._flatten_layers())
    for new, old in zip(keras.tree.flatten(frozen(_X)), keras.tree.flatten(network(_X)), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


def test_plain_layers_and_sequential_networks_are_folded_too():
    plain = keras.layers
    network = keras.Sequential(
        [keras.Input((8, 8, 1)), plain.Conv2D(4, 3, use_bias=False), plain.BatchNormalization(), plain.ReLU()]
    )
    network.layers[1].set_weights([np.random.default_rng(1).uniform(0.5, 1.5, 4) for _ in range(4)])
    frozen = freeze(network)
    assert not any(isinstance(layer, plain.BatchNormalization) for layer in frozen.layers)
    np.testing.assert_allclose(frozen(_X), network(_X), rtol=1e-5, atol=1e-5)


def test_freeze_leaves_the_network_as_it_was():
    network = _network("stochastic-ternary")
    before = network.get_weights()
    freeze(network)
    assert len(network.trainable_variables) > 0
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_without_rounding_the_activations_are_float():
    network = _network("ternary")
    smooth, exact = without_rounding(network).predict(_X, verbose=0), network.predict(_X, verbose=0)
    difference = np.abs(smooth - exact).max()
    assert 0 < difference < 0.3


def test_a_fresh_process_loads_networks_of_every_format(tmp_path):
    """As `tinyrobust attack RUN` does: nothing there has built a quantizer before."""
    for weights in members(Weights):
        _network(weights).save(tmp_path / f"{weights}.keras")
    for activations in members(Activations):
        _network("float", activations).save(tmp_path / f"activations-{activations}.keras")
    load = "[keras.models.load_model(path, compile=False) for path in sys.argv[1:]]"
    script = f"import sys, keras\nfrom tinyrobust.pipeline import attack\n{load}"
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, tmp_path.iterdir())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
