"""Images that stay on disk and are read when they are asked for, so that a set may be larger than memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from tinyrobust.errors import DataError


@dataclass(frozen=True, eq=False)
class Rows:
    """Images of a .npy file in an order of its own; stands where an array of images does.

    Indexing with a slice or with indices reads those images, and nothing else, into an array. The file is read and not mapped:
    its pages would count as this process's memory, and one that was cut short would end the process instead of raising.

    Attributes:
        path: A .npy file of images, uint8 [any, height, width, channels], in C order.
        offset: Where the first image begins in it, in bytes.
        image: Height, width and channels.
        index: For each image here, its place in the file; int64 [n].
    """

    path: Path
    offset: int
    image: tuple[int, int, int]
    index: NDArray[np.int64]

    dtype: ClassVar[np.dtype[np.uint8]] = np.dtype(np.uint8)
    ndim: ClassVar[int] = 4

    @classmethod
    def of_file(cls, path: Path) -> "Rows":
        """All images of a .npy file.

        Raises:
            ValueError: It is not a whole file of such images.
            OSError: It cannot be read.
        """
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if mapped.dtype != np.uint8 or mapped.ndim != 4 or not mapped.flags.c_contiguous:
            raise ValueError(f"Expected uint8 images in C order. Received: {mapped.dtype} {mapped.shape}")
        count, height, width, channels = mapped.shape
        return cls(path, mapped.offset, (height, width, channels), np.arange(count))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the array that all of them would make: [n, height, width, channels]."""
        return (len(self.index), *self.image)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, chosen: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        places = self.index[chosen]
        out = np.empty((len(places), *self.image), np.uint8)
        size = int(np.prod(self.image))
        with self.path.open("rb", buffering=0) as file:
            for k in np.argsort(places, kind="stable"):  # as they lie on the disk
                file.seek(self.offset + int(places[k]) * size)
                if file.readinto(out[k].data) != size:
                    raise DataError(
                        f"{self.path}: Expected the images that it had when it was opened. Received: it is shorter.",
                        hint="Something changed the file. Run the same command again: it is made anew.",
                    )
        return out

    def take(self, indices: NDArray[np.int64]) -> "Rows":
        """The images at `indices`, in that order; nothing is read."""
        return Rows(self.path, self.offset, self.image, self.index[indices])
