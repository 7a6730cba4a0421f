"""Samples for an existing file: a .npz with x_test and y_test of any shape and number type, fitted to what the file takes.

What `npz.py` reads is images for training. Here only the test part is needed, and inputs may be sensor windows, feature maps,
tables or images, as integers or real numbers. Imports no TensorFlow.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.images import prepare
from tinyrobust.data.npz import labels, read_arrays
from tinyrobust.errors import DataError

Values = NDArray[Any]
"""Numbers of any type."""
Labels = NDArray[np.int64]
_FORMAT = (
    "The file needs x_test (numbers, [n, ...]) and y_test (integers from 0, [n]); x_train and y_train, and classes (names), "
    'are taken where they are there. np.savez("mine.npz", x_test=x, y_test=y) writes one.'
)


@dataclass(frozen=True, eq=False)
class Samples:
    """What a .npz holds for an existing file.

    Attributes:
        name: Of the .npz.
        fingerprint: SHA-256 of its test part, in hex.
        x: Test inputs [n, ...].
        y: Their classes, int64 [n]; of several labels, 0 or 1, int64 [n, labels].
        train: The same of the training part; None where there is none.
        classes: How many classes the data have: names, or the largest label of both parts and one.
    """

    name: str
    fingerprint: str
    x: Values
    y: Labels
    train: tuple[Values, Labels] | None
    classes: int


def read_samples(path: Path, labels_each: int = 1) -> Samples:
    """Reads a .npz of any inputs. Nothing in it is unpickled.

    Args:
        path: Of the file.
        labels_each: How many labels an input may have that hold or do not; then y may be [n, labels_each] of 0 and 1.

    Raises:
        DataError: The file is missing or corrupt, or its arrays are not as expected.
    """
    arrays = read_arrays(path, _FORMAT)
    missing = [name for name in ("x_test", "y_test") if name not in arrays]
    if missing:
        names = ", ".join(arrays) or "no arrays"
        raise DataError(f"{path}: Expected the arrays x_test and y_test. Received: {names}", hint=_FORMAT)
    x, y = _part(path, "test", arrays, labels_each)
    train = _part(path, "train", arrays, labels_each) if {"x_train", "y_train"} <= arrays.keys() else None
    if train and train[0].shape[1:] != x.shape[1:]:
        raise DataError(f"{path}: Expected inputs of one shape. Received: {train[0].shape[1:]} and {x.shape[1:]}")
    names_ = arrays.get("classes")
    most = max([int(y.max()), *([int(train[1].max())] if train else [])]) + 1
    digest = hashlib.sha256(f"{x.dtype.str} {x.shape};".encode())
    digest.update(np.ascontiguousarray(x).data)
    digest.update(y.tobytes())
    return Samples(path.name, digest.hexdigest(), x, y, train, most if names_ is None else max(most, names_.size))


def _part(path: Path, part: str, arrays: dict[str, Values], labels_each: int) -> tuple[Values, Labels]:
    name, x = f"x_{part}", arrays[f"x_{part}"]
    if x.dtype.kind not in "buif":
        raise DataError(f"{path}: Expected numbers in {name}. Received: {x.dtype}", hint=_FORMAT)
    if x.ndim < 2 or not x.size:
        hint = f"Of one input: {name}={name}[np.newaxis]. Of one number for each sample: {name}={name}.reshape(-1, 1)."
        raise DataError(f"{path}: Expected {name} of shape [n, ...]. Received: {x.shape}", hint=hint)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).reshape(len(x), -1).any(axis=1).sum())
        raise DataError(
            f"{path}: Expected finite numbers in {name}. Received: NaN or infinite values in {bad} of {len(x)} samples",
            hint=f"Leave these out: keep = np.isfinite({name}).reshape(len({name}), -1).all(axis=1).",
        )
    y = arrays[f"y_{part}"]
    if y.shape == (len(x), labels_each) and labels_each > 1 and y.dtype.kind in "biuf" and np.isin(y, (0, 1)).all():
        y = y.astype(np.int64)
    else:
        y = labels(path, f"y_{part}", y, len(x))
    if y.min() < 0:
        raise DataError(f"{path}: Expected labels from 0 in y_{part}. Received: {y.min()} to {y.max()}")
    return (x.astype(np.uint8) if x.dtype.kind == "b" else x), y


def fitted(x: Values, shape: tuple[int, ...], name: str = "the data") -> tuple[Values, str]:
    """Inputs in the shape that a file takes, and in words what was done for that; nothing where they have it.

    Axes of length 1 come and go, flat rows are cut into rows and rows laid flat, in the order that they have; channels first
    and channels last become each other; uint8 images get the file's size and colour as those of every data set.

    Args:
        x: Inputs [n, ...].
        shape: Of one input of the file.
        name: Of the data, for the refusal.

    Raises:
        DataError: They cannot be made so.
    """
    own = tuple(x.shape[1:])
    if own == shape:
        return x, ""
    plain, wanted = (tuple(size for size in sizes if size > 1) for sizes in (own, shape))
    if plain == wanted:
        return x.reshape(-1, *shape), ""
    said = f"{_text(own)} of the data became {_text(shape)}"
    if math.prod(own) == math.prod(shape) and 1 in (len(plain), len(wanted)):
        how = "laid flat" if len(wanted) == 1 else "cut into rows"
        return x.reshape(-1, *shape), f"{said}: {how}, in the order that the values have."
    moved = _channels_moved(plain, wanted)
    if moved is not None:
        data = np.moveaxis(x.reshape(-1, *plain), *moved)
        return np.ascontiguousarray(data).reshape(-1, *shape), f"{said}: {_first_or_last(moved)}."
    return _image(x, shape, name)


def _channels_moved(own: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, int] | None:
    """From which axis of a batch to which the channels go; None where that does not help."""
    if len(own) < 2 or len(own) != len(wanted):
        return None
    if own[1:] + own[:1] == wanted:
        return 1, -1
    return (-1, 1) if own[-1:] + own[:-1] == wanted else None


def _first_or_last(moved: tuple[int, int]) -> str:
    return (
        "channels first in the data, last in the file" if moved == (1, -1) else "channels last in the data, first in the file"
    )


def _image(x: Values, shape: tuple[int, ...], name: str) -> tuple[Values, str]:
    """uint8 images in the size and colour of a file that takes images."""
    own = tuple(x.shape[1:])
    images = x[..., np.newaxis] if len(own) == 2 else x
    first = len(own) == 3 and own[0] in (1, 3) and own[2] not in (1, 3)
    images = np.moveaxis(images, 1, -1) if first else images
    file_first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3)
    height, width, channels = (shape[1], shape[2], shape[0]) if file_first else (*shape, 1)[:3] if len(shape) > 1 else (0, 0, 0)
    if x.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3) or channels not in (1, 3) or len(shape) > 3:
        raise DataError(
            f"Expected inputs of shape [n, {', '.join(map(str, shape))}]: that is what the file takes. "
            f"Received: {x.dtype} [n, {', '.join(map(str, own))}] in {name}",
            hint=_one_liner(own, shape),
        )
    done = [f"{_text(own)} of the data became {_text(shape)}"]
    done += ["channels first in the data, last in the file"] if first and not file_first else []
    done += ["channels last in the data, first in the file"] if file_first and not first else []
    done += ["made " + ("gray" if channels == 1 else "rgb")] if images.shape[3] != channels else []
    done += ["resized (bilinear)"] if images.shape[1:3] != (height, width) else []
    made = prepare(np.ascontiguousarray(images).view(np.uint8), "gray" if channels == 1 else "rgb", (height, width))
    made = np.moveaxis(made, -1, 1) if file_first else made
    return np.ascontiguousarray(made).reshape(-1, *shape), f"{done[0]}: {', '.join(done[1:])}."


def _one_liner(own: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """The line of NumPy that makes the one shape from the other, where one is likely."""
    ours, theirs = sorted(size for size in own if size > 1), sorted(size for size in shape if size > 1)
    if ours == theirs and len(own) == len(shape):
        order = ", ".join(str(1 + own.index(size)) for size in shape)
        return f"Turn them: x_test = x_test.transpose(0, {order})."
    if math.prod(own) == math.prod(shape):
        return f"Of as many values: x_test = x_test.reshape(-1, {', '.join(map(str, shape))}), if their order is the file's."
    if len(own) == len(shape) and own[1:] == shape[1:]:
        return f"The same but for the length: x_test = x_test[:, :{shape[0]}] where it is longer."
    return f"The file takes {math.prod(shape):,} values an input, these have {math.prod(own):,}."


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
