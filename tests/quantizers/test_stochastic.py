"""Stochastic quantizers: their formulas on cases worked by hand, what they draw, and that draws are saved."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from tinyrobust.gradients import value_and_gradient
from tinyrobust.quantizers.stochastic import (
    BinPenalty,
    StochasticQuantizer,
    binary_entropy,
    mutual_information,
    relative_distances,
)


def _layer(bins: list[float], *, channels: int = 1, **settings: object) -> StochasticQuantizer:
    layer = StochasticQuantizer(len(bins), **settings)
    layer.build((None, channels))
    layer.bins.assign(np.broadcast_to(np.array(bins, np.float32), layer.bins.shape))
    return layer


def _numbers(tensor: object) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor), np.float64)


def test_the_probabilities_are_those_of_the_formula():
    """Bins 0, 1 and 3: the mean distance is 1.5. At x = 1 the distances are 1, 0 and 2."""
    found = _numbers(_layer([0, 1, 3], alpha=3.0).probabilities(np.array([[1.0]], np.float32)))
    masses = np.exp([-2.0, 0.0, -4.0])
    np.testing.assert_allclose(found[:, 0, 0], masses / masses.sum(), rtol=1e-5)


def test_halfway_between_two_bins_both_are_as_likely():
    found = _numbers(_layer([0, 1], alpha=7.0).probabilities(np.array([[0.5]], np.float32)))
    np.testing.assert_allclose(found[:, 0, 0], [0.5, 0.5], rtol=1e-6)


def test_every_channel_has_bins_of_its_own():
    layer = StochasticQuantizer(2, alpha=50.0, group="channel")
    layer.build((None, 2))
    layer.bins.assign(np.array([[0, 1], [10, 30]], np.float32))
    x = np.array([[0.1, 11.0], [0.9, 29.0]], np.float32)
    for training in (False, True):
        np.testing.assert_array_equal(_numbers(layer(x, training=training)), [[0, 10], [1, 30]])


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("bins", [[0.0, 1.0, 3.0], [0.0, 0.5]])
def test_bins_are_drawn_as_often_as_they_are_likely(bins, training):
    """Both ways of drawing: Gumbel noise in training, the inverse of the distribution function at inference."""
    layer = _layer(bins, alpha=2.0, seed=3)
    x = np.full((20_000, 1), 0.4, np.float32)
    drawn = _numbers(layer(x, training=training))
    assert set(np.unique(drawn)) == set(bins)  # exactly the bins, to the last bit
    expected = _numbers(layer.probabilities(x[:1]))[:, 0, 0]
    found = [np.mean(drawn == value) for value in bins]
    np.testing.assert_allclose(found, expected, atol=4 * np.sqrt(0.25 / len(x)))  # four standard deviations at most


def test_far_outside_the_nearest_bin_is_drawn():
    """Scores of minus thousands leave numbers."""
    layer = _layer([0, 1], alpha=100.0)
    x = np.array([[-900.0], [900.0]], np.float32)
    np.testing.assert_allclose(_numbers(layer.upper(x))[:, 0], [0, 1], atol=1e-30)
    for training in (False, True):
        np.testing.assert_array_equal(_numbers(layer(x, training=training)), [[0], [1]])


def test_the_gradient_at_inference_is_that_of_the_expected_output():
    """Two bins 0 and d: E = d s, s = sigmoid(alpha (2x - d) / d), so dE/dx = 2 alpha s (1 - s); zero beyond the bins."""
    layer = _layer([0, 0.5], alpha=3.0)
    x = np.array([[-0.2], [0.1], [0.25], [0.7]], np.float32)
    _, gradient = value_and_gradient(lambda at: ops.sum(layer(at)), x)
    upper = 1 / (1 + np.exp(-3.0 * (2 * x[1:3] - 0.5) / 0.5))
    expected = 2 * 3.0 * upper * (1 - upper)
    np.testing.assert_allclose(_numbers(gradient)[1:3], expected, rtol=1e-4)
    np.testing.assert_allclose(_numbers(gradient)[[0, 3]], 0, atol=1e-6)


def test_open_it_has_the_slope_of_a_straight_line_everywhere():
    layer = _layer([0, 0.5], seed=1)
    x = np.array([[-0.2], [0.1], [0.7]], np.float32)
    closed, opened = layer, layer.opened()
    opened.build((None, 1))
    opened.set_weights(closed.get_weights())
    value, gradient = value_and_gradient(lambda at: ops.sum(opened(at)), x)
    np.testing.assert_array_equal(_numbers(gradient), np.ones((3, 1)))
    assert float(value) == pytest.approx(float(ops.sum(closed(x))))  # the same draws


def test_the_gradient_in_training_is_that_of_the_relaxed_draw():
    """Of the same noise, in NumPy: s_k = softmax((scores + g) / t), d/dx of sum_k b_k s_k by central differences."""
    layer = _layer([0, 0.5, 1.0], alpha=2.0, start=0.7, seed=5)
    state = _numbers(layer.generator.state)
    x = np.array([[0.3]], np.float32)
    _, gradient = value_and_gradient(lambda at: ops.sum(layer(at, training=True)), x)
    layer.generator.state.assign(state.astype("uint32"))
    noise = _numbers(keras.random.uniform((3, 1, 1), minval=1e-7, seed=layer.generator))[:, 0, 0]
    gumbel, bins = -np.log(-np.log(noise)), np.array([0, 0.5, 1.0])

    def relaxed(at: float) -> float:
        masses = np.exp((-2.0 * np.abs(at - bins) / 0.5 + gumbel) / 0.7)
        return float((masses * bins).sum() / masses.sum())

    expected = (relaxed(0.3 + 1e-5) - relaxed(0.3 - 1e-5)) / 2e-5
    assert float(_numbers(gradient)[0, 0]) == pytest.approx(expected, rel=1e-3)
    assert expected != 0


def test_bins_are_learned_and_stay_in_order():
    """A step that would swap two bins swaps their names: the higher one stays the last."""
    layer = _layer([0, 1], alpha=4.0)
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
    model.train_on_batch(np.array([[0.2], [0.8]], np.float32), np.array([[2.0], [-2.0]], np.float32))
    bins = _numbers(layer.bins)
    assert bins[0] < bins[1]
    assert not np.array_equal(bins, [0, 1])
    np.testing.assert_array_equal(_numbers(layer.bins.constraint(ops.convert_to_tensor([3.0, 1.0, 2.0]))), [1, 2, 3])


def test_the_penalties_are_those_of_the_formulas():
    """Bins 0, 1, 3: distances 1 and 2, mean 1.5, shares 2/3 and 4/3: ((1/3)^2 + (1/3)^2) / 2 = 1/9; (4 / 2 * 4/3)^2 = 64/9."""
    bins = np.array([0, 1, 3], np.float32)
    np.testing.assert_allclose(_numbers(relative_distances(bins)), [2 / 3, 4 / 3], rtol=1e-6)
    assert float(BinPenalty(1.0, 0.0, 4.0)(bins)) == pytest.approx(1 / 9)
    assert float(BinPenalty(0.0, 1.0, 4.0)(bins)) == pytest.approx(64 / 9)
    assert float(BinPenalty(2.0, 3.0, 4.0)(bins)) == pytest.approx(2 / 9 + 64 / 3)
    even = np.array([[0, 1, 2], [4, 6, 8]], np.float32)  # alpha / 2, squared, is the least slope
    assert float(BinPenalty(1.0, 1.0, 4.0)(even)) == pytest.approx(4)


def test_entropy_and_mutual_information_of_cases_worked_by_hand():
    half = np.log(2)
    np.testing.assert_allclose(_numbers(binary_entropy(np.array([0.5, 0.25], np.float32))), [half, 0.5623351], rtol=1e-5)
    certain = np.array([[[1.0]], [[0.0]]], np.float32)  # two members who contradict each other: ln 2
    assert _numbers(mutual_information(certain)) == pytest.approx(half, rel=1e-4)
    alike = np.full((4, 2, 3), 0.3, np.float32)  # who say the same, sure or not: nothing
    np.testing.assert_allclose(_numbers(mutual_information(alike)), [0, 0], atol=1e-6)
    # 0.25 and 0.75: H(0.5) - H(0.25); a second feature on which they agree halves the mean.
    parts = np.array([[[0.25, 0.5]], [[0.75, 0.5]]], np.float32)
    assert _numbers(mutual_information(parts)) == pytest.approx((half - 0.5623351) / 2, rel=1e-4)


def test_mutual_information_is_not_negative():
    """The paper's summary prints the sign reversed. The entropy is concave, so the mean's is at least the mean."""
    p = np.random.default_rng(0).uniform(size=(5, 200, 3)).astype(np.float32)
    found = _numbers(mutual_information(p))
    assert found.min() >= 0
    assert found.max() <= np.log(2)
    assert found.mean() > 0.05


def test_an_odd_number_of_bins_has_its_middle_below():
    layer = _layer([0, 1, 2], alpha=60.0)
    np.testing.assert_allclose(_numbers(layer.upper(np.array([[0.0], [1.0], [2.0]], np.float32)))[:, 0], [0, 0, 1], atol=1e-6)


def test_a_seed_repeats_the_draws_and_a_file_goes_on_with_them(tmp_path: Path):
    def network(seed: int) -> keras.Model:
        return keras.Sequential([keras.Input((3,)), StochasticQuantizer(4, seed=seed, name="sq")])

    x = np.random.default_rng(0).uniform(size=(64, 3)).astype(np.float32)
    first, again, other = network(1), network(1), network(2)
    draws = [_numbers(first(x)) for _ in range(2)]
    assert not np.array_equal(*draws)  # at inference too
    np.testing.assert_array_equal(_numbers(again(x)), draws[0])
    assert not np.array_equal(_numbers(other(x)), draws[0])
    again.layers[0].temperature.assign(0.3)
    again.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert loaded.layers[0].get_config() == again.layers[0].get_config()
    assert float(loaded.layers[0].temperature) == pytest.approx(0.3)
    np.testing.assert_array_equal(_numbers(loaded(x)), draws[1])  # the second draw, not the first again


def test_settings_that_make_no_sense_are_refused():
    for settings in ({"bins": 1}, {"alpha": 0.0}, {"low": 1.0, "high": 1.0}):
        with pytest.raises(ValueError, match="Expected bins >= 2, alpha > 0 and low < high"):
            StochasticQuantizer(**settings)
