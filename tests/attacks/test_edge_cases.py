"""What attacks meet in the field: images at the edge of the box, tiny and huge radii, two classes, flat and infinite logits."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.attacks.base import BatchedAttack
from tinyrobust.attacks.estimator import GraphClassifier
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.specs import (
    Apgd,
    ApgdT,
    AttackSpec,
    CarliniWagner,
    DeepFool,
    Fab,
    Fgsm,
    Noise,
    Pgd,
    Square,
)
from tinyrobust.errors import DataError, RecipeError

_SHAPE = (4, 4, 1)


def _ball(spec: type[AttackSpec], *norms: str, **fields: object) -> dict[str, AttackSpec]:
    return {norm: spec.of(norm=norm, **fields) for norm in norms}


_KINDS = {
    "fgsm": _ball(Fgsm, "linf", "l2", "l1"),
    "pgd": _ball(Pgd, "linf", "l2", "l1", steps=10),
    "apgd-ce": _ball(Apgd, "linf", "l2", "l1", steps=15),
    "apgd-dlr": _ball(Apgd, "linf", loss="dlr", steps=15),
    "apgd-t": _ball(ApgdT, "linf", "l1", steps=15),
    "fab": _ball(Fab, "linf", "l2", "l1", steps=10, restarts=2),
    "fab-t": _ball(Fab, "l2", targets=9, steps=10),
    "cw": _ball(CarliniWagner, "l2", "linf", "l0", steps=10, searches=4),
    "deepfool": _ball(DeepFool, "l2", "linf", steps=10),
    "square": _ball(Square, "linf", "l2", iterations=30),
    "noise": _ball(Noise, "linf", "l2", "l1", draws=3),
}
_ATTACKS = {f"{name}-{norm}": spec for name, kinds in _KINDS.items() for norm, spec in kinds.items()}


def _images() -> np.ndarray:
    """Black, white, half and half, and at random; all entries but those of the last at the edge of the box."""
    random = np.random.default_rng(0).uniform(size=_SHAPE)
    halves = np.repeat([0.0, 1.0], 8).reshape(_SHAPE)
    return np.stack([np.zeros(_SHAPE), np.ones(_SHAPE), halves, random]).astype(np.float32)


def _linear(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases with which the centre of the box is a tie."""
    weights = np.random.default_rng(classes).normal(size=(16, classes)).astype(np.float32)
    return weights, (-0.5 * weights.sum(axis=0)).astype(np.float32)


@pytest.fixture(scope="module")
def linear(white_box) -> dict[int, GraphClassifier]:
    """Linear networks of two and three classes."""
    networks = {}
    for classes in (2, 3):
        network = keras.Sequential([keras.Input(_SHAPE), keras.layers.Flatten(), keras.layers.Dense(classes)])
        network.layers[-1].set_weights(_linear(classes))
        networks[classes] = white_box(network)
    return networks


def _checked(attack: BatchedAttack[AttackSpec], x: np.ndarray, y: np.ndarray, norm: str, epsilon: float) -> np.ndarray:
    found = attack.generate(x, y)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1
    if not attack.spec.minimal:
        assert distance(found - x, norm).max() <= epsilon * (1 + 1e-5) + 1e-7
    return found


_FEW = [(name, 2) for name in _ATTACKS] + [(name, 3) for name in _ATTACKS if "dlr" in name or "apgd-t" in name]


@pytest.mark.parametrize(("name", "classes"), _FEW)
def test_images_at_the_edge_at_any_radius_with_few_classes(name, classes, linear) -> None:
    target, norm, x = linear[classes], name.rsplit("-", 1)[1], _images()
    y = target.predict(x).argmax(axis=1)
    for epsilon in (1e-7, 1.0, 20.0):
        for drop in (True, False):
            attack = _ATTACKS[name].build(target, epsilon, drop=drop)
            found = _checked(attack, x, y, norm, epsilon)
            one = _ATTACKS[name].build(target, epsilon, drop=drop).generate(x[3:], y[3:])
            # A walk may take another path for a rounding of the last bit, in another batch: not in the norm it reaches.
            np.testing.assert_allclose(distance(one - x[3:], norm), distance(found[3:] - x[3:], norm), rtol=0.05, atol=1e-3)
        broken = target.predict(found).argmax(axis=1) != y
        if epsilon == 20.0 and name.split("-")[0] not in ("noise", "square"):  # the whole box: a linear network has no secrets
            assert broken.all()


def _logits(network: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> GraphClassifier:
    """A target of five classes: `network` of the brightness (the mean, [n, 1]) and of linear logits.

    Attacks on it run eagerly: a few steps on so small a network take less time than their tracing.
    """
    weights, biases = _linear(5)

    def call(x: tf.Tensor) -> tf.Tensor:
        flat = tf.reshape(x, (-1, 16))
        return network(tf.reduce_mean(flat, axis=1, keepdims=True), flat @ weights + biases)

    target = GraphClassifier(call, _SHAPE, 5)
    target.graphs = None
    return target


_HOSTILE = {
    # All logits are no numbers in half of the box, -inf on its rim.
    "no-number": lambda bright, logits: logits + tf.math.log(1.2 - 2 * bright),
    "one-is-none": lambda bright, logits: tf.concat([logits[:, :4], tf.math.log(0.6 - bright)], axis=1),
    "half-infinite": lambda bright, logits: logits / tf.nn.relu(0.6 - bright),
    "ties": lambda bright, logits: tf.zeros_like(logits) * bright,
}


@pytest.fixture(scope="module")
def hostile() -> dict[str, GraphClassifier]:
    return {name: _logits(network) for name, network in _HOSTILE.items()}


_QUICK = ["fgsm-l2", "pgd-linf", "apgd-dlr-linf", "fab-t-l2", "cw-l2", "deepfool-l2", "square-l2", "noise-linf"]
_EVERY = [pytest.param(name, marks=[] if name in _QUICK else pytest.mark.slow) for name in _ATTACKS]


@pytest.mark.parametrize("name", _EVERY)
def test_whatever_the_logits_are_examples_are_images_within_bounds(name, hostile) -> None:
    x = np.concatenate([_images(), np.random.default_rng(1).uniform(0, 0.9, (4, *_SHAPE)).astype(np.float32)])
    for target in hostile.values():
        y = target.predict(x).argmax(axis=1)
        _checked(_ATTACKS[name].build(target, 0.5, drop=False), x, y, name.rsplit("-", 1)[1], 0.5)


@pytest.fixture(scope="module")
def scaled() -> list[GraphClassifier]:
    return [_logits(lambda _, logits, by=by: by * logits) for by in (1.0, 1e30, 1e-30)]


# A cross-entropy sees the scale: saturated it has no gradient. Single steps are looked at elsewhere.
@pytest.mark.parametrize("name", ["apgd-dlr-linf", "fab-t-l2", "cw-l2", "cw-linf", "cw-l0", "deepfool-l2"])
def test_the_scale_of_the_logits_does_not_matter(name, scaled) -> None:
    x = np.random.default_rng(1).uniform(0.2, 0.8, (10, *_SHAPE)).astype(np.float32)
    y, norm = scaled[0].predict(x).argmax(axis=1), name.rsplit("-", 1)[1]
    found = [_ATTACKS[name].build(target, 0.3).generate(x, y) for target in scaled]
    broken = [np.mean(target.predict(images).argmax(axis=1) != y) for target, images in zip(scaled, found, strict=True)]
    away = [distance(images - x, norm).mean() for images in found]
    np.testing.assert_allclose(broken, broken[0], atol=0.11)
    np.testing.assert_allclose(away, away[0], rtol=0.05)


@pytest.mark.parametrize("spec", [Fgsm, Pgd, Apgd])
def test_what_names_a_class_for_numpy_names_it_for_attacks(spec) -> None:
    # Beyond a brightness, the last logit is no number: NumPy, the judge, then says class 4.
    target = _logits(lambda bright, logits: tf.concat([logits[:, :4], tf.math.log(0.55 - bright)], axis=1))
    x = np.full((1, *_SHAPE), 0.5, np.float32)
    label = target.predict(x).argmax(axis=1)
    found = Noise.of(noise="uniform", draws=40).build(target, 0.3).generate(x, label)
    assert (target.predict(found).argmax(axis=1) != label).all()
    attack = spec.of().build(target, 0.3)
    walked = attack._is_broken(tf.constant(target.predict(found)), tf.constant(label))
    np.testing.assert_array_equal(walked, target.predict(found).argmax(axis=1) != label)


def test_unbounded_balls_and_unknown_classes_are_refused(linear) -> None:
    with pytest.raises(RecipeError, match="Expected epsilon > 0"):
        Pgd.of().build(linear[3])
    with pytest.raises(DataError, match=r"Expected labels from 0 to 2\. Received: 0 to 3"):
        Fgsm.of().build(linear[3], 0.1).generate(_images(), np.array([0, 1, 2, 3]))
