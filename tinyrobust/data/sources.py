"""From a recipe's `[data]` to a `Dataset`: read, take subsets, split off validation, preprocess, fingerprint."""

from pathlib import Path

import numpy as np

from tinyrobust.data.arrays import Dataset, Source, Split, fingerprint, stratified
from tinyrobust.data.cards import Card, ScikitLearn, read_card
from tinyrobust.data.images import prepare
from tinyrobust.data.npz import read_npz
from tinyrobust.data.tfds import is_prepared, read_tfds, tfds_folder
from tinyrobust.errors import DataError
from tinyrobust.progress import Progress
from tinyrobust.recipe import Data

# A subset of the test images is the same for every recipe and seed: figures on it can be compared.
_TEST_SUBSET_SEED = 0


def load(data: Data, seed: int, data_dir: Path | None = None, progress: Progress | None = None) -> Dataset:
    """The images that a recipe learns from, chooses with and is tested on.

    `train_samples` images are drawn with `seed` from the training images alone: validation is the beginning of that stratified
    draw, train the rest. The test images never depend on `seed`.

    Args:
        data: What the recipe asks for.
        seed: The recipe's seed.
        data_dir: Where tensorflow-datasets keeps its sets; see `tinyrobust.data.tfds.tfds_folder`.
        progress: Called as `progress(label, done, total)`.

    Raises:
        DataError: The data is missing, damaged or smaller than asked for, or would be mirrored and must not be.
        MissingToolError: A set of tensorflow-datasets is asked for and it or TensorFlow is not installed.
    """
    if data.name.endswith(".npz"):
        path = Path(data.name).expanduser()
        return _dataset(path.name, data, seed, read_npz(path), (), progress)
    card = read_card(data.name)
    if data.augment.flip and not card.flip_allowed:
        raise DataError(
            f"Expected data.augment.flip = false: a mirrored image of {card.title} may be of another class or of none. "
            "Received: true",
            hint="Remove the line, or --set data.augment.flip=false.",
        )
    if isinstance(card.loader, ScikitLearn):
        source = _digits(card, card.loader.split_seed)
    else:
        source = read_tfds(card, card.loader, data_dir, progress)
    return _dataset(card.name, data, seed, source, _missing_images(card, source), progress)


def available(card: Card, data_dir: Path | None = None) -> bool:
    """Whether the data set can be loaded without a download; does not read it."""
    return isinstance(card.loader, ScikitLearn) or is_prepared(tfds_folder(card.loader, data_dir))


def _digits(card: Card, split_seed: int) -> Source:
    from sklearn.datasets import load_digits  # takes a second

    digits = load_digits()
    x = np.round(digits.images * 255 / 16).astype(np.uint8)[..., np.newaxis]
    y = digits.target.astype(np.int64)
    if x.shape != (card.train_images + card.test_images, *card.image):
        raise DataError(f"Expected {card.train_images + card.test_images} images of {card.image}. Received: {x.shape}")
    is_test = np.zeros(len(y), bool)
    is_test[stratified(y, card.test_images, split_seed)] = True
    return Source(Split(x[~is_test], y[~is_test]), Split(x[is_test], y[is_test]), card.classes)


def _missing_images(card: Card, source: Source) -> tuple[str, ...]:
    counts = (("training", len(source.train), card.train_images), ("test", len(source.test), card.test_images))
    return tuple(
        f"{card.name}: {found:,} of {expected:,} {part} images found" for part, found, expected in counts if found != expected
    )


def _dataset(name: str, data: Data, seed: int, source: Source, notes: tuple[str, ...], progress: Progress | None) -> Dataset:
    _enough(name, "train_samples", data.train_samples, len(source.train))
    _enough(name, "test_samples", data.test_samples, len(source.test))
    samples = data.train_samples or len(source.train)
    held_out = round(data.validation * samples)
    if not 0 < held_out < samples:
        raise DataError(
            f"{name}: Expected training and validation images from data.validation = {data.validation} of {samples:,}. "
            f"Received: {samples - held_out:,} and {held_out:,}"
        )
    drawn = stratified(source.train.y, samples, seed)
    tested = source.test
    if data.test_samples:
        tested = tested.take(stratified(tested.y, data.test_samples, _TEST_SUBSET_SEED))
    chosen = (source.train.take(drawn[held_out:]), source.train.take(drawn[:held_out]), tested)
    train, validation, test = (Split(prepare(part.x, data.color, data.size, progress), part.y) for part in chosen)
    return Dataset(name, train, validation, test, source.classes, fingerprint(train, validation, test), notes)


def _enough(name: str, key: str, asked: int | None, found: int) -> None:
    if asked is not None and asked > found:
        raise DataError(
            f"{name}: Expected data.{key} of at most {found:,}, all there are. Received: {asked:,}",
            hint=f"Without data.{key} all of them are used.",
        )
