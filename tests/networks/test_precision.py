"""Precision rules: the first match wins, and every rule must matter."""

import keras
import numpy as np
import pytest

from tinyrobust import recipe
from tinyrobust.errors import RecipeError
from tinyrobust.networks.catalog import build
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.activations import ActivationQuantizer, Pact, QuantizedReLU6
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.precision import Precision


def _network(*rules: dict[str, object], seed: int = 7) -> keras.Model:
    base = recipe.load("digits-stq", ["network.width=0.1", f"seed={seed}"])
    return build(base.model_copy(update={"precision": Precision.model_validate({"rule": rules})}), (8, 8, 1), 10)


def _formats(network: keras.Model) -> dict[str, str]:
    return {layer.name: type(layer.weight_quantizer).__name__ for layer in weight_layers(network)}


def test_the_first_match_wins():
    formats = _formats(
        _network(
            {"layers": "stem|logits", "weights": "fixed-point", "bits": 4},
            {"layers": "block3-.*", "weights": "binary"},
            {"layers": "block[1-3].*", "weights": "ternary"},
            {"layers": "dense1", "weights": "float"},
            {"layers": ".*", "weights": "stochastic-ternary"},
        )
    )
    assert formats == {
        "stem": "FixedPoint",
        "block1": "Ternary",
        "block2": "Ternary",
        "block3-depthwise": "Binary",
        "block3-pointwise": "Binary",
        "block4": "StochasticTernary",
        "block5": "StochasticTernary",
        "block6": "StochasticTernary",
        "dense1": "NoneType",
        "dense2": "StochasticTernary",
        "logits": "FixedPoint",
    }


def test_the_whole_name_must_match():
    with pytest.raises(RecipeError, match=r"Precision rule 1 \(layers = 'block3'\) matches no layer"):
        _network({"layers": "block3", "weights": "binary"}, {"layers": ".*", "weights": "ternary"})


def test_bits_reach_the_quantizer():
    network = _network({"layers": ".*", "weights": "fixed-point", "bits": 5})
    assert {layer.weight_quantizer.bits for layer in weight_layers(network)} == {5}


@pytest.mark.parametrize(
    ("weights", "kept"),
    [
        ({"kind": "lsq", "bits": 2}, True),
        ({"kind": "lsq", "bits": 4}, True),
        ({"kind": "lsq", "bits": 8}, False),
        ({"kind": "lsq", "bits": 1}, False),
        ({"kind": "dorefa", "bits": 2}, False),
        ({"kind": "ternary"}, False),
    ],
)
def test_no_norm_turns_levels_around_that_have_one_more_on_one_side(weights, kept):
    network = _network({"layers": "stem", "weights": "float"}, {"layers": ".*", "weights": weights})
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    optimizer = keras.optimizers.SGD(1.0)
    gammas = [norm.gamma for norm in norms]
    optimizer.build(gammas)
    optimizer.apply([np.full(gamma.shape, 3.0, np.float32) for gamma in gammas])
    assert {float(value) for gamma in gammas for value in np.asarray(gamma)} == {0.0 if kept else -2.0}


def test_depthwise_kernels_have_a_scale_per_channel():
    network = _network({"layers": ".*", "weights": "ternary"})
    axes = {layer.name: layer.weight_quantizer.channel_axes for layer in weight_layers(network)}
    assert {name for name, kept in axes.items() if kept == (-2, -1)} == {"block3-depthwise", "block5"}
    assert {kept for name, kept in axes.items() if name not in {"block3-depthwise", "block5"}} == {(-1,)}


def test_activations_follow_the_rule_of_their_layer():
    network = _network(
        {"layers": "block1", "weights": "ternary", "activations": "pact"},
        {"layers": "block2", "weights": "ternary", "activations": "float"},
        {"layers": ".*", "weights": "ternary"},
    )
    layers = [layer for layer in network.layers if isinstance(layer, ActivationQuantizer)]
    relus = {layer.name: (type(layer), layer.rounding) for layer in layers}
    assert relus.pop("block1-relu") == (Pact, True)
    assert relus.pop("block2-relu") == (QuantizedReLU6, False)
    assert set(relus.values()) == {(QuantizedReLU6, True)}
    assert "logits-relu" not in relus


def test_every_stochastic_layer_has_a_seed_of_its_own():
    def seeds(seed: int) -> list[int]:
        network = _network({"layers": ".*", "weights": "stochastic-ternary"}, seed=seed)
        return [layer.weight_quantizer.seed for layer in weight_layers(network)]

    assert len(set(seeds(7))) == 11
    assert seeds(7) == seeds(7)
    assert not set(seeds(7)) & set(seeds(8))


def _factory() -> LayerFactory:
    return LayerFactory(Precision.model_validate({"rule": [{"layers": ".*", "weights": "ternary"}]}), 7)


def test_layers_of_any_window():
    layers, image = _factory(), keras.Input((12, 10, 2))
    shapes = {
        "valid": layers.conv("valid", 4, (3, 5), padding="valid"),
        "strided": layers.conv("strided", 4, 3, (2, 1)),
        "dilated": layers.conv("dilated", 4, 3, padding="valid", dilation=(2, 3), bias=True),
        "multiplied": layers.depthwise("multiplied", (3, 1), 2, padding="valid", multiplier=3),
        "spread": layers.depthwise("spread", 3, padding="valid", dilation=2, bias=True),
    }
    assert {name: layer(image).shape[1:] for name, layer in shapes.items()} == {
        "valid": (10, 6, 4),
        "strided": (6, 10, 4),
        "dilated": (8, 4, 4),
        "multiplied": (5, 5, 6),
        "spread": (8, 6, 2),
    }
    assert {name for name, layer in shapes.items() if layer.bias is not None} == {"dilated", "spread"}
    x = np.random.default_rng(0).uniform(size=(2, 12, 10, 2)).astype(np.float32)
    for layer in shapes.values():
        assert np.isfinite(keras.ops.convert_to_numpy(layer(x, training=True))).all()


def test_norm_and_activation_may_come_before_their_layer():
    """A pre-activation block: whichever is made first, names and rules are those of the layer with weights."""
    layers = LayerFactory(
        Precision.model_validate(
            {
                "rule": [
                    {"layers": "block", "weights": "binary", "activations": "pact"},
                    {"layers": ".*", "weights": "ternary", "activations": "float"},
                ]
            }
        ),
        7,
    )
    image = keras.Input((8, 8, 2))
    x = layers.relu("block")(layers.norm("block")(image))
    x = keras.layers.Add()([image, layers.conv("block", 2, 3)(x)])
    network = keras.Model(image, layers.dense("logits", 3)(keras.layers.Flatten()(x)))
    layers.check_every_rule_is_used()
    assert isinstance(network.get_layer("block-relu"), Pact)
    assert [layer.name for layer in network.layers if layer.name.startswith("block")] == ["block-bn", "block-relu", "block"]
    assert _formats(network) == {"block": "Binary", "logits": "Ternary"}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        pytest.param(
            [{"layers": "stemm", "weights": "binary"}, {"layers": ".*", "weights": "ternary"}],
            r"Precision rule 1 \(layers = 'stemm'\) matches no layer.*Layers: stem, block1, .*, logits",
            id="misspelt",
        ),
        pytest.param(
            [{"layers": ".*", "weights": "ternary"}, {"layers": "stem", "weights": "binary"}],
            r"Precision rule 2 \(layers = 'stem'\) is never reached: earlier rules match all its layers",
            id="shadowed",
        ),
        pytest.param(
            [{"layers": "stem|block.*|logits", "weights": "ternary"}],
            r"No precision rule matches layer 'dense1'.*layers = \"\.\*\"",
            id="a-layer-is-left",
        ),
    ],
)
def test_rules_that_make_no_sense(rules, message):
    with pytest.raises(RecipeError, match=message):
        _network(*rules)
