"""Attacks without gradients, on networks and on the int8 file: bounds, budgets, repeatability, what they break."""

from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.specs import Boundary, HopSkipJump, Noise, Square
from tinyrobust.attacks.square import _pyramids
from tinyrobust.errors import RecipeError
from tinyrobust.robustness.targets import int8

_BOUNDED = {
    "square-linf": (Square.of(norm="linf", iterations=100), 0.2),
    "square-l2": (Square.of(norm="l2", iterations=100), 1.0),
    "uniform-linf": (Noise.of(noise="uniform", norm="linf"), 0.3),
    "uniform-l1": (Noise.of(noise="uniform", norm="l1"), 5.0),
    "gaussian-l2": (Noise.of(noise="gaussian", norm="l2"), 1.5),
    "salt-linf": (Noise.of(noise="salt", norm="linf"), 0.3),
    "salt-l2": (Noise.of(noise="salt", norm="l2"), 1.5),
}


@pytest.fixture(scope="module")
def small(images) -> tuple[np.ndarray, np.ndarray]:
    return images[0][:12], images[1][:12]


def _broken(target: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return target.predict(x).argmax(axis=1) != y


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("name", _BOUNDED)
def test_examples_stay_in_ball_and_box_and_help(name, drop, targets, images) -> None:
    (spec, epsilon), target, (x, y) = _BOUNDED[name], targets["undefended"], images
    found = spec.build(target, epsilon, drop=drop).generate(x, y)
    assert distance(found - x, spec.norm).max() <= epsilon * (1 + 1e-5)
    assert found.min() >= 0
    assert found.max() <= 1
    assert _broken(target, found, y).sum() > _broken(target, x, y).sum()
    assert not (_broken(target, x, y) & ~_broken(target, found, y)).any() or not drop


@pytest.mark.parametrize("name", _BOUNDED)
def test_a_sample_does_not_depend_on_its_neighbours(name, targets, images) -> None:
    (spec, epsilon), target, (x, y) = _BOUNDED[name], targets["undefended"], images
    together = spec.build(target, epsilon, seed=4).generate(x[:20], y[:20])
    apart = spec.build(target, epsilon, seed=4, batch_size=3).generate(x[10:20], y[10:20])
    np.testing.assert_allclose(apart, together[10:], atol=1e-6)
    other = spec.build(target, epsilon, seed=5, drop=False).generate(x[:20], y[:20])
    assert (other != spec.build(target, epsilon, seed=4, drop=False).generate(x[:20], y[:20])).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_uses_its_space_and_its_budget(norm, targets, images) -> None:
    target, (x, y) = targets["robust"], images
    small, large = {"linf": (0.1, 0.3), "l2": (0.5, 2.0)}[norm]
    standing = [
        1 - _broken(target, Square.of(norm=norm, iterations=steps).build(target, epsilon).generate(x, y), y).mean()
        for epsilon, steps in ((small, 20), (small, 300), (large, 300))
    ]
    assert standing[0] > standing[1] > standing[2]
    assert standing[2] < 0.25
    assert standing[1] > 0.6
    before = target.queries
    Square.of(norm=norm, iterations=20).build(target, small, drop=False).generate(x, y)
    assert target.queries - before == 21 * len(x)


def test_square_restarts_only_what_stands(targets, images) -> None:
    target, (x, y) = targets["undefended"], images
    once, thrice = (
        _broken(target, Square.of(iterations=60, restarts=runs).build(target, 0.1).generate(x, y), y) for runs in (1, 3)
    )
    assert not (once & ~thrice).any()
    assert thrice.sum() > once.sum()


def test_square_reaches_a_class(targets, images) -> None:
    target, (x, y) = targets["undefended"], images
    goal = (y + 1) % 10
    found = Square.of(iterations=200).build(target, 0.3, targeted=True).generate(x, goal)
    assert (target.predict(found).argmax(axis=1) == goal).mean() > 0.5


@pytest.mark.parametrize("shape", [(5, 9, 3), (2, 2, 1), (1, 7, 2)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_on_images_of_any_shape(shape, norm, white_box) -> None:
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)])
    target = white_box(network)
    x = np.random.default_rng(0).uniform(size=(10, *shape)).astype(np.float32)
    found = Square.of(norm=norm, iterations=60).build(target, 0.7, drop=False).generate(x)
    assert np.isfinite(found).all()
    assert distance(found - x, norm).max() <= 0.7 * (1 + 1e-5)
    assert (target.predict(found).argmax(axis=1) != target.predict(x).argmax(axis=1)).mean() > 0.4


def test_pyramids_are_of_norm_one_opposite_and_highest_in_their_middles() -> None:
    pattern = _pyramids(7)
    assert np.linalg.norm(pattern) == pytest.approx(1)
    assert (pattern[:3] > 0).all()
    assert (pattern[3:] < 0).all()
    assert pattern.argmax() == 1 * 7 + 3
    assert pattern.argmin() == 5 * 7 + 3
    np.testing.assert_array_equal(_pyramids(1), [[-1]])


def test_on_the_file_square_finds_what_the_scores_show(digits_net, images) -> None:
    target, (x, y) = int8(digits_net.tflite), (array[:30] for array in images)
    found = Square.of(iterations=100).build(target, 0.2).generate(x, y)
    assert _broken(target, found, y).mean() > 0.7
    assert target.queries > 0


def test_decisions_of_the_file_are_enough(digits_net, small) -> None:
    target, (x, y) = int8(digits_net.tflite), (array[:3] for array in small)
    found = HopSkipJump.of(steps=2, queries=100).build(target).generate(x, y)
    assert _broken(target, found, y).all()
    assert distance(found - x, "l2").max() < 4


@pytest.mark.parametrize("spec", [Boundary, HopSkipJump])
def test_a_class_that_noise_does_not_leave_is_left_alone(spec, white_box) -> None:
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2, kernel_initializer="zeros")]
    )
    network.layers[-1].bias.assign([1.0, 0.0])
    x = np.full((2, 4, 4, 1), 0.5, np.float32)
    np.testing.assert_array_equal(spec.of(steps=2).build(white_box(network)).generate(x), x)


def test_square_wants_images_or_sound(white_box) -> None:
    table = white_box(keras.Sequential([keras.Input((6, 2)), keras.layers.Flatten(), keras.layers.Dense(3)]))
    with pytest.raises(RecipeError, match=r"Expected inputs \[h, w, c\]"):
        Square.of().build(table, 0.1)


def test_square_has_no_ratio_to_the_loudness_of_images(targets) -> None:
    with pytest.raises(RecipeError, match=r"norm linf or l2.* norm='snr'"):
        Square.of(norm="snr").build(targets["undefended"], 0.1)
