"""Where a data set of speech is on this machine; looks at names only."""

import os
from pathlib import Path

from tinyrobust.data.cards import Card, SpeechFolder
from tinyrobust.errors import DataError


def speech_folder(loader: SpeechFolder, data_dir: Path | None = None) -> Path:
    """The folder with a folder for every word.

    It is looked for in the data folder, the first of these that is given: `data_dir`, the environment variable
    TINYROBUST_DATA, ~/.local/share/tinyrobust. It may have the archive's name, or the plain name of the set, or be the data
    folder itself.

    Returns:
        The first that is there; where none is, the first that was looked for.
    """
    base = data_dir or Path(os.environ.get("TINYROBUST_DATA") or Path.home() / ".local/share/tinyrobust")
    candidates = [base.expanduser() / name for name in (*loader.folders, ".")]
    return next((path for path in candidates if is_prepared(path, loader)), candidates[0])


def is_prepared(folder: Path, loader: SpeechFolder) -> bool:
    """Whether a folder holds the set: the words that every version of it has."""
    return all((folder / word).is_dir() for word in loader.words)


def existing_folder(card: Card, loader: SpeechFolder, data_dir: Path | None) -> Path:
    """`speech_folder`, where it is there.

    Raises:
        DataError: It is not; the hint says what to download and where to put it.
    """
    folder = speech_folder(loader, data_dir)
    if not is_prepared(folder, loader):
        raise DataError(
            f"Expected {card.title} in {folder}. Received: nothing is there.",
            hint=f"To get it: mkdir -p {folder} && curl -L {loader.archive} | tar -xz -C {folder}\n"
            "If you have it elsewhere, name the folder above it with --data-dir or the environment variable TINYROBUST_DATA.",
        )
    return folder
