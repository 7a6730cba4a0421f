"""Pieces of an evaluation: what one attack did to one batch at one epsilon, kept so that an interrupted evaluation goes on.

`<output>/attacks/evaluation.json` says which model, data and settings the pieces belong to; every piece carries the hash of
that. Pieces of another evaluation are refused, never mixed in.
"""

import hashlib
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust.errors import RunFolderError
from tinyrobust.files import atomic_path, clear_errors
from tinyrobust.records import Record

Array = npt.NDArray[Any]


class Identity(Record):
    """Everything that decides what an evaluation finds.

    Attributes:
        version: Of tinyrobust.
        model: SHA-256 of the file that is attacked.
        networks: SHA-256 of each Keras network given with it: its structure and weights.
        data: Fingerprint of the data set.
        samples: SHA-256 of the attacked images and their labels.
        settings: Epsilons, number of samples and so on.
        protocol: All attacks with their parameters.
        targets: How the targets are made: temperature, input range, passes.
        seed: Of every random draw.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.evaluation/1"
    version: str
    model: str
    networks: dict[str, str]
    data: str
    samples: str
    settings: dict[str, Any]
    protocol: dict[str, Any]
    targets: dict[str, Any]
    seed: int


def digest(*arrays: Array) -> str:
    """SHA-256 of arrays: type, shape and content, in hex."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def network_digest(model: keras.Model) -> str:
    """SHA-256 of a network's structure and weights, in hex; the same after saving and loading."""
    shapes = " ".join(f"{type(layer).__name__}:{layer.name}" for layer in model.layers)
    return digest(np.frombuffer(shapes.encode(), np.uint8), *model.get_weights())


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

    def get(self, name: str) -> dict[str, Array] | None:
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

    def put(self, name: str, arrays: dict[str, Array]) -> None:
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
