"""Sets of tensorflow-datasets, read from disk. Nothing is ever downloaded from here.

TensorFlow is imported only when a set is read: where there is none, digits and .npz files still load.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Source, Split
from tinyrobust.data.cards import Card, Tfds
from tinyrobust.errors import DataError, MissingToolError
from tinyrobust.progress import Progress

_BATCH = 500


def tfds_folder(loader: Tfds, data_dir: Path | None = None) -> Path:
    """The folder where a set is expected: `<data folder>/<name>/<version>`.

    The data folder is the first of these that is given: `data_dir`, the environment variable TFDS_DATA_DIR, `tfds` in that of
    TINYROBUST_DATA, ~/tensorflow_datasets (the default of tensorflow-datasets). A `data_dir` may also be the folder above
    `tfds`, as TINYROBUST_DATA is.
    """
    within = Path(loader.name) / loader.version
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
def opened(card: Card, loader: Tfds, data_dir: Path | None = None) -> Iterator[tuple[Any, Any]]:
    """The builder of a prepared set, and settings that read its files one after the other: the official order.

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
        settings = tensorflow_datasets.ReadConfig(interleave_cycle_length=1)
        yield tensorflow_datasets.builder_from_directory(folder), settings
    # Damaged records, damaged JSON, a split or a field that is not there.
    except (tf.errors.OpError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"Expected {card.title} in {folder}. Received: it cannot be read ({type(error).__name__}: {reason}).",
            hint="Delete that folder and get it again. " + _how_to_get(loader, folder),
        ) from error


def read_tfds(card: Card, loader: Tfds, data_dir: Path | None = None, progress: Progress | None = None) -> Source:
    """Reads the training and test images of a prepared set, in the order of its files.

    Raises:
        DataError: The set is not on this machine, damaged, or not what the card says.
        MissingToolError: TensorFlow or tensorflow-datasets is not installed.
    """
    splits = {}
    with opened(card, loader, data_dir) as (builder, settings):
        from tensorflow_datasets import decode

        fields = decode.PartialDecoding({"image": True, "label": True})
        for name in ("train", "test"):
            batches = builder.as_dataset(
                split=name, shuffle_files=False, batch_size=_BATCH, read_config=settings, decoders=fields
            )
            total = builder.info.splits[name].num_examples
            splits[name] = _collect(card, name, batches.as_numpy_iterator(), total, progress)
    return Source(splits["train"], splits["test"], card.classes)


def _how_to_get(loader: Tfds, folder: Path) -> str:
    get = (
        f"import tensorflow_datasets as tfds; "
        f"tfds.builder('{loader.name}:{loader.version}', data_dir='{folder.parent.parent}').download_and_prepare()"
    )
    return (
        f'To download it: python -c "{get}"\n'
        "If you have it elsewhere, name that folder (the one that contains "
        f"{loader.name}/{loader.version}) with --data-dir or the environment variable TFDS_DATA_DIR."
    )


def _collect(card: Card, name: str, batches: Iterable[dict[str, NDArray[Any]]], total: int, progress: Progress | None) -> Split:
    x: NDArray[np.uint8] = np.empty((total, *card.image), np.uint8)
    y: NDArray[np.int64] = np.empty(total, np.int64)
    done = 0
    for batch in batches:
        images, labels = batch["image"], batch["label"]
        if images.shape[1:] != card.image or images.dtype != np.uint8:
            raise ValueError(f"Expected uint8 images of {card.image}. Received: {images.dtype} {images.shape[1:]}")
        x[done : done + len(labels)], y[done : done + len(labels)] = images, labels
        done += len(labels)
        if progress:
            progress(f"reading {card.name} ({name})", done, total)
    if done != total or total == 0:
        raise ValueError(f"Expected {total} images in {name}, at least one. Received: {done}")
    if y.min() < 0 or y.max() >= len(card.classes):
        raise ValueError(f"Expected labels from 0 to {len(card.classes) - 1}. Received: {y.min()} to {y.max()}")
    return Split(x, y)
