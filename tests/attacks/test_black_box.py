"""Attacks without gradients, on networks and on the int8 file: bounds, budgets, repeatability, what they break."""

from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust.attacks.boundary import Boundary
from tinyrobust.attacks.estimator import CompiledClassifier
from tinyrobust.attacks.hopskipjump import HopSkipJump
from tinyrobust.attacks.noise import Noise
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.square import Square, _pyramids
from tinyrobust.attacks.zoo import ZeroOrder
from tinyrobust.errors import RecipeError
from tinyrobust.robustness.targets import int8

_BOUNDED = {
    "square-linf": (Square, {"norm": "linf", "epsilon": 0.2, "iterations": 100}),
    "square-l2": (Square, {"norm": "l2", "epsilon": 1.0, "iterations": 100}),
    "uniform-linf": (Noise, {"kind": "uniform", "norm": "linf", "epsilon": 0.3}),
    "uniform-l1": (Noise, {"kind": "uniform", "norm": "l1", "epsilon": 5.0}),
    "gaussian-l2": (Noise, {"kind": "gaussian", "norm": "l2", "epsilon": 1.5}),
    "salt-linf": (Noise, {"kind": "salt", "norm": "linf", "epsilon": 0.3}),
    "salt-l2": (Noise, {"kind": "salt", "norm": "l2", "epsilon": 1.5}),
}
_NEAREST = {
    "boundary": (Boundary, {"steps": 20}),
    "hop-skip-jump-l2": (HopSkipJump, {"steps": 4, "queries": 200}),
    "hop-skip-jump-linf": (HopSkipJump, {"norm": "linf", "steps": 4, "queries": 200}),
    "zoo": (ZeroOrder, {"steps": 30, "searches": 2}),
}


@pytest.fixture(scope="module")
def small(images) -> tuple[np.ndarray, np.ndarray]:
    return images[0][:12], images[1][:12]


def _broken(target: Any, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return target.predict(x).argmax(axis=1) != y


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("name", _BOUNDED)
def test_examples_stay_in_ball_and_box_and_help(name, drop, targets, images) -> None:
    kind, settings = _BOUNDED[name]
    target, (x, y) = targets["undefended"], images
    found = kind(target, **settings, drop=drop).generate(x, y)
    assert distance(found - x, settings["norm"]).max() <= settings["epsilon"] * (1 + 1e-5)
    assert found.min() >= 0
    assert found.max() <= 1
    assert _broken(target, found, y).sum() > _broken(target, x, y).sum()
    assert not (_broken(target, x, y) & ~_broken(target, found, y)).any() or not drop


@pytest.mark.parametrize("name", _BOUNDED)
def test_a_sample_does_not_depend_on_its_neighbours(name, targets, images) -> None:
    kind, settings = _BOUNDED[name]
    target, (x, y) = targets["undefended"], images
    together = kind(target, **settings, seed=4).generate(x[:20], y[:20])
    apart = kind(target, **settings, seed=4, batch_size=3).generate(x[10:20], y[10:20])
    np.testing.assert_allclose(apart, together[10:], atol=1e-6)
    other = kind(target, **settings, seed=5, drop=False).generate(x[:20], y[:20])
    assert (other != kind(target, **settings, seed=4, drop=False).generate(x[:20], y[:20])).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_uses_its_space_and_its_budget(norm, targets, images) -> None:
    target, (x, y) = targets["robust"], images
    small, large = {"linf": (0.1, 0.3), "l2": (0.5, 2.0)}[norm]
    standing = [
        1 - _broken(target, Square(target, norm=norm, epsilon=epsilon, iterations=steps).generate(x, y), y).mean()
        for epsilon, steps in ((small, 20), (small, 300), (large, 300))
    ]
    assert standing[0] > standing[1] > standing[2]
    assert standing[2] < 0.25
    assert standing[1] > 0.6
    before = target.queries
    Square(target, norm=norm, epsilon=small, iterations=20, drop=False).generate(x, y)
    assert target.queries - before == 21 * len(x)


def test_square_restarts_only_what_stands(targets, images) -> None:
    target, (x, y) = targets["undefended"], images
    once, thrice = (
        _broken(target, Square(target, epsilon=0.1, iterations=60, restarts=runs).generate(x, y), y) for runs in (1, 3)
    )
    assert not (once & ~thrice).any()
    assert thrice.sum() > once.sum()


def test_square_reaches_a_class(targets, images) -> None:
    target, (x, y) = targets["undefended"], images
    goal = (y + 1) % 10
    found = Square(target, epsilon=0.3, iterations=200, targeted=True).generate(x, goal)
    assert (target.predict(found).argmax(axis=1) == goal).mean() > 0.5


@pytest.mark.parametrize("shape", [(5, 9, 3), (2, 2, 1), (1, 7, 2)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_on_images_of_any_shape(shape, norm) -> None:
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)])
    target = CompiledClassifier(network)
    x = np.random.default_rng(0).uniform(size=(10, *shape)).astype(np.float32)
    found = Square(target, norm=norm, epsilon=0.7, iterations=60, drop=False).generate(x)
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
    found = Square(target, epsilon=0.2, iterations=100).generate(x, y)
    assert _broken(target, found, y).mean() > 0.7
    assert target.queries > 0


@pytest.mark.parametrize("name", _NEAREST)
def test_nearest_examples_are_adversarial_and_the_same_every_time(name, targets, small) -> None:
    kind, settings = _NEAREST[name]
    target, (x, y) = targets["undefended"], small
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - ART's generator is put back
    found = kind(target, **settings, seed=3).generate(x, y)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    changed = (found != x).any(axis=(1, 2, 3))
    assert changed.mean() >= 0.5
    assert _broken(target, found, y)[changed].all()
    assert found.min() >= 0
    assert found.max() <= 1
    again = kind(target, **settings, seed=3).generate(x[4:6], y[4:6])
    np.testing.assert_allclose(again, found[4:6], atol=1e-5)


@pytest.mark.parametrize("name", _NEAREST)
def test_examples_beyond_epsilon_are_none(name, targets, small) -> None:
    kind, settings = _NEAREST[name]
    target, (x, y) = targets["undefended"], small
    norm = settings.get("norm", "l2")
    free = distance(kind(target, **settings).generate(x, y) - x, norm)
    radius = float(np.median(free[free > 0]))
    held = kind(target, **settings, epsilon=radius).generate(x, y)
    np.testing.assert_array_equal((held != x).any(axis=(1, 2, 3)), (free > 0) & (free <= radius * (1 + 1e-6)))


def test_decisions_of_the_file_are_enough(digits_net, small) -> None:
    target, (x, y) = int8(digits_net.tflite), (array[:3] for array in small)
    found = HopSkipJump(target, steps=2, queries=100).generate(x, y)
    assert _broken(target, found, y).all()
    assert distance(found - x, "l2").max() < 4


@pytest.mark.parametrize("kind", [Boundary, HopSkipJump])
def test_a_class_that_noise_does_not_leave_is_left_alone(kind) -> None:
    network = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(2, kernel_initializer="zeros")]
    )
    network.layers[-1].bias.assign([1.0, 0.0])
    x = np.full((2, 4, 4, 1), 0.5, np.float32)
    np.testing.assert_array_equal(kind(CompiledClassifier(network), steps=2).generate(x), x)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Square, {"epsilon": 0.1, "norm": "l1"}),
        (Square, {"epsilon": 0.1, "iterations": 0}),
        (Square, {"epsilon": 0.1, "restarts": 0}),
        (Square, {"epsilon": 0.1, "initial_share": 0.0}),
        (Noise, {"epsilon": 0.1, "kind": "pepper"}),
        (Noise, {"epsilon": 0.1, "draws": 0}),
        (Boundary, {"steps": 0}),
        (Boundary, {"targeted": True}),
        (HopSkipJump, {"norm": "l1"}),
        (ZeroOrder, {"coordinates": 0}),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(kind, settings, targets) -> None:
    with pytest.raises(RecipeError, match=r"Expected .*Received: "):
        kind(targets["undefended"], **settings)


def test_square_wants_images() -> None:
    target = CompiledClassifier(keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]))
    with pytest.raises(RecipeError, match=r"inputs \[h, w, c\]"):
        Square(target, epsilon=0.1)
