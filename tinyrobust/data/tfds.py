"""Sets of tensorflow-datasets, read from disk and prepared on the way. Nothing is ever downloaded from here.

Images that would not fit the budget (`tinyrobust.data.memory`) are never all in memory, before or after preprocessing: one pass
writes them, prepared, into a file of the cache, and they stay on disk.

TensorFlow is imported only when a set is read: where there is none, digits and .npz files still load.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tinyrobust.data.arrays import Source
from tinyrobust.data.cards import Card, Tfds
from tinyrobust.data.tfds_reader import Reader
from tinyrobust.errors import DataError, MissingToolError
from tinyrobust.progress import Progress


def tfds_folder(loader: Tfds, data_dir: Path | None = None) -> Path:
    """The folder where a set is expected: `<data folder>/<name>/<version>`, or `<data folder>/<name>/<config>/<version>`.

    The data folder is the first of these that is given: `data_dir`, the environment variable TFDS_DATA_DIR, `tfds` in that of
    TINYROBUST_DATA, ~/tensorflow_datasets (the default of tensorflow-datasets). A `data_dir` may also be the folder above
    `tfds`, as TINYROBUST_DATA is.
    """
    within = Path(loader.name) / loader.config / loader.version
    if data_dir is not None:
        nested = data_dir.expanduser() / "tfds" / within
        return nested if nested.is_dir() else data_dir.expanduser() / within
    if tfds_dir := os.environ.get("TFDS_DATA_DIR"):
        return Path(tfds_dir).expanduser() / within
    if ours := os.environ.get("TINYROBUST_DATA"):
        return Path(ours).expanduser() / "tfds" / within
    return Path.home() / "tensorflow_datasets" / within


def is_prepared(folder: Path) -> bool:
    """Whether `folder` holds a set that tensorflow-datasets has prepared; looks at names only."""
    return (folder / "dataset_info.json").is_file()


@contextlib.contextmanager
def opened(card: Card, loader: Tfds, data_dir: Path | None = None) -> Iterator[Any]:
    """The builder of a prepared set.

    What goes wrong in the block while the set is read is said as for `read_tfds`.
    """
    folder = tfds_folder(loader, data_dir)
    if not is_prepared(folder):
        raise DataError(f"Expected {card.title} in {folder}. Received: nothing is there.", hint=_how_to_get(loader, folder))
    try:
        # In this order: without TensorFlow, tensorflow-datasets does import, but empty.
        import tensorflow as tf
        import tensorflow_datasets
    except ImportError as error:
        raise MissingToolError(
            f"Reading {card.name} needs TensorFlow and tensorflow-datasets: {error}.",
            hint="Install them, or save the arrays as .npz where they are installed and name that file in data.name.",
        ) from error
    try:
        yield tensorflow_datasets.builder_from_directory(folder)
    # Damaged records, damaged JSON, a split or a field that is not there.
    except (tf.errors.OpError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"Expected {card.title} in {folder}. Received: it cannot be read ({type(error).__name__}: {reason}).",
            hint="Delete that folder and get it again. " + _how_to_get(loader, folder),
        ) from error


def read_tfds(
    card: Card,
    loader: Tfds,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    *,
    color: Literal["gray", "rgb"] | None = None,
    size: int | None = None,
) -> Source:
    """Reads the training and test images of a prepared set, in the order of its files.

    Args:
        card: The set's.
        loader: Its table.
        data_dir: See `tfds_folder`.
        progress: Called with the number of images done.
        color: What the images are made; None: as they are.
        size: Their height and width; None: the card's.

    Raises:
        DataError: The set is not on this machine, damaged, or not what the card says.
        MissingToolError: TensorFlow or tensorflow-datasets is not installed.
        RunFolderError: A large set cannot be written to the cache.
    """
    with opened(card, loader, data_dir) as builder:
        parts = ("train",) if loader.split_seed is not None else ("train", loader.test)
        splits = Reader(builder, card, loader, color, size, progress).splits(parts)
    if loader.split_seed is not None:
        (whole,) = splits
        share = card.test_images / (card.train_images + card.test_images)
        splits = list(whole.cut(round(share * len(whole)), loader.split_seed))
    return Source(splits[0], splits[1], card.classes)


def _how_to_get(loader: Tfds, folder: Path) -> str:
    name = f"{loader.name}/{loader.config}" if loader.config else loader.name
    above = folder.parents[2 if loader.config else 1]
    get = (
        f"import tensorflow_datasets as tfds; "
        f"tfds.builder('{name}:{loader.version}', data_dir='{above}').download_and_prepare()"
    )
    return (
        f'To download it: python -c "{get}"\n'
        "If you have it elsewhere, name that folder (the one that contains "
        f"{name}/{loader.version}) with --data-dir or the environment variable TFDS_DATA_DIR."
    )
