"""PGD, APGD and FAB: what all of them promise, and exact answers on linear networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from art.estimators.classification import TensorFlowV2Classifier

from tinyrobust.attacks.apgd import _checkpoints
from tinyrobust.attacks.estimator import GraphClassifier
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.specs import Apgd, ApgdT, Fab, Fgsm, Pgd
from tinyrobust.errors import DataError
from tinyrobust.robustness.targets import KerasTarget

_EPSILON = {"linf": 0.15, "l2": 0.8, "l1": 3.0}
_ATTACKS = {
    "fgsm": (Fgsm, {}),
    "pgd": (Pgd, {"steps": 15, "random_starts": 2}),
    "apgd-ce": (Apgd, {"steps": 30}),
    "apgd-dlr": (Apgd, {"loss": "dlr", "steps": 30}),
    "apgd-t": (ApgdT, {"steps": 20, "targets": 3}),
    "fab": (Fab, {"steps": 20, "restarts": 2}),
    "fab-t": (Fab, {"steps": 20, "targets": 3}),
}


@pytest.fixture(scope="module")
def target(targets) -> GraphClassifier:
    return targets["undefended"]


@pytest.fixture(scope="module")
def few(images) -> tuple[np.ndarray, np.ndarray]:
    return images[0][:40], images[1][:40]


# Tracing takes the time: the losses of APGD in the other norms are walked by code that the rest walks too.
_EVERY = [
    pytest.param(name, norm, marks=pytest.mark.slow if name in ("apgd-dlr", "apgd-t") and norm != "linf" else [])
    for name in _ATTACKS
    for norm in _EPSILON
]


@pytest.mark.parametrize(("name", "norm"), _EVERY)
def test_examples_keep_their_bounds_and_break_the_network(name, norm, target, few) -> None:
    (x, y), (spec, fields) = few, _ATTACKS[name]
    found = spec.of(norm=norm, **fields).build(target, _EPSILON[norm]).generate(x, y)
    away, wrong = distance(found - x, norm), target.predict(found).argmax(1) != y
    assert found.min() >= 0
    assert found.max() <= 1
    if spec.minimal:
        assert wrong.mean() > 0.95
    else:
        assert away.max() <= _EPSILON[norm] + 1e-5
    broken = np.mean(wrong & (away <= _EPSILON[norm] + 1e-5))
    assert broken > (0.3 if name == "fgsm" and norm == "l1" else 0.6)


@pytest.mark.parametrize("name", ["pgd", "apgd-ce", "apgd-t"])
def test_leaving_broken_samples_alone_changes_no_verdict_and_saves_work(name, target, few) -> None:
    (x, y), (spec, fields) = few, _ATTACKS[name]
    verdicts, work = [], []
    for drop in (True, False):
        before = target.backward_passes
        found = spec.of(**fields).build(target, 0.15, drop=drop).generate(x, y)
        verdicts.append(target.predict(found).argmax(1) != y)
        work.append(target.backward_passes - before)
    np.testing.assert_array_equal(verdicts[0], verdicts[1])
    assert work[0] < work[1]


def test_passes_are_counted(target, few) -> None:
    x, y = few
    before = target.forward_passes, target.backward_passes
    Pgd.of(steps=7).build(target, 0.1, drop=False).generate(x, y)
    assert (target.forward_passes - before[0], target.backward_passes - before[1]) == (8 * len(x), 7 * len(x))


def test_another_epsilon_and_batch_is_not_traced_again(digits_net, few) -> None:
    traces = []

    def network(x: tf.Tensor) -> tf.Tensor:
        traces.append(1)
        return digits_net.model(x, training=False)

    target = GraphClassifier(network, (8, 8, 1), 10)
    Apgd.of(steps=10).build(target, 0.1).generate(*few)
    first = len(traces)
    Apgd.of(steps=10).build(target, 0.2).generate(few[0][:13], few[1][:13])
    assert len(traces) == first


def test_targeted_attacks_reach_the_class(target, few) -> None:
    x, y = few
    wanted = (y + 1) % 10
    for spec in (Pgd, Apgd):
        found = spec.of(steps=40).build(target, 0.4, targeted=True).generate(x, wanted)
        assert np.mean(target.predict(found).argmax(1) == wanted) > 0.7


def test_classifiers_that_are_called_from_python_are_attacked_eagerly(digits_net, few, target) -> None:
    x, y = few[0][:8], few[1][:8]
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    plain = TensorFlowV2Classifier(digits_net.model, 10, (8, 8, 1), loss_object=loss, clip_values=(0, 1))
    slow = Pgd.of(steps=3).build(plain, 0.15).generate(x, y)
    np.testing.assert_allclose(slow, Pgd.of(steps=3).build(target, 0.15).generate(x, y), atol=1e-4)


def test_labels_are_the_predictions_when_absent(target, few) -> None:
    x = few[0]
    predicted = target.predict(x).argmax(1)
    attack = Fgsm.of().build(target, 0.1)
    np.testing.assert_array_equal(attack.generate(x), attack.generate(x, predicted))
    with pytest.raises(DataError, match="the attack is targeted"):
        Fgsm.of().build(target, 0.1, targeted=True).generate(x)


def test_the_checkpoints_are_those_of_the_paper() -> None:
    assert (np.flatnonzero(_checkpoints("linf", 100)) + 1).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert _checkpoints("l2", 100)[[21, 40, 56, 98]].tolist() == [22, 19, 16, 6]
    assert (np.flatnonzero(_checkpoints("l1", 100)) + 1).tolist() == list(range(4, 101, 4))


def _linear(classes: int, size: int = 30) -> tuple[KerasTarget, np.ndarray, np.ndarray, np.ndarray]:
    """A linear network with inputs that are right and far from the box; and its weights."""
    random = np.random.default_rng(classes)
    weights = random.normal(size=(size, classes)).astype(np.float32)
    model = keras.Sequential([keras.Input((size,)), keras.layers.Dense(classes)])
    x = random.uniform(0.4, 0.6, (30, size)).astype(np.float32)
    model.layers[0].set_weights([weights, -(x.mean(0) @ weights)])
    target = KerasTarget(model)
    return target, x, target.predict(x).argmax(1), weights


_DUAL = {"linf": 1, "l2": 2, "l1": np.inf}


@pytest.mark.parametrize("norm", _DUAL)
@pytest.mark.parametrize(("classes", "targets"), [(2, None), (6, None), (6, 9)])
def test_fab_finds_the_distance_to_the_boundary_of_a_linear_network(classes, norm, targets) -> None:
    target, x, y, weights = _linear(classes)
    found = Fab.of(norm=norm, targets=targets, steps=60).build(target, 1e-6).generate(x, y)
    assert (target.predict(found).argmax(1) != y).all()
    logits = target.predict(x)
    exact = [
        min(
            (logits[row, y[row]] - logits[row, other]) / np.linalg.norm(weights[:, y[row]] - weights[:, other], _DUAL[norm])
            for other in range(classes)
            if other != y[row]
        )
        for row in range(len(x))
    ]
    ratio = distance(found - x, norm) / exact
    assert ratio.min() > 0.999
    assert ratio.max() < 1.004  # a step of the final bisection


def _most(weights: np.ndarray, x: np.ndarray, epsilon: float, norm: str) -> np.ndarray:
    """The most [n] that <weights, d> can be with d in the ball and x + d in [0, 1]: weights [n, size], in closed form.

    L-inf: every entry for itself. L1: the steepest entries first, each up to the box. L2: d = clip(t weights), where t, by
    bisection, is where the length is epsilon.
    """
    steep, room = np.abs(weights).astype(np.float64), np.where(weights > 0, 1 - x, x).astype(np.float64)
    if norm == "linf":
        return np.sum(steep * np.minimum(epsilon, room), axis=1)
    if norm == "l1":
        order = np.argsort(-steep, axis=1)
        steep, room = (np.take_along_axis(values, order, axis=1) for values in (steep, room))
        return np.sum(steep * np.clip(epsilon - (np.cumsum(room, axis=1) - room), 0, room), axis=1)
    low, high = np.zeros((len(x), 1)), np.full((len(x), 1), 1e6)
    for _ in range(100):
        middle = (low + high) / 2
        short = np.linalg.norm(np.minimum(middle * steep, room), axis=1, keepdims=True) < epsilon
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.sum(steep * np.minimum(low * steep, room), axis=1)


# The share of the most that is reached: 1 where the attack's steps lead there exactly. In L2, steps of a fixed length only come
# near to where the whole budget points along the gradient, and FGM, as published, is cut at the box. In L1, what is left of the
# random start is shifted away a little with every step.
_REACHED = {
    ("inside", "linf"): {Fgsm: 1, Pgd: 1, Apgd: 1},
    ("inside", "l2"): {Fgsm: 1, Pgd: 0.97, Apgd: 0.999},
    ("inside", "l1"): {Fgsm: 1, Pgd: 0.999, Apgd: 0.999},
    ("edge", "linf"): {Fgsm: 1, Pgd: 1, Apgd: 1},
    ("edge", "l2"): {Fgsm: 0.5, Pgd: 0.97, Apgd: 0.98},
    ("edge", "l1"): {Fgsm: 1, Pgd: 0.98, Apgd: 0.95},
}


@pytest.mark.parametrize("spec", [Fgsm, Pgd, Apgd])
@pytest.mark.parametrize(("place", "norm"), _REACHED)
def test_the_highest_margin_of_a_linear_network_is_reached(place, norm, spec) -> None:
    target, x, y, weights = _linear(2)
    x, y, epsilon = x[:10], y[:10], 0.2
    if place == "edge":  # a third of the entries is black, a third white, and the ball is larger than what is left
        x, epsilon = np.clip((x - 0.5) * 20, 0, 1), {"linf": 0.3, "l2": 2.0, "l1": 6.0}[norm]
        y = target.predict(x).argmax(1)
    budget = {} if spec is Fgsm else {"steps": 100}
    found = spec.of(norm=norm, loss="margin", **budget).build(target, epsilon, drop=False).generate(x, y)
    side = np.where(y == 0, 1, -1)
    gained = np.diff(target.predict(found) - target.predict(x), axis=1).ravel() * side
    most = _most((weights[:, 1] - weights[:, 0]) * side[:, np.newaxis], x, epsilon, norm)
    assert (gained / most).max() < 1 + 1e-4
    assert (gained / most).min() > _REACHED[place, norm][spec] - 1e-4
