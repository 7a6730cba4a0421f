import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize

from tinyrobust.attacks.norms import distance, project, random_directions, random_points, steepest

_BOX = (0.0, 1.0)
_NORMS = ("linf", "l2", "l1")


def _draws(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def test_distances() -> None:
    rows = np.array([[[3.0, -4.0], [0.0, 0.0]], [[0.0, 1e-8], [0.0, 0.0]]], np.float32)
    expected = {"linf": 4, "l2": 5, "l1": 7, "l0": 2}
    assert {norm: distance(rows, norm)[0] for norm in expected} == expected
    assert distance(rows, "l0")[1] == 0


@pytest.mark.parametrize("norm", _NORMS)
def test_projections_stay_in_ball_and_box(norm) -> None:
    random = np.random.default_rng(0)
    centre = np.round(random.uniform(size=(200, 5, 4)), 1).astype(np.float32)  # many entries sit at the box
    x = (centre + random.normal(size=centre.shape) * 10.0 ** random.uniform(-2, 1, (200, 1, 1))).astype(np.float32)
    found = project(tf.constant(x), tf.constant(centre), tf.constant(3.0), norm, _BOX).numpy()
    assert distance(found - centre, norm).max() <= 3.0 * (1 + 1e-6)
    assert found.min() >= 0
    assert found.max() <= 1
    inside = np.clip(centre + 0.01 * random.uniform(-1, 1, centre.shape), 0, 1).astype(np.float32)
    kept = project(tf.constant(inside), tf.constant(centre), tf.constant(3.0), norm, _BOX)
    np.testing.assert_allclose(kept, inside, atol=1e-6)


def test_the_l1_projection_is_the_nearest_point() -> None:
    random, signs = np.random.default_rng(1), np.concatenate([np.eye(6), -np.eye(6)])
    for epsilon in (0.3, 1.0, 2.5):
        centre = random.uniform(size=(1, 6)).astype(np.float32)
        x = (centre + random.normal(size=(1, 6))).astype(np.float32)
        found = project(tf.constant(x), tf.constant(centre), tf.constant(epsilon, tf.float32), "l1", _BOX).numpy()
        # Moves up and moves down, both positive, make the norm linear.
        best = minimize(
            lambda halves, x=x, centre=centre: float(np.sum((centre + halves @ signs - x) ** 2)),
            np.zeros(12),
            bounds=[(0, room) for room in (*(1 - centre[0]), *centre[0])],
            constraints={"type": "ineq", "fun": lambda halves, epsilon=epsilon: epsilon - halves.sum()},
            tol=1e-10,
        )
        assert np.sum((found - x) ** 2) <= best.fun + 1e-4


def test_the_l2_projection_is_the_nearest_point() -> None:
    random = np.random.default_rng(1)
    for epsilon in (0.1, 0.7, 1.5):
        centre = np.clip(random.uniform(-0.5, 1.5, (20, 40)), 0, 1).astype(np.float32)
        x = (centre + random.normal(size=(20, 40))).astype(np.float32)
        found = project(tf.constant(x), tf.constant(centre), tf.constant(epsilon, tf.float32), "l2", _BOX).numpy()
        assert distance(found - centre, "l2").max() <= epsilon * (1 + 1e-6)
        for point, middle, nearest in zip(x.astype(np.float64), centre.astype(np.float64), found, strict=True):
            low, high = 0.0, 1.0  # the factor that every move is shortened by, before the box cuts it
            for _ in range(60):
                factor = (low + high) / 2
                moves = np.clip(middle + factor * (point - middle), 0, 1) - middle
                low, high = (factor, high) if np.linalg.norm(moves) < epsilon else (low, factor)
            np.testing.assert_allclose(nearest - middle, moves, atol=1e-5)


def test_a_full_box_in_l1_does_not_leave_the_ball() -> None:
    # Three entries at the box sum to epsilon exactly; the others must not move, whatever rounding says.
    centre = np.zeros((1, 20), np.float32)
    x = np.concatenate([np.full((1, 3), 9.0), np.full((1, 17), 0.05)], axis=1).astype(np.float32)
    found = project(tf.constant(x), tf.constant(centre), tf.constant(3.0), "l1", _BOX).numpy()
    np.testing.assert_allclose(found[0], [1] * 3 + [0] * 17, atol=1e-6)


@pytest.mark.parametrize("norm", _NORMS)
def test_random_starts_belong_to_their_generator(norm) -> None:
    points, directions = random_points((4, 3), norm, _draws(300)), random_directions((4, 3), norm, _draws(300))
    assert 0.5 < distance(points, norm).mean() < 1
    assert distance(points, norm).max() <= 1 + 1e-6
    np.testing.assert_allclose(distance(directions, norm), 1, rtol=1e-5)
    np.testing.assert_array_equal(random_points((4, 3), norm, _draws(300)[7:9]), points[7:9])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steps_have_norm_one_and_go_up(norm) -> None:
    gradient = np.random.default_rng(0).normal(size=(20, 6, 5)).astype(np.float32)
    gradient[0] = 0
    step = steepest(tf.constant(gradient), norm).numpy()
    np.testing.assert_allclose(distance(step[1:], norm), 1, rtol=1e-5)
    assert (np.sum(step * gradient, axis=(1, 2))[1:] > 0).all()
    assert not step[0].any()


def test_gradients_far_below_single_precision_squares_still_have_a_direction() -> None:
    gradient = np.array([[3.0, -4.0], [0.0, 0.0]], np.float32)
    for scale in (1e-30, 1e30):
        step = steepest(tf.constant(gradient * np.float32(scale)), "l2")
        np.testing.assert_allclose(step, [[0.6, -0.8], [0, 0]], rtol=1e-6)
