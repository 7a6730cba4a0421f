"""How much a network amplifies: against singular values, Jacobians and lengths that are known otherwise."""

import math
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.graphs.deployed import DeployedPass
from tinyrobust.graphs.freeze import freeze
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.precision import FLOAT
from tinyrobust.robustness.amplification import error_amplification, jacobian_norms, measure, randomly_signed
from tinyrobust.robustness.amplification_record import AMPLIFICATION, AmplificationRecord
from tinyrobust.robustness.operators import lipschitz_bound, spectral_norm

_RANDOM = np.random.default_rng(0)


def _unrolled(layer: keras.Layer) -> np.ndarray:
    """The matrix of a layer without its bias: what it makes of every unit vector."""
    shape = layer.input.shape[1:]
    units = np.eye(math.prod(shape), dtype=np.float32).reshape(-1, *shape)
    return (layer(units) - layer(np.zeros_like(units[:1]))).numpy().reshape(len(units), -1)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(5, 3, padding="same"),
        keras.layers.Conv2D(5, 3, strides=2, padding="same", bias_initializer="normal"),
        keras.layers.Conv2D(4, (3, 2), strides=(1, 2), padding="valid"),
        keras.layers.Conv2D(4, 3, dilation_rate=2, groups=2, padding="same"),
        keras.layers.DepthwiseConv2D(3, strides=2, padding="same"),
        keras.layers.Dense(7, bias_initializer="normal"),
    ],
    ids=["same", "stride", "valid", "dilated groups", "depthwise", "dense"],
)
def test_the_spectral_norm_is_the_largest_singular_value_of_the_operator(layer: keras.Layer) -> None:
    keras.utils.set_random_seed(1)
    layer(keras.Input((12,) if isinstance(layer, keras.layers.Dense) else (6, 5, 2)))
    largest = np.linalg.svd(_unrolled(layer), compute_uv=False)[0]
    found = spectral_norm(layer)
    assert found <= largest * (1 + 1e-5)  # it comes from below
    assert found == pytest.approx(largest, rel=5e-3)


def _residual() -> keras.Model:
    """A stem, a branch that is added to what it reads, a pool over 3 x 3, and logits."""
    keras.utils.set_random_seed(0)
    layers = LayerFactory(FLOAT, 0)
    image = keras.Input((6, 6, 1))
    x = layers.relu("stem")(layers.norm("stem")(layers.conv("stem", 3, 3, 2)(image)))
    x = keras.layers.Add()([x, layers.norm("branch")(layers.conv("branch", 3, 3)(x))])
    return keras.Model(image, layers.dense("logits", 4, bias=True)(keras.layers.GlobalAveragePooling2D()(x)))


def test_bounds_are_products_along_a_chain_and_sums_over_branches() -> None:
    frozen = freeze(_residual())
    norms = {"stem": 2.0, "branch": 3.0, "logits": 5.0}
    assert lipschitz_bound(frozen, norms) == pytest.approx(2 * (1 + 3) * (1 / 3) * 5)
    assert lipschitz_bound(frozen, {**norms, "branch": 0.0}) == pytest.approx(2 * 1 * (1 / 3) * 5)  # weights that are all zero
    image = keras.Input((6, 6, 1))
    assert lipschitz_bound(keras.Model(image, keras.layers.LayerNormalization()(image)), {}) is None
    for pool, expected in (
        (keras.layers.AveragePooling2D(2), 0.5),
        (keras.layers.MaxPooling2D(3, 2), 2.0),  # a value can be the largest of four windows
        (keras.layers.BatchNormalization(), 1 / math.sqrt(1.001)),
    ):
        assert lipschitz_bound(keras.Model(image, pool(image)), {}) == pytest.approx(expected)
    both = keras.Model(image, keras.layers.Concatenate()([image, keras.layers.ReLU()(image)]))
    assert lipschitz_bound(both, {}) == pytest.approx(math.sqrt(2))


def test_jacobians_are_those_of_every_logit() -> None:
    network = _residual()
    x = _RANDOM.uniform(size=(3, 6, 6, 1)).astype(np.float32)
    deployed = DeployedPass(freeze(network))
    norms = jacobian_norms(deployed, x, 4)
    image = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(image)
        logits = network(image, training=False)
    jacobians = tape.batch_jacobian(logits, image).numpy()
    assert norms[deployed.image] == pytest.approx(np.sqrt((jacobians**2).sum() / 3), rel=1e-4)
    assert norms[deployed.reads["logits"]] == pytest.approx(
        np.linalg.norm(network.get_layer("logits").kernel.numpy()), rel=1e-5
    )
    assert len(norms) == 3


def test_errors_grow_by_what_a_linear_layer_multiplies_them_with() -> None:
    image = keras.Input((3,))
    first, second = keras.layers.Dense(3, name="first"), keras.layers.Dense(2, name="second")
    network = keras.Model(image, second(first(image)))
    first.set_weights([2 * np.eye(3), np.ones(3)])
    second.set_weights([np.array([[0.5, 0], [0, 0.5], [0, 0]]), np.zeros(2)])
    x = np.zeros((3, 3), np.float32)
    changed = x + np.float32([[0.1, 0, 0], [0, 0, 0.1], [0, 0, 0]])  # the last is not changed, and does not count
    reads = {"first": image._keras_history.operation.name, "second": "first"}
    found = error_amplification(network, reads, x, changed)
    assert found == {"first": pytest.approx(1), "second": pytest.approx(2), "": pytest.approx(0.5)}
    assert error_amplification(network, reads, x, x) == {"first": None, "second": None, "": None}


def test_random_changes_are_of_the_same_size_and_stay_in_range() -> None:
    x = _RANDOM.uniform(size=(50, 6)).astype(np.float32)
    changed = np.clip(x + 0.2, 0, 1)
    noisy = randomly_signed(x, changed, _RANDOM)
    np.testing.assert_allclose(np.abs(noisy - x), changed - x, atol=1e-6)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    free = x > 0.2
    assert (noisy[~free] == changed[~free]).all()
    assert 0.3 < (noisy[free] < x[free]).mean() < 0.7


def test_the_record_of_a_network(tmp_path: Path) -> None:
    """Changes that an attack made go farther than random ones, and not beyond the bound."""
    network = _residual()
    x = _RANDOM.uniform(0.2, 0.8, size=(8, 6, 6, 1)).astype(np.float32)
    record = measure(network, x, np.arange(8) % 4, images="made up", epsilon=0.05, seed=0)
    assert [layer.layer for layer in record.layers] == ["stem", "branch", "logits"]
    assert record.layers[0].adversarial == pytest.approx(1)
    assert record.adversarial is not None
    assert record.random is not None
    assert record.lipschitz_bound is not None
    assert 0 < record.random < record.adversarial < record.lipschitz_bound
    record.save(tmp_path / AMPLIFICATION)
    assert AmplificationRecord.load(tmp_path / AMPLIFICATION) == record


def test_a_distilled_network_is_attacked_on_its_logits_divided_by_the_temperature() -> None:
    """Logits hundreds apart: their softmax is flat, and the attack finds nothing; a hundredth of them has gradients."""
    network = _residual()
    layer = network.get_layer("logits")
    layer.kernel.assign(1e4 * layer.kernel)
    x = _RANDOM.uniform(0.2, 0.8, size=(8, 6, 6, 1)).astype(np.float32)
    logits = np.asarray(network(x, training=False))
    y = logits.argmax(axis=1)
    second, first = np.sort(logits, axis=1)[:, -2:].T
    assert (first - second).min() > 200
    found = {
        temperature: measure(network, x, y, images="made up", epsilon=1e-3, seed=0, temperature=temperature).adversarial
        for temperature in (None, float((first - second).max()))
    }
    assert found[None] is None
    assert all(value is not None for temperature, value in found.items() if temperature)
