"""Image files to one array: read with Pillow, brought to one size and colour; what cannot be read is named, not fatal."""

import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tinyrobust.data.images import prepare
from tinyrobust.errors import DataError
from tinyrobust.progress import Progress

# What Pillow raises on damaged files, by format; OSError covers files that are missing, cut short or of no known format.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Skipped:
    """A file that is left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images of one shape.

    Attributes:
        x: uint8, of shape [n, height, width, 1 or 3].
        kept: For each of them, the index of its file.
        skipped: The files that could not be read.
        remarks: What was done to all of them, a sentence each.
    """

    x: NDArray[np.uint8]
    kept: NDArray[np.int64]
    skipped: tuple[Skipped, ...]
    remarks: tuple[str, ...] = ()


def read_files(
    paths: Sequence[Path],
    *,
    color: Literal["gray", "rgb"] | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> Pictures:
    """Reads image files of any format that Pillow knows; of several frames the first.

    Turned as their EXIF data say; what is transparent becomes black; 16-bit gray is scaled to 8 bits, and where all of it would
    fit in 12, 10 or 8 bits, as sensors write it, from these: it would be black else, and a remark says so. Colour and size are
    changed as for every data set (`tinyrobust.data.images.prepare`).

    Args:
        paths: The files.
        color: Made so; None: as they are, and they must all be gray or all be in colour.
        size: Resized to size x size; None: as they are, and they must all have one size.
        progress: Called with the number of files done.

    Raises:
        DataError: No file can be read, or sizes or channels differ and nothing says what they should be.
    """
    images: list[NDArray[np.uint8]] = []
    kept, skipped = [], []
    white, remarks = _white(paths)
    for index, path in enumerate(paths):
        try:
            image = _read(path, white)
        except _DAMAGED as error:
            skipped.append(Skipped(str(path), _reason(path, error)))
        else:
            images.append(prepare(image[np.newaxis], color or ("gray" if image.shape[2] == 1 else "rgb"), size)[0])
            kept.append(index)
        if progress:
            progress("reading images", index + 1, len(paths))
    if not images:
        first = f" The first: {skipped[0].path}: {skipped[0].reason}." if skipped else ""
        raise DataError(f"Expected images. Received: {len(paths):,} files, none of which can be read.{first}")
    _one_shape(images, [paths[index] for index in kept])
    return Pictures(np.stack(images), np.array(kept, np.int64), tuple(skipped), remarks)


def _white(paths: Sequence[Path]) -> tuple[int, tuple[str, ...]]:
    """What white is in 16-bit images, of all of them together, and what is to be said of it."""
    highest, count = 0, 0
    for path in paths:
        try:
            with Image.open(path) as opened:  # the header alone, of all but 16-bit images
                if opened.mode.startswith("I"):
                    count += 1
                    highest = max(highest, int(np.asarray(opened).max(initial=0)))
        except _DAMAGED:
            continue  # named when it is read
    white = next((level for level in (255, 1023, 4095) if 0 < highest <= level), 65535)
    if white == 65535:
        return white, ()
    bits = white.bit_length()
    return white, (f"{count:,} images of 16 bits hold no value above {highest:,}: {bits} bits, so {white:,} is white.",)


def _read(path: Path, white: int) -> NDArray[np.uint8]:
    """One image, uint8, of shape [height, width, 1 or 3]."""
    with Image.open(path) as opened:
        opened.load()
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16 bits, which Pillow would clip: 65535 becomes 255
            deep = np.clip(np.asarray(image).astype(np.int64), 0, white)
            return ((2 * 255 * deep + white) // (2 * white)).astype(np.uint8)[..., np.newaxis]
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers")
        if image.has_transparency_data:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            gray = image.mode in ("LA", "La", "L", "1")
            image = Image.alpha_composite(black, image.convert("RGBA")).convert("L" if gray else "RGB")
        elif image.mode in ("1", "L"):
            image = image.convert("L")
        else:
            image = image.convert("RGB")
        pixels: NDArray[np.uint8] = np.asarray(image)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels


def _reason(path: Path, error: BaseException) -> str:
    if not path.exists():
        return "there is no such file"
    # Pillow's message repeats the path.
    return "not an image that can be read" if isinstance(error, UnidentifiedImageError) else str(error).splitlines()[0]


def _one_shape(images: list[NDArray[np.uint8]], paths: list[Path]) -> None:
    for what, axes, hint in (
        ("number of channels", slice(2, 3), "--color gray or --color rgb makes them equal."),
        ("size", slice(0, 2), "--size 32 resizes all of them to 32 x 32."),
    ):
        found = Counter(image.shape[axes] for image in images)
        if len(found) > 1:
            examples = {image.shape[axes]: path for image, path in zip(reversed(images), reversed(paths), strict=True)}
            listing = "; ".join(
                f"{'x'.join(map(str, shape))}: {count:,} (such as {examples[shape]})" for shape, count in found.most_common(4)
            )
            raise DataError(f"Expected images of one {what}. Received: {len(found)}: {listing}", hint=hint)
