"""Carlini and Wagner's attacks and DeepFool: exact on linear networks, sound and repeatable on trained ones."""

from itertools import combinations

import keras
import numpy as np
import pytest

from tinyrobust.attacks.bisection import bisect
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.specs import CarliniWagner, DeepFool
from tinyrobust.robustness.targets import KerasTarget

_RANDOM = np.random.default_rng(0)
# Far from the edges of the box: the nearest boundary of a linear network has a closed form.
_X = _RANDOM.uniform(0.45, 0.55, (20, 6)).astype(np.float32)
_ATTACKS = {
    "carlini-l2": (CarliniWagner, "l2"),
    "carlini-linf": (CarliniWagner, "linf"),
    "carlini-l0": (CarliniWagner, "l0"),
    "deepfool-l2": (DeepFool, "l2"),
    "deepfool-linf": (DeepFool, "linf"),
}


def _linear(scale: float = 1.0) -> tuple[KerasTarget, np.ndarray, np.ndarray]:
    """Logits scale * (W x + b), of three classes, near a tie at the centre of the box."""
    random = np.random.default_rng(1)
    weights = random.normal(size=(6, 3)).astype(np.float32)
    biases = (-0.5 * weights.sum(axis=0)).astype(np.float32)
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    network.set_weights([scale * weights, scale * biases])
    return KerasTarget(network), weights, biases


def _closed_form(weights: np.ndarray, biases: np.ndarray, dual: int) -> np.ndarray:
    """The distances [n, classes] to the boundaries with the other classes: |gap| / |difference of weights|, dual norm."""
    logits = _X @ weights + biases
    label = logits.argmax(axis=1)
    gap = logits.max(axis=1, keepdims=True) - logits
    difference = weights.T[label][:, np.newaxis] - weights.T[np.newaxis]
    far = gap / np.maximum(np.linalg.norm(difference, dual, axis=2), 1e-12)
    return np.take_along_axis(far, np.argsort(-logits, axis=1), axis=1)[:, 1:]


@pytest.mark.parametrize("scale", [1.0, 50.0, 1e-3])
@pytest.mark.parametrize("name", ["carlini-l2", "carlini-linf", "deepfool-l2", "deepfool-linf"])
def test_on_a_linear_network_it_finds_the_closed_form(name, scale) -> None:
    spec, norm = _ATTACKS[name]
    target, weights, biases = _linear(scale)
    found = spec.of(norm=norm).build(target).generate(_X)
    borders = _closed_form(weights, biases, 2 if norm == "l2" else 1)
    # The margin that Carlini and Wagner lower leads to the second class first, DeepFool compares the classes.
    expected = borders[:, 0] if spec is CarliniWagner else borders.min(axis=1)
    far = distance(found - _X, norm)
    assert (target.predict(found).argmax(axis=1) != target.predict(_X).argmax(axis=1)).all()
    assert (far >= borders.min(axis=1) * (1 - 1e-3)).all()
    assert (far <= expected * 1.02 + 1e-5).all(), far / expected


def test_on_a_linear_network_l0_is_the_smallest_set_of_values() -> None:
    target, weights, biases = _linear()
    label = (_X @ weights + biases).argmax(axis=1)

    def fewest(row: int) -> int:
        """By trying every set with every one of its values at either edge of the box."""
        for count in range(1, 7):
            for values in combinations(range(6), count):
                moved = np.repeat(_X[row : row + 1], 2**count, axis=0)
                moved[:, values] = (np.arange(2**count)[:, np.newaxis] >> np.arange(count)) & 1
                if ((moved @ weights + biases).argmax(axis=1) != label[row]).any():
                    return count
        return 7

    found = CarliniWagner.of(norm="l0").build(target).generate(_X)
    expected = np.array([fewest(row) for row in range(len(_X))])
    assert (target.predict(found).argmax(axis=1) != label).all()
    np.testing.assert_array_equal(distance(found - _X, "l0"), expected)


@pytest.mark.parametrize("name", _ATTACKS)
def test_examples_are_adversarial_in_the_box_and_the_same_every_time(name, targets, images) -> None:
    table, norm = _ATTACKS[name]
    target, (x, y) = targets["robust"], (array[:30] for array in images)
    spec = table.of(norm=norm, **({"steps": 15} if table is CarliniWagner else {}))
    found = spec.build(target).generate(x, y)
    right = target.predict(x).argmax(axis=1) == y
    assert (target.predict(found).argmax(axis=1) != y).all()
    np.testing.assert_array_equal(found[~right], x[~right])  # broken already: left alone
    assert found.min() >= 0
    assert found.max() <= 1
    again = spec.build(target, batch_size=7).generate(x, np.eye(10)[y])
    np.testing.assert_allclose(distance(again - x, norm), distance(found - x, norm), atol=2e-3)


@pytest.mark.parametrize("norm", ["l2", "linf", "l0"])
def test_it_reaches_a_class(norm, targets, images) -> None:
    target, (x, y) = targets["undefended"], (array[:20] for array in images)
    goal = (y + 1) % 10
    found = CarliniWagner.of(norm=norm, steps=30).build(target, targeted=True).generate(x, goal)
    assert (target.predict(found).argmax(axis=1) == goal).mean() >= 0.95
    near = CarliniWagner.of(norm=norm, steps=30).build(target).generate(x, y)
    assert (distance(found - x, norm) >= distance(near - x, norm) * 0.95).mean() >= 0.9  # both are searches


def test_confidence_is_a_margin_in_logits(targets, images) -> None:
    target, (x, y) = targets["undefended"], (array[:20] for array in images)
    found = CarliniWagner.of(confidence=2.0, steps=30).build(target).generate(x, y)
    logits = target.predict(found)
    own = logits[np.arange(20), y]
    logits[np.arange(20), y] = -np.inf
    changed = (found != x).any(axis=(1, 2, 3))
    assert changed.mean() >= 0.9
    assert (logits.max(axis=1) - own)[changed].min() >= 2.0 - 1e-4


@pytest.mark.parametrize("name", _ATTACKS)
def test_a_network_without_slope_is_left_alone(name) -> None:
    spec, norm = _ATTACKS[name]
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="zeros")])
    network.layers[-1].bias.assign([1.0, 0.0, 0.0])
    x = np.full((3, 4), 0.5, np.float32)
    np.testing.assert_array_equal(spec.of(norm=norm, steps=5).build(KerasTarget(network)).generate(x), x)


def test_bisection_ends_on_the_boundary() -> None:
    x, found = np.zeros((3, 2), np.float32), np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    border = np.array([0.25, 0.5, 0.75])
    cut = bisect(x, found, lambda tried: tried.max(axis=1) > border, halvings=10)
    assert (cut.max(axis=1) > border).all()
    np.testing.assert_allclose(cut.max(axis=1), border, atol=2**-9)


def test_passes_are_counted(targets, images) -> None:
    target, (x, y) = targets["undefended"], (array[:10] for array in images)
    before = target.forward_passes, target.backward_passes
    CarliniWagner.of(steps=4, searches=3).build(target, drop=False).generate(x, y)
    assert target.backward_passes - before[1] == 10 * (4 * 3 + 1)
    assert target.forward_passes - before[0] >= 10 * (5 * 3 + 1)
