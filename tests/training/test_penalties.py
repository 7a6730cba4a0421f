"""Jacobian regularization and Defensive Quantization against closed forms, and their gradients."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust import recipe as recipes
from tinyrobust.errors import RecipeError, TrainingError
from tinyrobust.graphs.folding import foldable, folded
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.precision import Precision
from tinyrobust.training.objectives import Batch, Objective
from tinyrobust.training.objectives.defensive_quantization import blocks, distance_from_orthogonal

_RANDOM = np.random.default_rng(0)
_STEP = 1e-3  # of differences: single precision leaves some four digits of them
_X = _RANDOM.uniform(size=(8, 8, 8, 2)).astype(np.float32)


def _layers(weights: str = "float") -> LayerFactory:
    rules = [{"layers": ".*", "weights": weights, "activations": "relu6"}]
    return LayerFactory(Precision.model_validate({"rule": rules}), 5)


def _linear(widths: tuple[int, ...], inputs: int = 6) -> keras.Model:
    """Dense layers `d0`, `d1`, ... without biases, in float."""
    keras.utils.set_random_seed(0)
    features = x = keras.Input((inputs,))
    for number, width in enumerate(widths):
        x = _layers().dense(f"d{number}", width)(x)
    return keras.Model(features, x)


def _residual(weights: str, classes: int = 1) -> keras.Model:
    """A strided convolution, a depthwise branch and a sum; batch norms with statistics that are not the initial ones."""
    keras.utils.set_random_seed(0)
    layers = _layers(weights)
    image = keras.Input((8, 8, 2))
    x = layers.relu("stem")(layers.norm("stem")(layers.conv("stem", 6, 3, 2)(image)))
    y = layers.norm("depthwise")(layers.depthwise("depthwise", 3)(x))
    x = layers.relu("depthwise")(keras.layers.Add()([x, y]))
    x = keras.layers.GlobalAveragePooling2D()(layers.relu("last")(layers.norm("last")(layers.conv("last", 10, 1)(x))))
    network = keras.Model(image, layers.dense("logits", classes, bias=True)(x))
    random = np.random.default_rng(1)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return network


def _batch(network: keras.Model, x: np.ndarray) -> Batch:
    return Batch(x, np.zeros(len(x), np.int64), network(x), network, training=True, features=x)


def _value(objective: Objective, network: keras.Model, x: np.ndarray = _X) -> float:
    return float(objective(_batch(network, x)))


def _gradient(objective: Objective, network: keras.Model, variable: keras.Variable) -> np.ndarray:
    with tf.GradientTape() as tape:
        value = objective(_batch(network, _X))
    return tape.gradient(value, variable.value).numpy()


def _along_gradient(objective: Objective, network: keras.Model, variable: keras.Variable) -> tuple[float, float]:
    """The derivative along the gradient, which is its length, and the central difference."""
    gradient = _gradient(objective, network, variable)
    length = float(np.linalg.norm(gradient))
    start, values = variable.numpy(), []
    for sign in (1, -1):
        variable.assign(start + sign * _STEP * gradient / length)
        values.append(_value(objective, network))
    variable.assign(start)
    return length, (values[0] - values[1]) / (2 * _STEP)


# Jacobian regularization


def test_with_one_logit_it_is_half_the_squared_norms_of_the_matrices(objective: Any) -> None:
    """The unit sphere of one dimension is +-1: nothing is left to chance."""
    network = _linear((4, 1))
    first, second = (layer.latent_weights.numpy() for layer in weight_layers(network))
    x = _RANDOM.uniform(size=(8, 6)).astype(np.float32)
    expected = 0.5 * (((first @ second) ** 2).sum() + (second**2).sum())
    assert _value(objective("jacobian"), network, x) == pytest.approx(expected, rel=1e-5)
    assert _value(objective("jacobian", layers="d1"), network, x) == pytest.approx(0.5 * (second**2).sum(), rel=1e-5)
    assert _value(objective("jacobian", layers="d0"), network, x) == pytest.approx(
        0.5 * ((first @ second) ** 2).sum(), rel=1e-5
    )


def test_with_an_orthogonal_matrix_every_direction_gives_its_norm(objective: Any) -> None:
    network = _linear((4,))
    matrix = 3 * np.linalg.qr(_RANDOM.normal(size=(6, 4)))[0].astype(np.float32)
    network.get_layer("d0").latent_weights.assign(matrix)
    x = _RANDOM.uniform(size=(3, 6)).astype(np.float32)
    assert _value(objective("jacobian", every=1), network, x) == pytest.approx(0.5 * 9 * 4, rel=1e-5)


def test_in_the_mean_over_directions_it_is_the_norm_of_any_matrix(objective: Any) -> None:
    network = _linear((5,))
    matrix = network.get_layer("d0").latent_weights.numpy()
    x = _RANDOM.uniform(size=(64, 6)).astype(np.float32)
    # 4,096 draws; the value of one has a standard deviation below its mean, that of the mean one below 1.6 %.
    assert _value(objective("jacobian", every=1, projections=64), network, x) == pytest.approx(
        0.5 * (matrix**2).sum(), rel=0.05
    )


@pytest.mark.parametrize("weights", ["float", "stochastic-ternary"])
def test_it_is_of_the_network_as_it_is_deployed(objective: Any, weights: str) -> None:
    """Against the gradients of the network itself, at inference, with respect to what its weight layers read."""
    network = _residual(weights)
    read = ["stem-relu", "depthwise-relu", network.layers[-2].name]
    inside = keras.Model(network.input, [network.output, *(network.get_layer(name).output for name in read)])
    image = tf.constant(_X)
    with tf.GradientTape() as tape:
        tape.watch(image)
        logits, *activations = inside(image, training=False)
    gradients = tape.gradient(logits, [image, *activations])
    expected = 0.5 * sum(float(tf.reduce_sum(gradient**2)) for gradient in gradients) / len(_X)
    assert _value(objective("jacobian", every=1), network) == pytest.approx(expected, rel=1e-4)
    half = _value(objective("jacobian", every=2), network)
    assert half == pytest.approx(_value(objective("jacobian", every=1), network, _X[::2]), rel=1e-5)


def test_its_gradients_are_differences_of_its_values(objective: Any) -> None:
    network, penalty = _residual("float"), objective("jacobian", every=1)
    for variable in (network.get_layer("logits").kernel, network.get_layer("depthwise-bn").gamma):
        derivative, difference = _along_gradient(penalty, network, variable)
        assert difference == pytest.approx(derivative, rel=0.02), variable.path


@pytest.mark.parametrize("kind", ["jacobian", "defensive-quantization"])
def test_no_gradient_makes_a_kernel_longer_that_a_norm_shortens(objective: Any, kind: str) -> None:
    """But for the epsilon of the norms, a 500th of the smallest variance."""
    network, penalty = _residual("float"), objective(kind)
    for layer in weight_layers(network):
        kernel = layer.latent_weights
        gradient = _gradient(penalty, network, kernel)
        axes = (0, 1) if layer.name == "depthwise" else tuple(range(len(kernel.shape) - 1))
        along = np.abs((gradient * kernel.numpy()).sum(axis=axes))
        size = (np.abs(gradient) * np.abs(kernel.numpy())).sum(axis=axes)
        if layer.name == "logits":
            assert (along > 0.1 * size).any()
        else:
            assert (along <= 0.02 * size + 1e-3).all(), layer.name


def test_what_no_layer_is_called_is_refused(objective: Any) -> None:
    with pytest.raises(TrainingError, match=r"Expected layers with weights that match 'block.*'. Received: d0, d1"):
        _value(objective("jacobian", layers="block.*"), _linear((4, 1)), np.ones((4, 6), np.float32))


# Defensive Quantization


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.eye(4, 3), 0.0),
        (2 * np.eye(4, 3), 27.0),  # three times (4 - 1)^2
        (np.eye(3, 4), 0.0),  # wide: orthogonal rows
        (np.array([[1.0, 1.0], [0.0, 0.0]]), 2.0),  # [[1, 1], [1, 1]] - I
        (np.zeros((4, 3)), 3.0),
    ],
)
def test_the_distance_of_known_matrices(matrix: np.ndarray, expected: float) -> None:
    assert float(distance_from_orthogonal(matrix[np.newaxis].astype(np.float32))) == pytest.approx(expected, abs=1e-5)


def test_rows_or_columns_differ_by_a_constant() -> None:
    wide = _RANDOM.normal(size=(3, 7))
    by_columns = ((wide.T @ wide - np.eye(7)) ** 2).sum()
    assert float(distance_from_orthogonal(wide[np.newaxis])) == pytest.approx(by_columns - 4, rel=1e-6)


def test_kernels_are_the_matrices_that_they_stand_for() -> None:
    """A depthwise or grouped kernel's matrix is block-diagonal: its distance is that of the blocks."""
    for layer in (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), keras.layers.Conv2D(6, 3, groups=2)):
        layer.build((None, 8, 8, 4))
        kernel = layer.kernel.numpy()
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            whole = np.zeros((9, 4, 4, 2))
            for channel in range(4):
                whole[:, channel, channel] = kernel.reshape(9, 4, 2)[:, channel]
        else:
            whole = np.zeros((9, 4, 6))
            for group in range(2):
                columns = slice(3 * group, 3 * group + 3)
                whole[:, 2 * group : 2 * group + 2, columns] = kernel.reshape(9, 2, 6)[..., columns]
        matrix = whole.reshape(36, -1)
        expected = ((matrix.T @ matrix - np.eye(matrix.shape[1])) ** 2).sum()
        assert float(distance_from_orthogonal(blocks(layer, layer.kernel))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", ["float", "stochastic-ternary"])
def test_it_is_of_quantized_weights_with_batch_norm_folded(objective: Any, weights: str) -> None:
    network = _residual(weights, classes=3)
    folds, expected = foldable(network), 0.0
    for layer in weight_layers(network):
        kernel = folded(layer, network.get_layer(folds[layer.name]) if layer.name in folds else None)[0].astype(np.float64)
        if layer.name == "depthwise":
            expected += (((kernel**2).sum(axis=(0, 1)) - 1) ** 2).sum()
        else:
            matrix = kernel.reshape(-1, kernel.shape[-1])
            gram = matrix.T @ matrix if len(matrix) >= len(matrix.T) else matrix @ matrix.T
            expected += ((gram - np.eye(len(gram))) ** 2).sum()
    assert len(folds) == 3
    assert _value(objective("defensive-quantization"), network) == pytest.approx(expected / 2, rel=1e-4)


def test_it_shortens_what_is_too_long_by_the_scale_of_the_norm(objective: Any) -> None:
    network, penalty = _residual("stochastic-ternary"), objective("defensive-quantization")
    derivative, difference = _along_gradient(penalty, network, network.get_layer("last-bn").gamma)
    assert difference == pytest.approx(derivative, rel=0.02)


# Recipes


def test_a_penalty_stands_beside_an_objective_that_learns() -> None:
    with pytest.raises(RecipeError, match=r"Expected an objective that learns .* Received: jacobian"):
        recipes.load("digits-stq", ['train.objective=[{kind="jacobian"}]'])
    both = 'train.objective=[{kind="cross-entropy"}, {kind="jacobian", weight=0.01, layers="stem"}]'
    assert recipes.load("digits-stq", [both]).train.needs == {"features", "input-gradient"}
