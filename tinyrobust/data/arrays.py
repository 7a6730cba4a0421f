"""What a data set is once loaded: six arrays, their class names and a fingerprint."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.rows import Rows
from tinyrobust.data.speech.frontend_record import SpeechParts
from tinyrobust.errors import DataError
from tinyrobust.progress import Progress

Images = NDArray[np.uint8] | Rows
"""Images in memory, or on disk: both have shape and length, and give arrays when they are indexed."""
Samples = Images | NDArray[np.int16] | NDArray[np.float32]
"""What is attacked: images or features, or the sound of clips; numbers that are no pixels as shares of their range."""

# Bytes of images that are hashed at once: of those on disk, no more than these are in memory.
_CHUNK = 16 * 2**20


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        x: Images, uint8 in [0, 255], of shape [n, height, width, channels]; of large sets, on disk.
        y: Class indices, int64, of shape [n].

    Raises:
        DataError: The arrays are of another type or shape, or their lengths differ.
    """

    x: Images
    y: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.x.dtype != np.uint8 or self.x.ndim != 4:
            raise DataError(
                f"Expected uint8 images of shape [n, height, width, channels]. Received: {self.x.dtype} {self.x.shape}"
            )
        if self.y.dtype != np.int64 or self.y.shape != self.x.shape[:1]:
            raise DataError(f"Expected {len(self.x)} int64 labels, one an image. Received: {self.y.dtype} {self.y.shape}")

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """The images at `indices`, in that order: a copy, or where they are on disk."""
        return Split(self.x.take(indices) if isinstance(self.x, Rows) else self.x[indices], self.y[indices])

    def cut(self, n: int, seed: int) -> tuple["Split", "Split"]:
        """All but `n` of the samples, and those: a stratified draw. Both keep the order that the samples had."""
        drawn = np.zeros(len(self), bool)
        drawn[stratified(self.y, n, seed)] = True
        return self.take(np.flatnonzero(~drawn)), self.take(np.flatnonzero(drawn))


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as its owner stores it, before subsets, validation and preprocessing."""

    train: Split
    test: Split
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set as a recipe asks for it.

    Attributes:
        name: The card's name, or the file name of the .npz.
        train: Images to learn from, in the order in which they were drawn: every beginning of it is stratified.
        validation: Images for choices (checkpoints, settings), taken from the training images; drawn likewise.
        test: Images for the one evaluation at the end.
        classes: The name of each class; a label is an index into it.
        fingerprint: SHA-256 of the six arrays, in hex (see `fingerprint`); of speech, of the sound (`speech.fingerprint`).
        notes: What a reader of the figures must know, such as images that are missing.
        copies: Augmented copies of `train.x`, made beforehand: training sees another one each epoch. None for images.
        speech: Of speech, whose images are features: the front end that made them, and the sound.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()
    copies: tuple[NDArray[np.uint8], ...] = ()
    speech: SpeechParts | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        height, width, channels = self.train.x.shape[1:]
        return height, width, channels

    def with_fraction(self, fraction: float, seed: int) -> "Dataset":
        """The same with a fraction of the training images, at least one: a stratified draw, the beginning of any larger one.

        Args:
            fraction: In (0, 1]; at 1 nothing is drawn.
            seed: Equal seeds give equal draws.
        """
        if fraction == 1:
            return self
        rows = stratified(self.train.y, max(1, round(fraction * len(self.train))), seed)
        return replace(
            self,
            train=self.train.take(rows),
            copies=tuple(copy[rows] for copy in self.copies),
            speech=self.speech and replace(self.speech, recordings=self.speech.recordings.with_training(rows)),
        )


def scale(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Images as a network sees them: x / 255, float32 in [0, 1].

    No mean, no standard deviation: with scale 1/255 and zero point -128 the int8 input is pixel - 128, the sensor's own grid.
    """
    return x.astype(np.float32) / np.float32(255)


def stratified(y: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    """Draws `n` of the labelled samples so that each class keeps its share.

    Within a class the order is random; sample r (from 0) of a class of size N has the key (r + 1/2) / N, and the `n` smallest
    keys are drawn: the apportionment of Sainte-Lague. Equal keys are ordered at random. So a small draw is the beginning of a
    larger one with the same seed, and what remains is stratified too.

    Args:
        y: Labels, of shape [samples].
        n: How many to draw, 0 to `len(y)`.
        seed: Equal seeds give equal draws.

    Returns:
        Indices into `y`, distinct, in the order of the draw, of shape [n].

    Raises:
        DataError: More are asked for than there are.
    """
    if not 0 <= n <= len(y):
        raise DataError(f"Expected 0 to {len(y):,} samples: that is all there are. Received: n={n:,}")
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(y))
    key = np.empty(len(y))
    for label in np.unique(y):
        members = shuffled[y[shuffled] == label]
        key[members] = (np.arange(len(members)) + 0.5) / len(members)
    ties = random.permutation(len(y))
    return np.lexsort((ties, key))[:n].astype(np.int64)


def fingerprint(*splits: Split, progress: Progress | None = None) -> str:
    """SHA-256, in hex, over type, shape and bytes of x and y of the splits, in this order: train, validation, test."""
    digest = hashlib.sha256()
    done, total = 0, sum(map(len, splits))
    for split in splits:
        digest.update(f"{split.x.dtype.str} {split.x.shape};".encode())
        at_once = max(1, _CHUNK // max(1, int(np.prod(split.x.shape[1:]))))
        for start in range(0, len(split), at_once):
            digest.update(np.ascontiguousarray(split.x[start : start + at_once]).data)
            if progress and isinstance(split.x, Rows):  # in memory it takes no time
                progress("reading images", done + min(start + at_once, len(split)), total)
        done += len(split)
        digest.update(f"{split.y.dtype.str} {split.y.shape};".encode())
        digest.update(np.ascontiguousarray(split.y).data)
    return digest.hexdigest()
