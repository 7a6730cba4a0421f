import numpy as np
import pytest

from tinyrobust.robustness.grid import snap


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (40, 8, 8, 1)).astype(np.float32) / np.float32(255)
    return x, np.clip(x + random.uniform(-0.1, 0.1, x.shape), 0, 1).astype(np.float32)


def _is_on_grid(x: np.ndarray) -> bool:
    pixels = np.round(x * 255).astype(np.uint8)
    return x.dtype == np.float32 and np.array_equal(pixels.astype(np.float32) / np.float32(255), x)


def test_the_nearest_level(images) -> None:
    x, adversarial = images
    snapped = snap(adversarial, x)
    assert _is_on_grid(snapped)
    assert np.abs(snapped - adversarial).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("norm", "order"), [("linf", np.inf), ("l2", 2), ("l1", 1)])
@pytest.mark.parametrize("epsilon", [0.004, 0.05, 8 / 255, 0.3])
def test_the_ball_is_not_left(norm, order, epsilon, images) -> None:
    x, adversarial = images
    change = (adversarial - x).reshape(len(x), -1)
    lengths = np.linalg.norm(change, order, axis=1, keepdims=True)
    inside = np.clip(x + (change * np.minimum(1, epsilon / lengths)).reshape(x.shape), 0, 1).astype(np.float32)
    snapped = snap(inside, x, epsilon, norm)
    assert _is_on_grid(snapped)
    assert np.linalg.norm((snapped - x).reshape(len(x), -1), order, axis=1).max() <= epsilon + 1e-5


def test_what_is_on_the_grid_stays(images) -> None:
    x, _ = images
    moved = np.clip(x + np.float32(8 / 255), 0, 1)
    on_grid = np.round(moved * 255).astype(np.float32) / np.float32(255)
    for norm in ("linf", "l2", "l1", "l0"):
        np.testing.assert_array_equal(snap(moved, x, 1000.0, norm), on_grid)
    np.testing.assert_array_equal(snap(moved, x, 8 / 255), on_grid)


def test_unchanged_values_stay_unchanged(images) -> None:
    x, adversarial = images
    few = np.where(np.arange(8)[:, None, None] < 2, adversarial, x)
    snapped = snap(few, x, 16.0, "l0")
    np.testing.assert_array_equal(snapped[:, 2:], x[:, 2:])
