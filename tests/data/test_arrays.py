import numpy as np
import pytest

from tinyrobust.data.arrays import Split, fingerprint, scale, stratified
from tinyrobust.errors import DataError


def labels(*counts: int) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def split(n: int = 4) -> Split:
    return Split(np.arange(n * 12, dtype=np.uint8).reshape(n, 2, 2, 3), np.arange(n))


@pytest.mark.parametrize("n", [0, 1, 7, 50, 199, 400])
@pytest.mark.parametrize("counts", [(200, 200), (300, 80, 20), (40,) * 10, (397, 3)])
def test_every_class_keeps_its_share_to_within_one_sample(counts: tuple[int, ...], n: int) -> None:
    y = labels(*counts)
    drawn = stratified(y, n, seed=3)
    assert drawn.shape == (n,)
    assert len(set(drawn.tolist())) == n
    shares = np.array(counts) * n / len(y)
    assert np.abs(np.bincount(y[drawn], minlength=len(counts)) - shares).max() <= 1


def test_ten_samples_of_ten_equal_classes_are_one_of_each() -> None:
    assert sorted(labels(*[30] * 10)[stratified(labels(*[30] * 10), 10, seed=0)]) == list(range(10))


def test_a_draw_depends_on_its_seed_alone() -> None:
    y = labels(50, 30, 20)
    np.testing.assert_array_equal(stratified(y, 40, seed=1), stratified(y, 40, seed=1))
    assert set(stratified(y, 40, seed=1)) != set(stratified(y, 40, seed=2))


def test_a_smaller_draw_begins_a_larger_one() -> None:
    y = labels(50, 30, 20)
    np.testing.assert_array_equal(stratified(y, 17, seed=1), stratified(y, 60, seed=1)[:17])


def test_within_a_class_every_sample_is_drawn_equally_often() -> None:
    y = labels(10, 10)
    drawn = np.concatenate([stratified(y, 6, seed) for seed in range(2000)])
    # 2000 draws of 6 of 20: 600 each, standard deviation below 21.
    assert np.abs(np.bincount(drawn, minlength=20) - 600).max() < 100


@pytest.mark.parametrize("n", [-1, 11])
def test_more_than_there_are_is_refused(n: int) -> None:
    with pytest.raises(DataError, match=rf"Expected 0 to 10 samples.*Received: n={n}"):
        stratified(labels(5, 5), n, seed=0)


def test_scale_is_the_sensors_grid() -> None:
    x = np.arange(256, dtype=np.uint8)
    scaled = scale(x)
    assert scaled.dtype == np.float32
    assert scaled[0] == 0
    assert scaled[255] == 1
    np.testing.assert_array_equal(np.round(scaled * 255), x)


def test_a_changed_pixel_label_shape_or_split_changes_the_fingerprint() -> None:
    a, b, c = split(4), split(3), split(2)
    x, y = a.x.copy(), a.y.copy()
    x[3, 1, 1, 2] += 1
    y[3] = 0
    variants = [
        (a, b, c),
        (Split(x, a.y), b, c),
        (Split(a.x, y), b, c),
        (Split(a.x.reshape(4, 1, 4, 3), a.y), b, c),
        (a, c, b),
    ]
    prints = [fingerprint(*variant) for variant in variants]
    assert len(set(prints)) == len(prints)
    assert fingerprint(split(4), split(3), split(2)) == prints[0]
    # A view of other strides holds the same values: the same print.
    assert fingerprint(Split(np.asfortranarray(a.x), a.y), b, c) == prints[0]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, np.int64), "Expected uint8 images"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), "Expected uint8 images"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(3, np.int64), "Expected 2 int64 labels"),
        (np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.uint8), "Expected 2 int64 labels"),
    ],
)
def test_a_split_refuses_other_arrays(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(x, y)
