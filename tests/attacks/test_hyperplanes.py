"""The shortest ways to hyperplanes in a box, against optimality conditions and bisection in double precision."""

import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.attacks.hyperplanes import farthest_in_l1, way_to
from tinyrobust.attacks.norms import distance

_BOX = (0.0, 1.0)
_NORMS = ("linf", "l2", "l1")
_SIZES = [1, 2, 6, 784]


def _way(x: np.ndarray, normal: np.ndarray, gap: np.ndarray, norm: str) -> np.ndarray:
    rows = (tf.constant(array, tf.float32) for array in (x, normal, gap))
    return way_to(*rows, norm, _BOX).numpy().astype(np.float64)


def _room(x: np.ndarray, normal: np.ndarray, gap: float) -> np.ndarray:
    """How far each entry can move towards the hyperplane."""
    up = normal * np.where(gap < 0, -1, 1) > 0
    return np.where(normal == 0, 0, np.where(up, 1 - x, x))


def _shortest(x: np.ndarray, normal: np.ndarray, gap: float, norm: str) -> float:
    """The length of the shortest way from one point to a hyperplane that can be reached, in double precision.

    L-inf and L2: bisection on the multiplier of the hyperplane. L1: the maximum of the dual, max over m of
    m |gap| - sum(room max(m |normal| - 1, 0)), which is piecewise linear with breakpoints at 1 / |normal|.
    """
    steep, room = np.abs(normal), _room(x, normal, gap)
    if norm == "l1":
        multipliers = 1 / steep[steep > 0]
        return float(max(m * abs(gap) - np.sum(room * np.maximum(m * steep - 1, 0)) for m in multipliers))
    pace = steep if norm == "l2" else np.ones_like(steep)
    low, high = 0.0, float((room[steep > 0] / pace[steep > 0]).max())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if steep @ np.minimum(middle * pace, room) < abs(gap) else (low, middle)
    moves = np.minimum(high * pace, room)
    return float(np.sqrt(moves @ moves) if norm == "l2" else high)


def _cases(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of which many entries are at the edge, normals of very different entries, gaps of both signs up to the last."""
    random = np.random.default_rng(size)
    x = np.clip(random.uniform(-0.5, 1.5, (24, size)), 0, 1).astype(np.float32).astype(np.float64)
    x[:, 0] = 0.5  # something can always move
    spread = 10.0 ** random.uniform(-3, 0, (24, size))
    normal = (random.normal(size=(24, size)) * spread).astype(np.float32).astype(np.float64)
    if size > 1:
        normal[:, 1] = 0
    shares = np.tile([1e-4, 0.1, 0.5, 0.9, 0.999, 1.0], 4) * np.repeat([1, -1], 12)
    reach = np.array([np.abs(n) @ _room(point, n, share) for point, n, share in zip(x, normal, shares, strict=True)])
    return x, normal, shares * reach


@pytest.mark.parametrize("norm", _NORMS)
@pytest.mark.parametrize("size", _SIZES)
def test_the_way_arrives_stays_in_the_box_and_is_the_shortest(size, norm) -> None:
    x, normal, gap = _cases(size)
    found = _way(x, normal, gap, norm)
    np.testing.assert_allclose(np.sum(found * normal, axis=1), gap, rtol=2e-5)
    assert (x + found).min() >= -1e-6
    assert (x + found).max() <= 1 + 1e-6
    shortest = [_shortest(*case, norm) for case in zip(x, normal, gap, strict=True)]
    # In the corner itself the last millionth of the gap, which rounding hides, costs far more way than it closes.
    np.testing.assert_allclose(distance(found, norm), shortest, rtol=5e-3)
    near = np.abs(gap) <= 0.95 * np.array([np.abs(n) @ _room(p, n, g) for p, n, g in zip(x, normal, gap, strict=True)])
    np.testing.assert_allclose(distance(found, norm)[near], np.array(shortest)[near], rtol=5e-5)


@pytest.mark.parametrize("norm", _NORMS)
def test_beyond_reach_the_way_leads_into_the_corner(norm) -> None:
    x, normal, gap = _cases(6)
    found = _way(x, normal, 10 * gap, norm)
    up = normal * np.sign(gap)[:, np.newaxis] > 0
    corner = np.where(normal == 0, x, np.where(up, 1.0, 0.0))
    far = np.abs(gap) >= 0.11 * np.array([np.abs(n) @ _room(p, n, g) for p, n, g in zip(x, normal, gap, strict=True)])
    np.testing.assert_allclose((x + found)[far], corner[far], atol=1e-6)


@pytest.mark.parametrize("norm", _NORMS)
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_scale_of_the_logits_does_not_matter(scale, norm) -> None:
    x, normal, gap = _cases(30)
    # Entry by entry near the corner rounding decides, since little gap is left to close: lengths.
    scaled, plain = _way(x, scale * normal, scale * gap, norm), _way(x, normal, gap, norm)
    np.testing.assert_allclose(distance(scaled, norm), distance(plain, norm), rtol=2e-3)
    np.testing.assert_allclose(np.sum(scaled * normal, axis=1), gap, rtol=2e-5)


@pytest.mark.parametrize("norm", _NORMS)
def test_without_a_slope_a_gap_or_room_nothing_moves(norm) -> None:
    x = np.array([[0.2, 0.7], [0.2, 0.7], [1.0, 0.0]])
    normal = np.array([[0.0, 0.0], [1.0, -1.0], [1.0, -1.0]])
    np.testing.assert_array_equal(_way(x, normal, np.array([3.0, 0.0, 3.0]), norm), np.zeros((3, 2)))


@pytest.mark.parametrize("norm", _NORMS)
def test_a_point_does_not_depend_on_its_neighbours(norm) -> None:
    x, normal, gap = _cases(6)
    apart = np.concatenate([_way(x[i : i + 1], normal[i : i + 1], gap[i : i + 1], norm) for i in range(len(x))])
    np.testing.assert_allclose(apart, _way(x, normal, gap, norm), rtol=1e-5, atol=1e-6)


_X, _GRADIENT = tf.constant([[0.9, 0.5, 0.3, 0.5, 1.0]]), tf.constant([[4.0, -3.0, -2.0, 0.0, 9.0]])


@pytest.mark.parametrize(
    ("budget", "expected"),
    [(0.05, [0.05, 0, 0, 0, 0]), (0.7, [0.1, -0.5, -0.1, 0, 0]), (5.0, [0.1, -0.5, -0.3, 0, 0])],
)
def test_the_farthest_way_in_l1_fills_the_steepest_entries(budget, expected) -> None:
    np.testing.assert_allclose(farthest_in_l1(_X, _GRADIENT, tf.constant([budget]), _BOX)[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.4, [0.1, -0.2, -0.1, 0, 0]),  # two entries by 0.2 each; what the first cannot take goes to the third
        (0.0, [0.1, -0.3, 0, 0, 0]),  # one entry by 0.4: never fewer
        (1.0, [0.08, -0.08, -0.08, 0, 0]),  # what has no slope, or no room, does not move
    ],
)
def test_with_a_share_so_many_entries_move_by_the_same(share, expected) -> None:
    found = farthest_in_l1(_X, _GRADIENT, tf.constant([0.4]), _BOX, tf.constant([share]))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
