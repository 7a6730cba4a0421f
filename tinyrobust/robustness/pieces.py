"""Pieces of an evaluation: what one attack did to one batch at one epsilon, kept so that an interrupted evaluation goes on.

`<output>/attacks/evaluation.json` says which model, data and settings the pieces belong to; every piece carries the hash of
that. Pieces of another evaluation are refused, never mixed in.
"""

import hashlib
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np

from tinyrobust.errors import RunFolderError
from tinyrobust.files import atomic_path, clear_errors
from tinyrobust.robustness.distance import Array
from tinyrobust.robustness.identity import Identity

Piece = dict[str, Array]
"""The arrays of a piece by name."""


class Pieces:
    """The pieces in one folder.

    Args:
        folder: Made where it is not there.
        identity: The evaluation that they belong to.
        fresh: Throw pieces of another evaluation away instead of refusing them.

    Raises:
        RunFolderError: The folder holds pieces of another evaluation, or cannot be written.
    """

    def __init__(self, folder: Path, identity: Identity, *, fresh: bool = False) -> None:
        self._folder = folder
        self._key = hashlib.sha256(identity.to_json().encode()).hexdigest()
        manifest = folder / "evaluation.json"
        if manifest.is_file():
            differing = _differing(manifest, identity)
            if differing and not fresh:
                raise RunFolderError(
                    f"{folder} holds pieces of another evaluation. Expected the same {', '.join(differing)}.",
                    hint="Choose another folder with --output, or start anew with --fresh.",
                )
            if differing:
                with clear_errors(folder):
                    shutil.rmtree(folder)
        identity.save(manifest)

    def get(self, name: str) -> Piece | None:
        """The arrays of the piece `name`; None where it was not finished.

        Raises:
            RunFolderError: The piece is damaged, or of another evaluation.
        """
        path = self._folder / f"{name}.npz"
        if not path.is_file():
            return None
        try:
            # Opened here: NumPy leaves a damaged file open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = dict(stored)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise RunFolderError(f"Cannot read {path}: {error}", hint="Delete this file: only it is done again.") from error
        if str(arrays.pop("key", "")) != self._key:
            raise RunFolderError(
                f"Expected {path} to be of this evaluation. Received: a piece of another model, data set or protocol.",
                hint="Delete this file: only it is done again.",
            )
        return arrays

    def put(self, name: str, arrays: Piece) -> None:
        """Keeps a piece, atomically.

        Raises:
            RunFolderError: The disk is full, the folder is read-only or not allowed.
        """
        with atomic_path(self._folder / f"{name}.npz") as temporary:
            np.savez_compressed(temporary, allow_pickle=False, key=np.asarray(self._key), **arrays)


def _differing(manifest: Path, identity: Identity) -> list[str]:
    """Names of what differs; everything where the manifest is of another schema."""
    try:
        before = Identity.load(manifest).model_dump(mode="json")
    except RunFolderError:
        return ["evaluation.json"]
    now = Identity.model_validate_json(identity.to_json()).model_dump(mode="json")
    return [name for name in now if before[name] != now[name]]
