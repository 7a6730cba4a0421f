"""Anybody's images become a data set: a folder of classes, a list in a CSV file, or a .npz; checked, packed, with a card.

The images are packed into one .npz beside the card, so that a run next year sees exactly the images of today; the card has
their fingerprint.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tomli_w
from PIL import __version__ as pillow

from tinyrobust import toml
from tinyrobust.data.arrays import Source, Split, fingerprint, stratified
from tinyrobust.data.cards import Card
from tinyrobust.data.files import Skipped, read_files
from tinyrobust.data.listing import LAYOUT, Listing, list_folder, list_table, with_one_name_each
from tinyrobust.data.npz import read_npz
from tinyrobust.errors import DataError
from tinyrobust.files import atomic_path, write_atomic
from tinyrobust.progress import Progress


@dataclass(frozen=True)
class Added:
    """A data set that was added.

    Attributes:
        card: Its card.
        path: Where the card is: what `data.name` of a recipe takes.
        counts: For each class its training and test images.
        skipped: Files that could not be read.
        leaked: Test images that are, pixel for pixel, training images too.
        remarks: What was left out, merged or taken for something else, a sentence each.
    """

    card: Card
    path: Path
    counts: dict[str, tuple[int, int]]
    skipped: tuple[Skipped, ...]
    leaked: int
    remarks: tuple[str, ...] = ()


def add(
    source: Path,
    folder: Path,
    *,
    name: str,
    title: str = "",
    licence: str = "Not stated",
    test: float = 0.2,
    seed: int = 0,
    color: Literal["gray", "rgb"] | None = None,
    size: int | None = None,
    flip_allowed: bool = False,
    progress: Progress | None = None,
) -> Added:
    """Reads images, checks them, and writes `<name>.toml` (the card) and `<name>.npz` (the images) into `folder`.

    Args:
        source: A folder, a .csv or a .npz.
        folder: Where the two files go. The images of a .npz stay where they are.
        name: The data set's.
        title: In words; the name when empty.
        licence: Of the images.
        test: Share of the images for the test, drawn stratified with `seed`, where the source does not say which.
        seed: Of that draw; not a recipe's, so the test images never change.
        color: Makes all images so.
        size: Makes all images size x size pixels.
        flip_allowed: Whether a mirrored image is still of its class.
        progress: Called with the files read.

    Raises:
        DataError: There are no such images, sizes or channels differ, or a class has too few.
        RunFolderError: The files cannot be written.
    """
    if not re.fullmatch(r"[\w][\w.-]*", name):
        raise DataError(
            f"Expected a name of letters, digits, '.', '_' and '-'. Received: {name!r}", hint="Give one with --name."
        )
    data, splits, skipped, remarks = _images(source, test, seed, color, size, progress)
    path = source if source.suffix == ".npz" else folder / f"{name}.npz"
    leaked = _leaked(data)
    splits += f" {leaked:,} test images are training images too, pixel for pixel." if leaked else ""
    values = {
        "title": title or name,
        "source": f"Own data, added from {source.name}",
        "licence": licence,
        "classes": list(data.classes),
        "image": list(data.train.x.shape[1:]),
        "train_images": len(data.train),
        "test_images": len(data.test),
        "flip_allowed": flip_allowed,
        "splits": splits,
        "preprocessing": _preprocessing(source, color, size, len(skipped)),
        "loader": _loader(path, folder, data),
    }
    card = toml.validated(Card, {"name": name, **values}, f"The card of {source}", DataError)
    if path != source:
        _pack(path, data)
    write_atomic(folder / f"{name}.toml", tomli_w.dumps(values))
    return Added(card, folder / f"{name}.toml", _counts(data), skipped, leaked, remarks)


def _images(
    source: Path,
    test: float,
    seed: int,
    color: Literal["gray", "rgb"] | None,
    size: int | None,
    progress: Progress | None,
) -> tuple[Source, str, tuple[Skipped, ...], tuple[str, ...]]:
    """The images, which are for the test, in words, the files that could not be read, and remarks."""
    if source.suffix == ".npz":
        if color or size:
            raise DataError("Expected neither --color nor --size for a .npz: data.color and data.size of a recipe do that.")
        return read_npz(source), "As the file says.", (), ()
    listing = _listing(source)
    drawn = f"Stratified, drawn once with seed {seed}: {100 * test:g} % for the test."
    data, skipped, deep = _read(listing, test, seed, color, size, progress)
    remarks = (*listing.remarks, *deep)
    splits = " ".join((drawn if listing.tested is None else "As the folders or the list say.", *remarks))
    return data, splits, skipped, remarks


def _loader(path: Path, folder: Path, data: Source) -> dict[str, str]:
    """The card's table for images that lie in `path`, named from the card's folder."""
    file = Path(os.path.relpath(path, folder)).as_posix()
    return {"kind": "npz", "file": file, "fingerprint": fingerprint(data.train, data.test)}


def _listing(source: Path) -> Listing:
    if source.is_dir():
        return with_one_name_each(list_folder(source))
    if source.suffix.lower() in (".csv", ".tsv"):
        return with_one_name_each(list_table(source))
    raise DataError(f"Expected a folder, a .csv or a .npz. Received: {source}", hint=LAYOUT)


def _read(
    listing: Listing,
    test: float,
    seed: int,
    color: Literal["gray", "rgb"] | None,
    size: int | None,
    progress: Progress | None,
) -> tuple[Source, tuple[Skipped, ...], tuple[str, ...]]:
    classes = _in_order(set(listing.labels))
    if len(classes) < 2:
        raise DataError(f"Expected images of two or more classes. Received: {', '.join(classes) or 'none'}", hint=LAYOUT)
    pictures = read_files(listing.paths, color=color, size=size, progress=progress)
    y = np.array([classes.index(label) for label in listing.labels], np.int64)[pictures.kept]
    is_test = np.zeros(len(y), bool)
    if listing.tested is None:
        is_test[stratified(y, round(test * len(y)), seed)] = True
    else:
        is_test = np.array(listing.tested)[pictures.kept]
    for part, chosen in (("training", ~is_test), ("test", is_test)):
        missing = [classes[label] for label in range(len(classes)) if label not in y[chosen]]
        if missing:
            raise DataError(
                f"Expected {part} images of every class. Received: none of {', '.join(missing[:10])}",
                hint="Add images that can be read, leave the class out, or change --test.",
            )
    x = pictures.x
    return (
        Source(Split(x[~is_test], y[~is_test]), Split(x[is_test], y[is_test]), tuple(classes)),
        pictures.skipped,
        pictures.remarks,
    )


def _in_order(names: set[str]) -> list[str]:
    """By name, and numbers by their value: 2 before 10."""
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def _leaked(data: Source) -> int:
    known = {image.tobytes() for image in data.train.x[:]}
    return sum(image.tobytes() in known for image in data.test.x[:])


def _counts(data: Source) -> dict[str, tuple[int, int]]:
    train, test = (np.bincount(part.y, minlength=len(data.classes)).tolist() for part in (data.train, data.test))
    return dict(zip(data.classes, zip(train, test, strict=True), strict=True))


def _preprocessing(source: Path, color: str | None, size: int | None, skipped: int) -> str:
    if source.suffix == ".npz":
        return "None: the images are uint8."
    steps = (f"made {color}" if color else "", f"resized to {size}x{size} (bilinear)" if size else "")
    done = "; ".join([f"Read with Pillow {pillow}", *filter(None, steps)])
    return f"{done}. {skipped:,} files could not be read and are left out." if skipped else f"{done}."


def _pack(path: Path, data: Source) -> None:
    train, test, classes = data.train, data.test, np.array(data.classes)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, x_train=train.x[:], y_train=train.y, x_test=test.x[:], y_test=test.y, classes=classes)
