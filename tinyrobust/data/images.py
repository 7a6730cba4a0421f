"""Preprocessing of images: colour and size. uint8 in, uint8 out, each image by itself: nothing leaks between splits."""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinyrobust.data.rows import Rows
from tinyrobust.progress import Progress

_Images = TypeVar("_Images", NDArray[np.uint8], NDArray[np.uint8] | Rows)

# Images converted at once: bounds the memory of the wide integers in `_luma` and how often progress is reported.
_CHUNK = 5000


def prepare(
    x: _Images,
    color: Literal["gray", "rgb"],
    size: int | tuple[int, int] | None,
    progress: Progress | None = None,
) -> _Images:
    """Images in the colour and size that a recipe asks for: colour first, then size.

    Gray is the luma of ITU-R BT.601, (299 R + 587 G + 114 B) / 1000 rounded half up, in integers and so the same everywhere.
    Gray images asked for in RGB repeat their channel. Resizing is Pillow's bilinear filter, whose support grows with the
    reduction (antialiased), in its fixed-point uint8 arithmetic; it does not keep the aspect ratio.

    Args:
        x: Images of shape [n, height, width, 1 or 3]; those on disk are left there when they are as wanted.
        color: What the network sees.
        size: Height and width in pixels, one number where they are the same; None keeps them.
        progress: Called with the number of images done.

    Returns:
        Images of shape [n, height, width, 1 (gray) or 3 (rgb)].
    """
    channels = 1 if color == "gray" else 3
    height, width = (size, size) if isinstance(size, int) else size or x.shape[1:3]
    if x.shape[1:] == (height, width, channels):
        return x
    out = np.empty((len(x), height, width, channels), np.uint8)
    for start in range(0, len(x), _CHUNK):
        part = _resized(_recolored(x[start : start + _CHUNK], channels), height, width)
        out[start : start + _CHUNK] = part
        if progress:
            progress("preparing images", start + len(part), len(x))
    return out


def squared(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The largest square in the middle of an image [height, width, channels]; of an odd rest, the smaller half is first."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _recolored(x: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    if x.shape[3] == channels:
        return x
    return _luma(x) if channels == 1 else np.repeat(x, 3, axis=3)


def _luma(x: NDArray[np.uint8]) -> NDArray[np.uint8]:
    red, green, blue = (x[..., channel : channel + 1].astype(np.uint32) for channel in range(3))
    return ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)


def _resized(x: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if x.shape[1:3] == (height, width):
        return x
    # Pillow takes gray images without a channel axis.
    images = x[..., 0] if x.shape[3] == 1 else x
    out = [np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)) for image in images]
    return np.stack(out).reshape(len(x), height, width, x.shape[3])
