"""Large sets, prepared once: a pass over their batches fills a file of the cache, from which training reads any image.

Training needs any image at any time: its order is drawn over all of them, and is a function of (seed, epoch, batch), so that a
killed run goes on exactly. A stream of compressed records has neither; a file of decoded rows has both, gives the batches that
arrays in memory give, and nothing is decoded or resized a second time. The price is disk: one byte a value.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import filelock
import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Split
from tinyrobust.data.rows import Rows
from tinyrobust.data.speech.cache import folder
from tinyrobust.errors import DataError, RunFolderError
from tinyrobust.files import atomic_path, clear_errors
from tinyrobust.progress import Progress

Batches = Iterable[tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""Prepared images and their labels, in the order of the set."""

_HINT = "Free some space, or name a folder with more by the environment variable TINYROBUST_CACHE."


def converted(
    name: str,
    depends_on: object,
    shape: tuple[int, int, int, int],
    batches: Callable[[], Batches],
    progress: Progress | None = None,
) -> Split:
    """Images on disk: from the cache where they are there, else written batch by batch.

    The labels are written last: images without them are not taken for whole. Of several processes one writes, others wait.

    Args:
        name: The first part of the files' names.
        depends_on: Everything that changes the result, as JSON can write it.
        shape: Of all images.
        batches: Begins a pass over the set; it gives as many images as `shape` says.
        progress: Called while another process is waited for.

    Raises:
        DataError: There is not enough space for them.
        RunFolderError: They cannot be written.
    """
    key = hashlib.sha256(json.dumps([depends_on, shape], sort_keys=True).encode()).hexdigest()
    stem = f"{name}-{key[:32]}"
    images, labels = folder() / f"{stem}-images.npy", folder() / f"{stem}-labels.npy"
    if found := _whole(images, labels, shape):
        return found
    try:
        with clear_errors(images):
            images.parent.mkdir(parents=True, exist_ok=True)
            with _turn(folder() / f"{stem}.lock", name, progress):
                if found := _whole(images, labels, shape):  # made while this process waited
                    return found
                for abandoned in images.parent.glob(f".partial-*{stem}-*"):
                    abandoned.unlink(missing_ok=True)  # of a process that was killed: gigabytes
                _room_for(shape, images)
                _write(images, labels, shape, batches())
    except RunFolderError as error:
        raise RunFolderError(error.message, hint=_HINT) from error
    return Split(Rows.of_file(images), np.load(labels, allow_pickle=False))


@contextlib.contextmanager
def _turn(path: Path, name: str, progress: Progress | None) -> Iterator[None]:
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        if progress:
            progress(f"waiting for another process that prepares {name}", 0, 1)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _whole(images: Path, labels: Path, shape: tuple[int, int, int, int]) -> Split | None:
    try:
        y = np.load(labels, allow_pickle=False)
        x = Rows.of_file(images)
    except (OSError, ValueError, EOFError):
        return None
    return Split(x, y) if x.shape == shape and y.shape == shape[:1] and y.dtype == np.int64 else None


def _room_for(shape: tuple[int, int, int, int], images: Path) -> None:
    needed, free = int(np.prod(shape)), shutil.disk_usage(images.parent).free
    if needed > free:
        raise DataError(
            f"Expected {needed / 2**20:,.0f} MiB of free space in {images.parent} for {shape[0]:,} prepared images. "
            f"Received: {free / 2**20:,.0f} MiB",
            hint=_HINT + " A smaller data.size needs less.",
        )


def _write(images: Path, labels: Path, shape: tuple[int, int, int, int], batches: Batches) -> None:
    y: list[NDArray[np.int64]] = []
    with atomic_path(images) as temporary, temporary.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for x, classes in batches:
            file.write(np.ascontiguousarray(x).data)
            y.append(classes)
    with atomic_path(labels) as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate(y), allow_pickle=False)
