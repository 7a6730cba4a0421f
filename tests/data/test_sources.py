import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tinyrobust.data import Dataset, load
from tinyrobust.errors import DataError
from tinyrobust.recipe.data import Augment, Data, Fold


def digits(seed: int = 7, **settings: Any) -> Dataset:
    return load(Data(name="digits", **settings), seed)


def images(*splits: Any) -> list[bytes]:
    return [image.tobytes() for split in splits for image in split.x]


def shares(y: np.ndarray) -> np.ndarray:
    return np.bincount(y, minlength=10) / len(y)


def test_digits_are_all_of_scikit_learns_images_once() -> None:
    dataset = digits()
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (1293, 144, 360)
    assert dataset.input_shape == (8, 8, 1)
    assert dataset.notes == ()
    official = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    # No image occurs twice in the set, so this also shows that the three splits share none.
    assert len({image.tobytes() for image in official}) == 1797
    assert sorted(images(dataset.train, dataset.validation, dataset.test)) == sorted(image.tobytes() for image in official)
    label_of = {image.tobytes(): label for image, label in zip(official, load_digits().target, strict=True)}
    for split in (dataset.train, dataset.validation, dataset.test):
        assert [label_of[image] for image in images(split)] == split.y.tolist()


def test_digits_values_0_to_16_become_0_to_255() -> None:
    assert np.unique(digits().train.x).tolist() == [round(255 * value / 16) for value in range(17)]


def test_every_split_is_stratified() -> None:
    dataset = digits()
    official = shares(load_digits().target)
    for split in (dataset.train, dataset.validation, dataset.test):
        assert np.abs(shares(split.y) - official).max() * len(split) <= 1.5


def test_the_seed_moves_validation_and_never_test() -> None:
    one, again, other = digits(seed=1), digits(seed=1), digits(seed=2)
    assert one.fingerprint == again.fingerprint != other.fingerprint
    np.testing.assert_array_equal(one.test.x, other.test.x)
    assert set(images(one.validation)) != set(images(other.validation))
    assert set(images(one.train, one.validation)) == set(images(other.train, other.validation))


def test_subsets_are_stratified_and_of_the_same_images() -> None:
    full, small = digits(), digits(train_samples=300, test_samples=100)
    assert (len(small.train), len(small.validation), len(small.test)) == (270, 30, 100)
    assert set(images(small.train, small.validation)) <= set(images(full.train, full.validation))
    assert set(images(small.test)) <= set(images(full.test))
    assert np.abs(shares(small.test.y) - shares(full.test.y)).max() * 100 <= 1.5
    np.testing.assert_array_equal(small.test.x, digits(seed=99, test_samples=100).test.x)
    assert set(images(digits(test_samples=50).test)) <= set(images(small.test))


def test_every_beginning_of_train_is_stratified() -> None:
    train = digits().train
    assert np.abs(np.bincount(train.y[:100]) - 100 * shares(train.y)).max() <= 1.5


def test_colour_and_size_change_images_and_fingerprint_only() -> None:
    plain, changed = digits(), digits(color="rgb", size=16)
    assert changed.input_shape == (16, 16, 3)
    np.testing.assert_array_equal(plain.train.y, changed.train.y)
    assert plain.fingerprint != changed.fingerprint


def test_a_dataset_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        digits().test = digits().train  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_samples": 1438}, "data.train_samples of at most 1,437.*Received: 1,438"),
        ({"test_samples": 361}, "data.test_samples of at most 360.*Received: 361"),
        ({"train_samples": 4}, "data.validation = 0.1 of 4. Received: 4 and 0"),
        ({"train_samples": 4, "validation": 0.9}, "Received: 0 and 4"),
        ({"augment": Augment(flip=True)}, "data.augment.flip = false: a mirrored image of Handwritten digits"),
        ({"name": "digit"}, r"There is no data set 'digit'. Did you mean 'digits'\?"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(Data(**{"name": "digits"} | settings), seed=7)


def test_folds_part_the_training_images_and_leave_the_test_alone() -> None:
    whole = digits()
    folds = [digits(fold=Fold(of=5, index=index)) for index in range(5)]
    held_out = [image for fold in folds for image in images(fold.test)]
    assert sorted(held_out) == sorted(images(whole.train, whole.validation))
    for fold in folds:
        assert set(images(fold.test)).isdisjoint(images(fold.train, fold.validation))
        assert len(fold.train) + len(fold.validation) + len(fold.test) == 1437
        assert len(fold.test) in (287, 288)
        assert np.abs(shares(fold.test.y) - shares(load_digits().target)).max() * len(fold.test) <= 2.5
        assert "held out" in fold.notes[0]
    np.testing.assert_array_equal(folds[0].test.x, digits(seed=3, fold=Fold(of=5, index=0)).test.x)
