"""A pass over a prepared set of tensorflow-datasets: its images, batch by batch, in the colour and size of a recipe.

The whole set is held in memory where it fits the budget, before and after preprocessing. Otherwise a pass goes into a file of
the cache (`tinyrobust.data.converted`), so that neither JPEGs are decoded nor images resized at every start; from there it is
held in memory where the prepared images fit, and read row by row where they do not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data import memory
from tinyrobust.data.arrays import Split
from tinyrobust.data.cards import Card, Tfds
from tinyrobust.data.converted import converted
from tinyrobust.data.images import prepare, squared
from tinyrobust.progress import Progress

# Raise it when the same records come out otherwise: what the cache holds is then of no use.
_VERSION = 1
_LIBRARIES = ("pillow", "tensorflow")
# Images that are decoded at once: at most so many, and so many bytes. A few such batches are in flight.
_BATCH, _BATCH_BYTES = 500, 8 * 2**20
# The set as it is read and, beside it, its splits as a recipe draws them.
_COPIES = 2


@dataclass(frozen=True)
class Reader:
    """Reads the splits of one set; constructor arguments as for `tinyrobust.data.tfds.read_tfds`."""

    builder: Any
    card: Card
    loader: Tfds
    color: Literal["gray", "rgb"] | None
    size: int | None
    progress: Progress | None

    @property
    def image(self) -> tuple[int, int, int]:
        """Height, width and channels of a prepared image."""
        height, width, channels = self.card.image
        if self.color:
            channels = 1 if self.color == "gray" else 3
        return (self.size, self.size, channels) if self.size else (height, width, channels)

    def splits(self, names: tuple[str, ...]) -> list[Split]:
        """The splits of those names, in memory or on disk.

        Raises:
            ValueError: Something is not as the card says.
            tensorflow.errors.OpError: A record is damaged.
        """
        counts = {name: self.builder.info.splits[name].num_examples for name in names}
        most = memory.budget() // (_COPIES * max(1, sum(counts.values())))
        fits = int(np.prod(self.image)) <= most
        if fits and not self.loader.sizes_vary and int(np.prod(self.card.image)) <= most:
            return [self._in_memory(name, total) for name, total in counts.items()]
        kept = [self._on_disk(name, total) for name, total in counts.items()]
        return [Split(split.x[:], split.y) if fits else split for split in kept]

    def _in_memory(self, name: str, total: int) -> Split:
        x = np.empty((total, *self.image), np.uint8)
        y = np.empty(total, np.int64)
        done = 0
        for images, labels in self._batches(name, total):
            x[done : done + len(labels)], y[done : done + len(labels)] = images, labels
            done += len(labels)
        return Split(x, y)

    def _on_disk(self, name: str, total: int) -> Split:
        folder = Path(self.builder.data_dir)
        about = {
            "version": _VERSION,
            "libraries": {library: metadata.version(library) for library in _LIBRARIES},
            "set": [self.loader.name, self.loader.config, self.loader.version, name],
            "card": [self.card.image, self.loader.sizes_vary],
            "files": sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()),
        }
        stem = f"{self.loader.name}-{name}"
        return converted(stem, about, (total, *self.image), lambda: self._batches(name, total), self.progress)

    def _batches(self, name: str, total: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Prepared images and labels in official order; as many as the set says, or an error."""
        done = 0
        for images, labels in self._of_one_size(name) if not self.loader.sizes_vary else self._squares(name):
            if labels.min() < 0 or labels.max() >= len(self.card.classes):
                expected = f"labels from 0 to {len(self.card.classes) - 1}"
                raise ValueError(f"Expected {expected}. Received: {labels.min()} to {labels.max()}")
            done += len(labels)
            if done > total:
                break
            yield images, labels
            if self.progress:
                self.progress(f"reading {self.card.name} ({name})", done, total)
        if done != total or total == 0:
            raise ValueError(f"Expected {total} images in {name}, at least one. Received: {done}")

    def _of_one_size(self, name: str) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        at_once = max(1, min(_BATCH, _BATCH_BYTES // int(np.prod(self.card.image))))
        for record in self._records(name, at_once):
            images = record["image"]
            if images.shape[1:] != self.card.image or images.dtype != np.uint8:
                raise ValueError(f"Expected uint8 images of {self.card.image}. Received: {images.dtype} {images.shape[1:]}")
            yield self._prepared(images), record["label"].astype(np.int64)

    def _squares(self, name: str) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """The square in the middle of every image, resized; one image at a time, for they cannot be stacked before."""
        at_once = max(1, min(_BATCH, _BATCH_BYTES // int(np.prod(self.image))))
        images, labels = [], []
        for record in self._records(name, None):
            image = record["image"]
            if image.dtype != np.uint8 or image.shape[2:] != self.card.image[2:] or 0 in image.shape:
                raise ValueError(
                    f"Expected uint8 images of {self.card.image[2]} channels. Received: {image.dtype} {image.shape}"
                )
            images.append(self._prepared(squared(image)[np.newaxis])[0])
            labels.append(record["label"])
            if len(labels) == at_once:
                yield np.stack(images), np.array(labels, np.int64)
                images, labels = [], []
        if labels:
            yield np.stack(images), np.array(labels, np.int64)

    def _prepared(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        side = self.image[0] if self.size or self.loader.sizes_vary else None
        return prepare(images, "gray" if self.image[2] == 1 else "rgb", side)

    def _records(self, name: str, batch_size: int | None) -> Iterator[dict[str, Any]]:
        import tensorflow_datasets  # TensorFlow: seconds

        settings = in_order()
        fields = tensorflow_datasets.decode.PartialDecoding({"image": True, "label": True})
        records = self.builder.as_dataset(
            split=name, shuffle_files=False, batch_size=batch_size, read_config=settings, decoders=fields
        )
        yield from records.as_numpy_iterator()


def in_order() -> Any:
    """How tensorflow-datasets reads a set in its official order, without a second copy of it in memory."""
    import tensorflow_datasets  # TensorFlow: seconds

    return tensorflow_datasets.ReadConfig(interleave_cycle_length=1, try_autocache=False, skip_prefetch=True)
