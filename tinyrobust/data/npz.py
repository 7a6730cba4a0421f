"""Anybody's data: a .npz file with x_train, y_train, x_test, y_test and, if wanted, classes."""

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Source, Split
from tinyrobust.errors import DataError

_NEEDED = ("x_train", "y_train", "x_test", "y_test")
_FORMAT = (
    "The file needs x_train and x_test (uint8, [n, height, width] or [n, height, width, channels]), "
    "y_train and y_test (integers, [n]), and may name its classes (text, [number of classes])."
)
_LABELS = (
    "Class indices are wanted: y.reshape(-1) for a column, y.argmax(-1) for one-hot rows, "
    "np.unique(y, return_inverse=True)[1] for names."
)


def read_npz(path: Path) -> Source:
    """Reads images and labels from a .npz file. Nothing in it is unpickled.

    Raises:
        DataError: The file is missing, corrupt, or its arrays are not as expected.
    """
    arrays = read_arrays(path)
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        names = ", ".join(arrays) or "no arrays"
        raise DataError(f"{path}: Expected the arrays {', '.join(_NEEDED)}. Received: {names}", hint=_FORMAT)
    x = {part: _images(path, f"x_{part}", arrays[f"x_{part}"]) for part in ("train", "test")}
    if x["train"].shape[1:] != x["test"].shape[1:]:
        raise DataError(
            f"{path}: Expected training and test images of one shape. "
            f"Received: {x['train'].shape[1:]} and {x['test'].shape[1:]}"
        )
    y = {part: labels(path, f"y_{part}", arrays[f"y_{part}"], len(x[part])) for part in ("train", "test")}
    classes = _classes(path, arrays.get("classes"), y["train"])
    for part in ("train", "test"):
        if y[part].min() < 0 or y[part].max() >= len(classes):
            raise DataError(
                f"{path}: Expected labels from 0 to {len(classes) - 1} in y_{part}. "
                f"Received: {y[part].min()} to {y[part].max()}"
            )
    unseen = sorted(set(range(len(classes))) - set(y["train"].tolist()))
    if unseen:
        raise DataError(
            f"{path}: Expected training images of each of the {len(classes)} classes. "
            f"Received: none with the label {', '.join(map(str, unseen[:10]))}",
            hint="Number the classes from 0 without gaps.",
        )
    return Source(Split(x["train"], y["train"]), Split(x["test"], y["test"]), classes)


def read_arrays(path: Path, hint: str = _FORMAT) -> dict[str, NDArray[np.generic]]:
    """Every array of a .npz, by name. Nothing in it is unpickled.

    Args:
        path: Of the file.
        hint: What it should hold, for the refusal.

    Raises:
        DataError: The file is missing or corrupt, or holds Python objects.
    """
    if not path.is_file():
        raise DataError(f"Expected a .npz file at {path}. Received: there is no such file.", hint="Check data.name.")
    try:
        # Opened here: NumPy leaves a file open when it turns out not to be a whole .npz.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    # NumPy's own readers raise these on damaged files; AttributeError: a .npy of one array under the name .npz.
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a .npz file: {error}", hint=hint) from error


def _images(path: Path, name: str, x: NDArray[np.generic]) -> NDArray[np.uint8]:
    if x.dtype != np.uint8:
        raise DataError(f"{path}: Expected {name} as uint8. Received: {x.dtype}", hint=_as_pixels(name, x))
    images = x[..., np.newaxis] if x.ndim == 3 else x
    if images.ndim != 4 or images.shape[3] not in (1, 3) or 0 in x.shape:
        raise DataError(
            f"{path}: Expected {name} of shape [n, height, width] or [n, height, width, 1 or 3]. Received: {x.shape}",
            hint=_as_images(name, x.shape),
        )
    return images.astype(np.uint8, copy=False)


def _as_pixels(name: str, x: NDArray[np.generic]) -> str:
    """The line of NumPy that makes uint8 pixels of numbers, by the range that they have."""
    lines = {
        (0, 1): f"{name} = np.round(255 * {name}).astype(np.uint8)",
        (-1, 1): f"{name} = np.round(127.5 * ({name} + 1)).astype(np.uint8)",
        (0, 255): f"{name} = np.round({name}).astype(np.uint8)",
        (-128, 127): f"{name} = np.round({name} + 128.0).astype(np.uint8)",
        (0, 65535): f"{name} = np.round({name} / 257).astype(np.uint8)",
    }
    usable = x.dtype.kind in "iufb" and x.size and np.isfinite(x.astype(np.float64)).all()
    low, high = (float(x.min()), float(x.max())) if usable else (0.0, 1.0)
    fitting = [line for (lowest, highest), line in lines.items() if lowest <= low and high <= highest]
    if not fitting:
        return (
            f"Pixels are uint8 from 0 to 255; these are {low:g} to {high:g}. What is no image is trained elsewhere; attack the "
            "file with `tinyrobust attack FILE.tflite --data`, which takes any numbers."
        )
    return f"Store pixels as uint8 from 0 to 255: {fitting[0]}."


def _as_images(name: str, shape: tuple[int, ...]) -> str:
    """The line of NumPy that turns an array into [n, height, width, channels], where one is known."""
    if 0 in shape:
        return "There is nothing in it."
    if len(shape) == 4 and shape[1] in (1, 3):
        return f"Channels come last: {name} = np.moveaxis({name}, 1, -1)."
    if len(shape) == 4 and shape[3] == 4:
        return f"Without the fourth channel: {name} = {name}[..., :3]."
    if len(shape) == 2 and (side := math.isqrt(shape[1])) ** 2 == shape[1]:
        return f"Rows of {side} x {side} pixels: {name} = {name}.reshape(-1, {side}, {side})."
    return _FORMAT


def labels(path: Path, name: str, y: NDArray[np.generic], count: int) -> NDArray[np.int64]:
    """Labels [n], checked.

    Raises:
        DataError: They are no integers, of another shape, or another number than there are samples.
    """
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise DataError(f"{path}: Expected integers in {name}. Received: {y.dtype} with NaN")
    if y.dtype.kind not in "iu":
        whole = y.dtype.kind in "bf" and bool(np.all(y == np.round(y.astype(np.float64))))
        hint = f"They are whole numbers: {name} = {name}.astype(np.int64)." if whole and y.ndim == 1 else _LABELS
        raise DataError(f"{path}: Expected integers in {name}. Received: {y.dtype} {y.shape}", hint=hint)
    if y.ndim != 1:
        raise DataError(f"{path}: Expected {name} of shape [n]. Received: {y.shape}", hint=_LABELS)
    if len(y) != count:
        raise DataError(f"{path}: Expected {count} labels in {name}, one an image. Received: {len(y)}")
    return y.astype(np.int64)


def _classes(path: Path, names: NDArray[np.generic] | None, y_train: NDArray[np.int64]) -> tuple[str, ...]:
    if names is None:
        return tuple(str(label) for label in range(max(2, int(y_train.max()) + 1)))
    if names.dtype.kind != "U" or names.ndim != 1 or len(names) < 2:
        raise DataError(f"{path}: Expected classes as two or more texts. Received: {names.dtype} {names.shape}")
    return tuple(names.tolist())
