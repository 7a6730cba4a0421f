"""Features that were computed once: .npz files named by a hash of everything that they depend on.

In `TINYROBUST_CACHE`, else in the user's cache folder (`~/.cache/tinyrobust`). All of it can be deleted at any time.
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyrobust.errors import RunFolderError
from tinyrobust.files import atomic_path

Arrays = dict[str, NDArray[np.generic]]


def folder() -> Path:
    """Where the files are."""
    if chosen := os.environ.get("TINYROBUST_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "tinyrobust"


def cached(kind: str, depends_on: object, compute: Callable[[], Arrays]) -> Arrays:
    """What `compute` returns: from the cache where it is there, else computed and kept.

    A file that is damaged is made anew; where none can be written, the result is not kept.

    Args:
        kind: The first part of the file's name.
        depends_on: Everything that changes the result, as JSON can write it.
        compute: Returns arrays without objects.
    """
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()
    path = folder() / f"{kind}-{key[:32]}.npz"
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error):
        arrays = compute()
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except (RunFolderError, OSError):
        pass
    return arrays
