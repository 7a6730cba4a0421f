import os
import subprocess
import sys
from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust.data import Split, load
from tinyrobust.data.batches import Batches, augmented
from tinyrobust.errors import DataError
from tinyrobust.recipe.data import Augment, Data

SHIFTS = Augment(flip=True, crop=2)


def numbered(n: int, size: int = 4) -> Split:
    """Images that tell their number: every pixel of image k is k."""
    return Split(np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, size, size, 1), np.uint8), np.arange(n))


def random_images(n: int, size: int = 6, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(5).integers(1, 256, (n, size, size, channels), dtype=np.uint8)


def test_a_batch_is_scaled_float_and_labels() -> None:
    batches = Batches(numbered(10), Augment(), batch_size=4, seed=1)
    x, y = batches[0]
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((4, 4, 4, 1), np.float32, (4,), np.int64)
    np.testing.assert_array_equal(np.round(x[:, 0, 0, 0] * 255), y)


def test_a_batch_is_a_function_of_seed_epoch_and_index() -> None:
    split = Split(random_images(20), np.arange(20))

    def batch(seed: int, epoch: int, index: int) -> bytes:
        return Batches(split, SHIFTS, batch_size=5, seed=seed, first_epoch=epoch)[index][0].tobytes()

    places = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1, 2) for index in (0, 1)]
    seen = {place: batch(*place) for place in places}
    assert len(set(seen.values())) == len(places)
    for place in reversed(places):
        assert batch(*place) == seen[place]


def test_what_a_teacher_made_of_a_copy_goes_with_its_images() -> None:
    split = numbered(10)
    copies = [split.x, split.x + 100]  # a pixel of copy c of image k is k + 100 c, and so is its logit
    logits = [copy[:, 0, 0].astype(np.float32) for copy in copies]
    for epoch in range(3):
        batches = Batches(split, Augment(), 4, seed=1, first_epoch=epoch, copies=copies, teacher_logits=logits)
        x, y = batches[1]
        assert isinstance(y, dict)
        np.testing.assert_array_equal(np.round(255 * x[:, 0, 0]), y["teacher_logits"])
        np.testing.assert_array_equal(y["teacher_logits"][:, 0], y["labels"] + 100 * (epoch % 2))


def test_an_epoch_gives_no_image_twice_and_leaves_out_the_rest() -> None:
    left_out = set()
    for epoch in range(30):
        batches = Batches(numbered(23), Augment(), batch_size=5, seed=1, first_epoch=epoch)
        assert len(batches) == 4
        y = np.concatenate([labels for _, labels in batches])
        assert len(set(y.tolist())) == 20
        left_out |= set(range(23)) - set(y.tolist())
    # Another three each time: all of them in the end, so none for good.
    assert left_out == set(range(23))


@pytest.mark.parametrize("index", [-1, 4])
def test_there_are_no_more_batches(index: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 3"):
        Batches(numbered(23), Augment(), batch_size=5, seed=1)[index]


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(DataError, match=r"train\.batch_size = 64 training images\. Received: 23.*batch_size=5"):
        Batches(numbered(23), Augment(), batch_size=64, seed=1)


def test_without_augmentation_images_are_untouched() -> None:
    x = random_images(8)
    np.testing.assert_array_equal(augmented(x, Augment(), np.random.default_rng(0)), x)


def test_flips_mirror_half_of_the_images_left_to_right() -> None:
    x = random_images(4000)
    out = augmented(x, Augment(flip=True), np.random.default_rng(0))
    kept = (out == x).all(axis=(1, 2, 3))
    mirrored = (out == x[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    # Binomial(4000, 1/2): standard deviation 32.
    assert abs(mirrored.sum() - 2000) < 150


def test_crops_shift_by_every_distance_equally_often_and_bring_in_black() -> None:
    x = random_images(5000)
    out = augmented(x, Augment(crop=2), np.random.default_rng(0))
    assert (out.shape, out.dtype) == (x.shape, np.uint8)
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    shifts = np.zeros((5, 5), int)
    for top in range(5):
        for left in range(5):
            shifts[top, left] = (out == padded[:, top : top + 6, left : left + 6]).all(axis=(1, 2, 3)).sum()
    assert shifts.sum() == 5000
    # 200 expected for each of the 25 shifts, standard deviation 14.
    assert np.abs(shifts - 200).max() < 70


def test_augmentation_leaves_the_data_set_alone() -> None:
    split = Split(random_images(20), np.arange(20))
    before = split.x.copy()
    batches = Batches(split, SHIFTS, batch_size=5, seed=1)
    for x, _ in batches:
        x[:] = 0
    np.testing.assert_array_equal(split.x, before)


class Recorder(keras.Model):
    """Learns nothing; keeps what `fit` hands it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bytes, bytes]] = []

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        self.seen.append((x.numpy().tobytes(), y.numpy().tobytes()))
        return {"loss": keras.ops.zeros(())}


def what_fit_sees(first_epoch: int, epochs: int) -> list[tuple[bytes, bytes]]:
    train = load(Data(name="digits", train_samples=300), seed=7).train
    batches = Batches(train, Augment(crop=1), batch_size=32, seed=7, first_epoch=first_epoch)
    model = Recorder()
    model.compile(run_eagerly=True)
    model.fit(batches, shuffle=False, initial_epoch=first_epoch, epochs=epochs, verbose=0, callbacks=[batches.clock()])
    assert batches.epoch == epochs - 1
    return model.seen


def test_fit_resumed_sees_what_fit_uninterrupted_sees() -> None:
    whole = what_fit_sees(0, 3)
    assert len(whole) == len(set(whole)) == 3 * (270 // 32)
    assert what_fit_sees(0, 1) + what_fit_sees(1, 3) == whole
    assert what_fit_sees(2, 3) == whole[-8:]
    train = load(Data(name="digits", train_samples=300), seed=7).train
    batches = Batches(train, Augment(crop=1), batch_size=32, seed=7, first_epoch=0)
    assert [(x.tobytes(), y.tobytes()) for x, y in batches] == whole[:8]


def test_fit_without_the_clock_is_refused() -> None:
    batches = Batches(numbered(23), Augment(), batch_size=5, seed=1)
    model = Recorder()
    model.compile(run_eagerly=True)
    with pytest.raises(RuntimeError, match=r"callbacks=\[batches\.clock\(\)\]"):
        model.fit(batches, shuffle=False, epochs=2, verbose=0)


# In its own process because the backend is chosen at import. Plain SGD has no state, so equal weights mean equal batches.
RESUME = """
import keras, numpy as np
from tinyrobust.data import load
from tinyrobust.data.batches import Batches
from tinyrobust.recipe.data import Augment, Data
train = load(Data(name="digits", train_samples=300), seed=7).train
def trained(size, *stretches):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for first, end in stretches:
        batches = Batches(train, Augment(crop=1), batch_size=size, seed=7, first_epoch=first)
        model.fit(batches, shuffle=False, initial_epoch=first, epochs=end, verbose=0, callbacks=[batches.clock()])
    return model.get_weights()
# 32: eight batches an epoch. 250: one, which Keras also takes to build the model: that must not count.
for size in (32, 250):
    whole, resumed, other = (trained(size, *s) for s in ([(0, 3)], [(0, 1), (1, 3)], [(0, 1), (0, 2)]))
    assert all(np.array_equal(a, b) for a, b in zip(whole, resumed)), size
    assert not np.array_equal(whole[0], other[0]), size
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_resumed_weights_are_the_uninterrupted_ones(backend: str) -> None:
    subprocess.run([sys.executable, "-c", RESUME], check=True, env=os.environ | {"KERAS_BACKEND": backend})
