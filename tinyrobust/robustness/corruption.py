"""Common corruptions of images: noise, blur, light and compression, by the package imagecorruptions, and repeatable."""

import contextlib
import io
import zlib
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from tinyrobust.attacks.seeds import seeded
from tinyrobust.data.arrays import Samples
from tinyrobust.data.images import prepare
from tinyrobust.errors import DataError, MissingToolError

PACKAGE = "imagecorruptions-imaug"
SMALLEST = 32  # pixels: the package takes no smaller images; its motion blur reaches over 21 to 41

_INSTALL = "pip install 'tinyrobust[corruptions]'; on Debian also: apt install libgl1 libglib2.0-0"


def corrupted(images: NDArray[np.uint8], kind: str, severity: int, index: NDArray[np.int64], seed: int) -> NDArray[np.uint8]:
    """Images with one corruption (Hendrycks and Dietterich 2019, arXiv 1903.12261) at one severity.

    A gray image is corrupted as one of three equal channels, and made gray again as data sets are (luma, ITU-R BT.601): noise
    that is drawn for each channel has 0.67 of its standard deviation then.

    Args:
        images: uint8 [n, h, w, 1 or 3], h and w at least 32.
        kind: A `Corruption.kind`.
        severity: 1 to 5, with the constants of ImageNet-C.
        index: The places [n] of the images in their test set. With kind, severity and `seed` they decide what is drawn for an
            image: not which others are corrupted, nor in what order.
        seed: Of the evaluation.

    Returns:
        uint8 of the same shape.

    Raises:
        MissingToolError: The package is not installed.
    """
    package, name = library(), kind.replace("-", "_")
    changed = np.empty((*images.shape[:3], 3), np.uint8)
    for place, (image, position) in enumerate(zip(images, index, strict=True)):
        # The package draws from NumPy's global generator, but for impulse noise, which takes a seed.
        with (
            seeded(seed, zlib.crc32(kind.encode()), severity, int(position)) as drawn,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            own = {"seed": drawn} if kind == "impulse-noise" else {}
            changed[place] = package.corrupt(image, severity, name, **own)
    return prepare(changed, "gray" if images.shape[3] == 1 else "rgb", None)


def check_images(samples: Samples, name: str, unit: str = "") -> None:
    """Refuses what is no image, or too small for corruptions to mean anything.

    Args:
        samples: Test samples [n, ...].
        name: Of the data set.
        unit: Of what an epsilon is a share, where the samples are no pixels.

    Raises:
        DataError: It does; the message says why.
    """
    shape, kind = tuple(samples.shape[1:]), samples.dtype
    if unit or kind != np.uint8 or len(shape) != 3 or shape[2] not in (1, 3):
        raise DataError(
            f"Expected images of 8-bit pixels, [n, height, width, 1 or 3]: corruptions are those of a camera. "
            f"Received: {kind} {shape} of {name}{', no pixels' if unit else ''}",
            hint="Features of sound and windows of sensor values have no blur and no JPEG. Store images as uint8.",
        )
    if min(shape[:2]) < SMALLEST:
        raise DataError(
            f"Expected images of at least {SMALLEST}x{SMALLEST} pixels. Received: {shape[0]}x{shape[1]} of {name}: "
            "the constants of corruptions are for photographs, and an enlarged image would be another one",
            hint="For small images there are attacks, such as --protocol adaptive.",
        )


def library() -> ModuleType:
    """The package.

    Raises:
        MissingToolError: It, or what it needs of the system, is not installed.
    """
    try:
        import imagecorruptions
    except ImportError as error:
        raise MissingToolError(
            f"Expected the package {PACKAGE} for corruptions of images. Received: {error}", hint=_INSTALL
        ) from error
    return imagecorruptions  # type: ignore[no-any-return]
