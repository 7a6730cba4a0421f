"""Stochastic quantization in compiled training steps: it samples, how many, which, and what brings the draws back."""

from collections import Counter
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D, set_declared
from tinyrobust.quantizers.weights import StochasticTernary, relative_error, twn
from tinyrobust.recipe.precision import Precision


def _network(seed: int = 5) -> keras.Model:
    """One layer of each kind, all stochastic; no dropout, no batch norm."""
    keras.utils.set_random_seed(0)
    layers = LayerFactory(Precision.model_validate({"rule": [{"layers": ".*", "weights": "stochastic-ternary"}]}), seed)
    image = keras.Input((6, 6, 2))
    x = layers.conv("conv", 8, 3)(image)
    x = layers.depthwise("depthwise", 3)(x)
    x = keras.layers.Flatten()(layers.relu("depthwise")(x))
    return keras.Model(image, layers.dense("logits", 4)(x))


_RANDOM = np.random.default_rng(0)
_X = _RANDOM.uniform(size=(16, 6, 6, 2)).astype(np.float32)
_Y = _RANDOM.integers(0, 4, 16)


def _compiled(network: keras.Model) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(0.0), loss, jit_compile=keras.backend.backend() == "jax")
    return network


def _losses(network: keras.Model, steps: int = 8) -> list[float]:
    return [float(_compiled_step(network)) for _ in range(steps)]


def _compiled_step(network: keras.Model) -> float:
    return network.train_on_batch(_X, _Y)  # type: ignore[no-any-return]


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.875])
def test_the_same_batch_gives_another_loss_at_every_step(fraction):
    network = _compiled(_network())
    set_declared(network, "quantized_fraction", fraction)
    losses = _losses(network)
    # Of the depthwise layer's 8 channels at 0.875, one is left out: by chance, two steps may be alike.
    assert len(set(losses)) >= 7


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_nothing_is_left_to_chance_when_all_or_no_channels_are_quantized(fraction):
    network = _compiled(_network())
    set_declared(network, "quantized_fraction", fraction)
    assert len(set(_losses(network))) == 1


def test_fit_samples_too():
    network = _compiled(_network())
    set_declared(network, "quantized_fraction", 0.5)
    history = network.fit(_X, _Y, batch_size=16, epochs=6, shuffle=False, verbose=0).history["loss"]
    assert len(set(history)) == 6


def test_inference_is_deterministic_and_quantizes_everything():
    network = _compiled(_network())
    set_declared(network, "quantized_fraction", 0.5)
    _losses(network, 3)
    first = network.predict(_X, verbose=0)
    np.testing.assert_array_equal(network.predict(_X, verbose=0), first)
    set_declared(network, "quantized_fraction", 1.0)
    np.testing.assert_array_equal(network.predict(_X, verbose=0), first)
    assert network.evaluate(_X, _Y, verbose=0) == pytest.approx(_losses(network, 1)[0], rel=1e-5)


def test_the_same_seed_gives_the_same_draws_and_another_seed_others():
    networks = [_compiled(_network(seed)) for seed in (5, 5, 6)]
    for network in networks:
        set_declared(network, "quantized_fraction", 0.5)
    first, second, other = (_losses(network) for network in networks)
    assert first == second
    assert not set(first) & set(other)


# Which channels are drawn. A layer that is fed one-hot inputs puts out its own kernel; the loss below tells which channels
# differ from the latent ones, as the bits of a number: so the draw of a compiled training step is seen from outside.


def _probe(make: Callable[[], keras.Layer], inputs: np.ndarray, fraction: float) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """A network of that layer, its inputs, and its latent kernel [weights, channels]: what `_draws` takes."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input(inputs.shape[1:]), make(), keras.layers.Flatten()])

    def drawn(latent: object, used: object) -> object:
        changed = ops.any(ops.not_equal(latent, used), axis=0)
        bits = ops.cast(changed, "float32") * 2.0 ** np.arange(changed.shape[0], dtype=np.float32)
        return ops.sum(bits) + 0 * ops.sum(used)

    network.compile(keras.optimizers.SGD(0.0), drawn, jit_compile=keras.backend.backend() == "jax")
    set_declared(network, "quantized_fraction", 0.0)
    latent = ops.convert_to_numpy(network(inputs, training=True))
    set_declared(network, "quantized_fraction", fraction)
    return network, inputs, latent


def _draws(network: keras.Model, inputs: np.ndarray, latent: np.ndarray, steps: int) -> list[tuple[int, ...]]:
    """The channels drawn in each step."""
    bits = (int(network.train_on_batch(inputs, latent)) for _ in range(steps))
    return [tuple(channel for channel in range(latent.shape[1]) if number >> channel & 1) for number in bits]


def _quantizer(axes: tuple[int, ...] = (-1,)) -> StochasticTernary:
    return StochasticTernary(axes, seed=3)


_PATCHES = np.eye(18, dtype=np.float32).reshape(18, 3, 3, 2)
_LAYERS = {
    "conv": (lambda: QuantConv2D(10, 3, use_bias=False, kernel_quantizer=_quantizer()), _PATCHES),
    "depthwise": (
        lambda: QuantDepthwiseConv2D(3, depth_multiplier=5, use_bias=False, depthwise_quantizer=_quantizer((-2, -1))),
        _PATCHES,
    ),
    "dense": (lambda: QuantDense(10, use_bias=False, kernel_quantizer=_quantizer()), np.eye(18, dtype=np.float32)),
}


@pytest.mark.parametrize(("make", "inputs"), _LAYERS.values(), ids=_LAYERS)
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.75, 0.875, 1.0])
def test_every_step_quantizes_the_fraction_of_channels(make, inputs, fraction):
    draws = _draws(*_probe(make, inputs, fraction), 12)
    assert {len(channels) for channels in draws} == {round(fraction * 10)}
    assert fraction in (0, 1) or len(set(draws)) > 1


def _dense_with_errors(channels: int, fraction: float) -> tuple[keras.Model, np.ndarray, np.ndarray, np.ndarray]:
    """A dense layer whose channels go from nearly ternary to far from it; and their errors."""
    network, inputs, _ = _probe(
        lambda: QuantDense(channels, use_bias=False, kernel_quantizer=_quantizer()), np.eye(30, dtype=np.float32), fraction
    )
    random = np.random.default_rng(2)
    spoilt = np.linspace(0.15, 1, channels)
    kernel = random.choice([-1, 0, 1], (30, channels)) + spoilt * random.normal(scale=0.6, size=(30, channels))
    network.layers[0].latent_weights.assign(kernel)
    latent = ops.convert_to_tensor(network.layers[0].latent_weights)
    errors = ops.convert_to_numpy(relative_error(latent, twn(latent)))
    return network, inputs, ops.convert_to_numpy(latent), errors


def test_channels_with_a_small_error_are_drawn_more_often():
    network, inputs, latent, errors = _dense_with_errors(8, 0.5)
    draws = _draws(network, inputs, latent, 2000)
    counts = np.bincount(np.concatenate(draws), minlength=8)
    assert all(len(channels) == 4 for channels in draws)
    order = np.argsort(errors)
    # The standard deviation of a count is below 23.
    for near, far in zip(order[:-2], order[2:], strict=True):
        if errors[far] > 1.3 * errors[near]:
            assert counts[near] > counts[far] + 46
    assert counts[order[0]] > 1.5 * counts[order[-1]]


def test_the_draw_equals_the_sequential_roulette():
    """P({i, j}) = p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j) for two of three channels, p ~ 1 / e."""
    network, inputs, latent, errors = _dense_with_errors(3, 2 / 3)
    p = (1 / errors) / (1 / errors).sum()
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = np.array([p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j])) for i, j in pairs])
    np.testing.assert_allclose(expected.sum(), 1, rtol=1e-5)
    assert expected.max() > 1.3 * expected.min()
    found = Counter(_draws(network, inputs, latent, 2000))
    assert set(found) == set(pairs)
    chi_square = sum((found[pair] - 2000 * share) ** 2 / (2000 * share) for pair, share in zip(pairs, expected, strict=True))
    assert chi_square < 13.8  # exceeded once in 1,000 with 2 degrees of freedom


_ERRORS = np.array([4.0, 1.0, 0.5, 0.4], np.float32)
_RULES = {
    "constant": np.ones(4),
    "linear": 1 / _ERRORS,
    "softmax": np.exp(1 / _ERRORS),
    "sigmoid": 1 / (1 + np.exp(-1 / _ERRORS)),
}


@pytest.mark.parametrize("selection", _RULES)
def test_the_first_draw_has_the_probabilities_of_the_rule(selection):
    quantizer = StochasticTernary(selection=selection)
    quantizer.state = {"seed_state": keras.random.SeedGenerator(3), "quantized_fraction": keras.Variable(0.25, trainable=False)}
    draw = tf.function(lambda: quantizer.chosen(tf.constant(_ERRORS)))
    counts = np.sum([draw() for _ in range(3000)], axis=0)
    assert counts.sum() == 3000  # one of four at a time
    distance = {name: ((counts - 3000 * p / p.sum()) ** 2 / (3000 * p / p.sum())).sum() for name, p in _RULES.items()}
    # The first is exceeded once in 1,000 with 3 degrees of freedom.
    assert distance.pop(selection) < 16.3 < min(distance.values())


def test_a_whole_layer_is_drawn_with_the_probability_of_the_fraction():
    make = lambda: QuantDense(10, use_bias=False, kernel_quantizer=StochasticTernary(seed=3, unit="layer"))  # noqa: E731
    draws = _draws(*_probe(make, np.eye(18, dtype=np.float32), 0.75), 800)
    assert set(draws) == {(), tuple(range(10))}
    assert len([one for one in draws if one]) == pytest.approx(600, abs=4 * np.sqrt(800 * 0.75 * 0.25))


def test_layers_draw_independently():
    layers = LayerFactory(Precision.model_validate({"rule": [{"layers": ".*", "weights": "stochastic-ternary"}]}), 5)
    first, second = (
        _draws(*_probe(lambda name=name: layers.dense(name, 10), np.eye(18, dtype=np.float32), 0.5), 12)
        for name in ("dense1", "dense2")
    )
    assert first != second


def test_channels_that_are_exactly_ternary_share_the_probability():
    quantizer = StochasticTernary(seed=3)
    quantizer.state = {"seed_state": keras.random.SeedGenerator(3), "quantized_fraction": keras.Variable(0.5, trainable=False)}
    draws = {tuple(ops.convert_to_numpy(quantizer.chosen(ops.zeros(4))).nonzero()[0].tolist()) for _ in range(60)}
    assert len(draws) == 6
