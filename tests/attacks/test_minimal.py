"""Carlini and Wagner's attacks and DeepFool: exact on linear networks, sound and repeatable on trained ones."""

from itertools import combinations
from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust.attacks.cw import CarliniWagner
from tinyrobust.attacks.deepfool import DeepFool
from tinyrobust.attacks.estimator import CompiledClassifier
from tinyrobust.attacks.nearer import nearer
from tinyrobust.attacks.norms import distance
from tinyrobust.errors import ModelFileError, RecipeError

_RANDOM = np.random.default_rng(0)
# Far from the edges of the box: the nearest boundary of a linear network has a closed form.
_X = _RANDOM.uniform(0.45, 0.55, (20, 6)).astype(np.float32)
_ATTACKS = {
    "carlini-l2": (CarliniWagner, {"norm": "l2"}),
    "carlini-linf": (CarliniWagner, {"norm": "linf"}),
    "carlini-l0": (CarliniWagner, {"norm": "l0"}),
    "deepfool-l2": (DeepFool, {"norm": "l2"}),
    "deepfool-linf": (DeepFool, {"norm": "linf"}),
}


def _linear(scale: float = 1.0) -> tuple[CompiledClassifier, np.ndarray, np.ndarray]:
    """Logits scale * (W x + b), of three classes, near a tie at the centre of the box."""
    random = np.random.default_rng(1)
    weights = random.normal(size=(6, 3)).astype(np.float32)
    biases = (-0.5 * weights.sum(axis=0)).astype(np.float32)
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    network.set_weights([scale * weights, scale * biases])
    return CompiledClassifier(network), weights, biases


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
    kind, settings = _ATTACKS[name]
    target, weights, biases = _linear(scale)
    found = kind(target, **settings).generate(_X)
    borders = _closed_form(weights, biases, 2 if settings["norm"] == "l2" else 1)
    # The margin that Carlini and Wagner lower leads to the second class first, DeepFool compares the classes.
    expected = borders[:, 0] if kind is CarliniWagner else borders.min(axis=1)
    far = distance(found - _X, settings["norm"])
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

    found = CarliniWagner(target, norm="l0").generate(_X)
    expected = np.array([fewest(row) for row in range(len(_X))])
    assert (target.predict(found).argmax(axis=1) != label).all()
    np.testing.assert_array_equal(distance(found - _X, "l0"), expected)


@pytest.mark.parametrize("name", _ATTACKS)
def test_examples_are_adversarial_in_the_box_and_the_same_every_time(name, targets, images) -> None:
    kind, settings = _ATTACKS[name]
    target, (x, y) = targets["robust"], (array[:30] for array in images)
    small: dict[str, Any] = {"steps": 15} if kind is CarliniWagner else {}
    found = kind(target, **settings, **small).generate(x, y)
    right = target.predict(x).argmax(axis=1) == y
    assert (target.predict(found).argmax(axis=1) != y).all()
    np.testing.assert_array_equal(found[~right], x[~right])  # broken already: left alone
    assert found.min() >= 0
    assert found.max() <= 1
    again = kind(target, **settings, **small, batch_size=7).generate(x, np.eye(10)[y])
    np.testing.assert_allclose(distance(again - x, settings["norm"]), distance(found - x, settings["norm"]), atol=2e-3)


@pytest.mark.parametrize("norm", ["l2", "linf", "l0"])
def test_it_reaches_a_class(norm, targets, images) -> None:
    target, (x, y) = targets["undefended"], (array[:20] for array in images)
    goal = (y + 1) % 10
    found = CarliniWagner(target, norm=norm, targeted=True, steps=30).generate(x, goal)
    assert (target.predict(found).argmax(axis=1) == goal).mean() >= 0.95
    near = CarliniWagner(target, norm=norm, steps=30).generate(x, y)
    assert (distance(found - x, norm) >= distance(near - x, norm) * 0.95).mean() >= 0.9  # both are searches


def test_confidence_is_a_margin_in_logits(targets, images) -> None:
    target, (x, y) = targets["undefended"], (array[:20] for array in images)
    found = CarliniWagner(target, confidence=2.0, steps=30).generate(x, y)
    logits = target.predict(found)
    own = logits[np.arange(20), y]
    logits[np.arange(20), y] = -np.inf
    changed = (found != x).any(axis=(1, 2, 3))
    assert changed.mean() >= 0.9
    assert (logits.max(axis=1) - own)[changed].min() >= 2.0 - 1e-4


@pytest.mark.parametrize("kind", [CarliniWagner, DeepFool])
def test_a_network_without_slope_is_left_alone(kind) -> None:
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="zeros")])
    network.layers[-1].bias.assign([1.0, 0.0, 0.0])
    x = np.full((3, 4), 0.5, np.float32)
    target = CompiledClassifier(network)
    for norm in ("l2", "linf"):
        np.testing.assert_array_equal(kind(target, norm=norm, steps=5).generate(x), x)
    if kind is CarliniWagner:
        np.testing.assert_array_equal(kind(target, norm="l0", steps=5).generate(x), x)


def test_bisection_ends_on_the_boundary() -> None:
    x, found = np.zeros((3, 2), np.float32), np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    border = np.array([0.25, 0.5, 0.75])
    cut = nearer(x, found, lambda tried: tried.max(axis=1) > border, halvings=10)
    assert (cut.max(axis=1) > border).all()
    np.testing.assert_allclose(cut.max(axis=1), border, atol=2**-9)


def test_passes_are_counted(targets, images) -> None:
    target, (x, y) = targets["undefended"], (array[:10] for array in images)
    before = target.forward_passes, target.backward_passes
    CarliniWagner(target, steps=4, searches=3, drop=False).generate(x, y)
    assert target.backward_passes - before[1] == 10 * (4 * 3 + 1)
    assert target.forward_passes - before[0] >= 10 * (5 * 3 + 1)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (CarliniWagner, {"norm": "l1"}),
        (CarliniWagner, {"steps": 0}),
        (CarliniWagner, {"searches": 0}),
        (CarliniWagner, {"confidence": -1.0}),
        (CarliniWagner, {"learning_rate": 0.0}),
        (DeepFool, {"norm": "l0"}),
        (DeepFool, {"steps": 0}),
        (DeepFool, {"candidates": 0}),
        (DeepFool, {"targeted": True}),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(kind, settings) -> None:
    with pytest.raises(RecipeError, match=r"Expected .*Received: "):
        kind(_linear()[0], **settings)


@pytest.mark.parametrize("kind", [CarliniWagner, DeepFool])
def test_a_target_without_gradients_is_refused(kind, digits_net) -> None:
    from tinyrobust.robustness.targets import int8

    with pytest.raises(ModelFileError, match="Expected a target with gradients"):
        kind(int8(digits_net.tflite))
