"""From a recipe's `[data]` to a `Dataset`: read, take subsets, split off validation, preprocess, fingerprint."""

from pathlib import Path

import numpy as np

from tinyrobust import assets
from tinyrobust.data.arrays import Dataset, Source, Split, fingerprint, stratified
from tinyrobust.data.cards import Card, Npz, ScikitLearn, SpeechFolder, SpeechTfds, find_card, read_card
from tinyrobust.data.images import prepare
from tinyrobust.data.npz import read_npz
from tinyrobust.data.speech.folder import is_prepared as has_words
from tinyrobust.data.speech.folder import speech_folder
from tinyrobust.data.tfds import is_prepared, read_tfds, tfds_folder
from tinyrobust.errors import DataError
from tinyrobust.progress import Progress
from tinyrobust.recipe.data import Data, Fold

# A subset of the test images, and a fold, are the same for every recipe and seed: figures on them can be compared.
_TEST_SUBSET_SEED, _FOLD_SEED = 0, 0


def load(
    data: Data, seed: int, data_dir: Path | None = None, progress: Progress | None = None, *, copies: bool = True
) -> Dataset:
    """The images that a recipe learns from, chooses with and is tested on.

    `train_samples` images are drawn with `seed` from the training images alone: validation is the beginning of that stratified
    draw, train the rest. The test images never depend on `seed`.

    Args:
        data: What the recipe asks for.
        seed: The recipe's seed.
        data_dir: Where tensorflow-datasets keeps its sets; see `tinyrobust.data.tfds.tfds_folder`.
        progress: Called as `progress(label, done, total)`.
        copies: Of speech, whether augmented training clips are made; the fingerprint does not depend on it.

    Raises:
        DataError: The data is missing, damaged or smaller than asked for, or would be mirrored and must not be.
        MissingToolError: A set of tensorflow-datasets is asked for and it or TensorFlow is not installed.
    """
    if data.name.endswith(".npz"):
        path = Path(data.name).expanduser()
        return _dataset(path.name, data, seed, read_npz(path), (), progress)
    own_clips = data.speech and data.name not in assets.dataset_cards() and Path(data.name).expanduser().is_dir()
    card = None if own_clips else read_card(data.name)
    if card is None or isinstance(card.loader, SpeechFolder | SpeechTfds) or data.speech:
        if data.fold:
            raise DataError("Expected no data.fold for speech: its splits keep speakers apart. Received: one")
        return _speech(data, card, seed, data_dir, progress, copies)
    if data.augment.flip and not card.flip_allowed:
        raise DataError(
            f"Expected data.augment.flip = false: a mirrored image of {card.title} may be of another class or of none. "
            "Received: true",
            hint="Remove the line, or --set data.augment.flip=false.",
        )
    if isinstance(card.loader, ScikitLearn):
        source = _digits(card, card.loader.split_seed)
    elif isinstance(card.loader, Npz):
        source = _own(card, card.loader, find_card(data.name).parent)
    else:
        source = read_tfds(card, card.loader, data_dir, progress, color=data.color, size=data.size)
    # A card given by its path goes by its file name: it is none of the cards of `datasets/`, whatever it is called.
    name = Path(data.name).name if data.name.endswith(".toml") else card.name
    return _dataset(name, data, seed, source, _missing_images(card, source), progress)


def available(card: Card, data_dir: Path | None = None) -> bool:
    """Whether the data set can be loaded without a download; does not read it."""
    if isinstance(card.loader, ScikitLearn):
        return True
    if isinstance(card.loader, Npz):
        return (find_card(card.name).parent / card.loader.file).is_file()
    if isinstance(card.loader, SpeechFolder):
        return has_words(speech_folder(card.loader, data_dir), card.loader)
    return is_prepared(tfds_folder(card.loader, data_dir))


def _speech(
    data: Data, card: Card | None, seed: int, data_dir: Path | None, progress: Progress | None, copies: bool
) -> Dataset:
    if card is not None and not isinstance(card.loader, SpeechFolder | SpeechTfds):
        raise DataError(
            f"Expected no table [data.speech] for {card.title}. Received: one",
            hint="It is for speech-commands and for folders of clips.",
        )
    if data.speech is None:
        raise DataError(
            f"Expected a table [data.speech] for {data.name}: the task and the front end. Received: none",
            hint='Add [data.speech] with task = "12-class".',
        )
    from tinyrobust.data.speech.load import load as load_speech  # librosa, SciPy: half a second

    return load_speech(data, data.speech, seed, card, data_dir, progress, copies=copies)


def _own(card: Card, loader: Npz, folder: Path) -> Source:
    path = folder / loader.file
    source = read_npz(path)
    found = fingerprint(source.train, source.test)
    if found != loader.fingerprint:
        raise DataError(
            f"{path}: Expected the images of the card, fingerprint {loader.fingerprint[:12]}. Received: {found[:12]}",
            hint="They were changed. `tinyrobust datasets add` writes a new card.",
        )
    if len(card.classes) != len(source.classes):
        raise DataError(f"{path}: Expected {len(card.classes)} classes, as the card names. Received: {len(source.classes)}")
    return Source(source.train, source.test, card.classes)


def _digits(card: Card, split_seed: int) -> Source:
    from sklearn.datasets import load_digits  # takes a second

    digits = load_digits()
    x = np.round(digits.images * 255 / 16).astype(np.uint8)[..., np.newaxis]
    y = digits.target.astype(np.int64)
    if x.shape != (card.train_images + card.test_images, *card.image):
        raise DataError(f"Expected {card.train_images + card.test_images} images of {card.image}. Received: {x.shape}")
    train, test = Split(x, y).cut(card.test_images, split_seed)
    return Source(train, test, card.classes)


def _missing_images(card: Card, source: Source) -> tuple[str, ...]:
    counts = (("training", len(source.train), card.train_images), ("test", len(source.test), card.test_images))
    return tuple(
        f"{card.name}: {found:,} of {expected:,} {part} images found" for part, found, expected in counts if found != expected
    )


def _dataset(name: str, data: Data, seed: int, source: Source, notes: tuple[str, ...], progress: Progress | None) -> Dataset:
    if data.fold:
        source = _folded(source, data.fold)
        notes = (*notes, f"{name}: tested on part {data.fold.index + 1} of {data.fold.of} of the training images, held out")
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
    found = fingerprint(train, validation, test, progress=progress)
    return Dataset(name, train, validation, test, source.classes, found, notes)


def _folded(source: Source, fold: Fold) -> Source:
    """The training images without one part, and that part as test images: every n-th of them, drawn class after class."""
    y = source.train.y
    drawn = stratified(y, len(y), _FOLD_SEED)
    by_class = drawn[np.argsort(y[drawn], kind="stable")]
    held_out = np.zeros(len(y), bool)
    held_out[by_class[fold.index :: fold.of]] = True
    return Source(source.train.take(np.flatnonzero(~held_out)), source.train.take(np.flatnonzero(held_out)), source.classes)


def _enough(name: str, key: str, asked: int | None, found: int) -> None:
    if asked is not None and asked > found:
        raise DataError(
            f"{name}: Expected data.{key} of at most {found:,}, all there are. Received: {asked:,}",
            hint=f"Without data.{key} all of them are used.",
        )
