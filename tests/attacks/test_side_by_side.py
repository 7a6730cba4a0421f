"""Boundary, HopSkipJump and ZOO on whole batches: right on linear networks, few questions, bounded memory."""

import keras
import numpy as np
import pytest

from tinyrobust.attacks import black_box
from tinyrobust.attacks.boundary import _Walks
from tinyrobust.attacks.estimator import FloatArray, GraphClassifier
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.specs import Boundary, HopSkipJump, Zoo

_LONG = {
    "boundary": Boundary.of(steps=250, directions=10, trials=10),
    "hop-skip-jump-l2": HopSkipJump.of(steps=15, queries=300),
    "hop-skip-jump-linf": HopSkipJump.of(steps=15, queries=300, norm="linf"),
    "zoo": Zoo.of(steps=150, searches=6, learning_rate=0.01),
}
_SHORT = {
    "boundary": Boundary.of(steps=3, directions=5, trials=4),
    "hop-skip-jump-l2": HopSkipJump.of(steps=2, queries=60),
    "hop-skip-jump-linf": HopSkipJump.of(steps=2, queries=60, norm="linf"),
    "zoo": Zoo.of(steps=4, searches=2, coordinates=8),
}


class _Asked(GraphClassifier):
    """Notes how many images every question holds."""

    def predict(self, x, batch_size=128, training_mode=False, **kwargs) -> FloatArray:  # noqa: ARG002 - ART's signature
        self.questions.append(len(x))
        return super().predict(x)


@pytest.fixture(scope="module")
def linear(white_box) -> tuple[GraphClassifier, np.ndarray, np.ndarray]:
    """Two classes apart by one hyperplane through the middle of the box; points near it, and its normal."""
    random = np.random.default_rng(1)
    normal = random.normal(size=8).astype(np.float32)
    network = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    weights = np.stack([normal, -normal], axis=1)
    network.set_weights([weights, -0.5 * weights.sum(axis=0)])
    return white_box(network), random.uniform(0.4, 0.6, (6, 8)).astype(np.float32), normal


@pytest.mark.parametrize("name", _LONG)
def test_on_a_linear_network_the_nearest_example_is_found(name, linear) -> None:
    spec, norm = _LONG[name], _LONG[name].norm
    target, x, normal = linear
    found = spec.build(target).generate(x)
    assert (target.predict(found).argmax(axis=1) != target.predict(x).argmax(axis=1)).all()
    nearest = np.abs((x - 0.5) @ normal) / np.linalg.norm(normal, 2 if norm == "l2" else 1)
    far = distance(found - x, norm)
    assert (far >= nearest * (1 - 1e-3)).all()
    assert np.median(far / nearest) < 1.1
    assert (far / nearest).max() < 1.5


def test_boundary_walks_start_with_room_around_them(linear) -> None:
    target, x, normal = linear
    attack, y = Boundary.of().build(target), target.predict(x).argmax(axis=1)
    nearest = x - ((x - 0.5) @ normal / (normal @ normal))[:, np.newaxis] * normal
    start = (x + 1.001 * (nearest - x)).astype(np.float32)
    beyond = attack._beyond(x, y, start)
    np.testing.assert_allclose(distance(beyond - x, "l2"), 1.5 * distance(start - x, "l2"), rtol=1e-4)
    inside = (x + 0.5 * (nearest - x)).astype(np.float32)
    np.testing.assert_array_equal(attack._beyond(x, y, inside), inside)  # farther out is not adversarial either


@pytest.mark.parametrize("name", _SHORT)
def test_one_question_holds_the_tries_of_all_samples(name, digits_net, images, white_box) -> None:
    target = white_box(digits_net.model, _Asked)
    asked = []
    for count in (3, 30):
        target.questions = []
        _SHORT[name].build(target, drop=False).generate(images[0][:count], images[1][:count])
        asked.append(target.questions)
    few, many = asked
    # Only the slowest of the samples asks for more: of 30 it is slower than of 3.
    assert len(many) < 2.5 * len(few)
    assert sum(many) > 8 * sum(few)


@pytest.mark.parametrize("name", _SHORT)
def test_what_is_laid_out_at_once_is_bounded_and_changes_nothing(name, digits_net, images, monkeypatch, white_box) -> None:
    target, (x, y) = white_box(digits_net.model, _Asked), (array[:12] for array in images)
    target.questions = []
    attack = _SHORT[name].build(target, seed=2, drop=False)
    whole = attack.generate(x, y)
    largest = max(target.questions)
    target.questions = []
    monkeypatch.setattr(black_box, "_MOST", 128)
    np.testing.assert_allclose(attack.generate(x, y), whole, atol=1e-5)
    assert max(target.questions) <= 128 < largest


def test_boundary_turns_on_the_sphere() -> None:
    random = np.random.default_rng(0)
    x, start = random.uniform(size=(2, 3, 5, 5, 1)).astype(np.float32)
    walks = _Walks(x, start, samples=4)
    rows = np.array([0, 2])
    tried, asked = walks.tries(rows, [np.random.default_rng(row) for row in range(3)], (-9.0, 9.0))
    assert asked.all()
    centre, point = x.reshape(3, 1, -1)[rows], start.reshape(3, 1, -1)[rows]
    radius = np.linalg.norm(point - centre, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(tried - centre, axis=-1), radius.repeat(4, axis=1), rtol=1e-5)
    # A hundredth of the radius away at first.
    np.testing.assert_allclose(np.linalg.norm(tried - point, axis=-1) / radius, 0.01, rtol=1e-3)


def test_blocks_cover_all_rows() -> None:
    parts = list(black_box.blocks(np.arange(10), black_box._MOST // 4))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert [len(part) for part in black_box.blocks(np.arange(2), 10 * black_box._MOST)] == [1, 1]
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(10))
