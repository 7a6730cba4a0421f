"""Checkpoints: the whole state of a fit in one .npz file.

Not Keras' `save_weights`: HDF5 leaves broken objects behind when the disk is full, and Python then crashes in h5py.
"""

import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np

from tinyrobust.errors import RunFolderError
from tinyrobust.files import atomic_path


def save(learner: keras.Model, path: Path) -> None:
    """Writes latent weights, batch-norm statistics, random states, and the optimizer with its average, atomically.

    Raises:
        RunFolderError: The disk is full, or the folder cannot be written.
    """
    arrays = [keras.ops.convert_to_numpy(variable) for variable in _state(learner)]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, *arrays)


def load(learner: keras.Model, path: Path) -> None:
    """The inverse of `save`; `learner` is changed only when the whole file is good.

    Raises:
        RunFolderError: The file is damaged or of another network.
    """
    state = _state(learner)
    try:
        # Opened here: numpy leaves a file that is cut short open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = [stored[f"arr_{index}"] for index in range(len(stored.files))]
    # A file that is cut short, bytes that changed, another kind of file.
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, str(error)) from error
    expected, received = [tuple(variable.shape) for variable in state], [array.shape for array in arrays]
    if received != expected:
        raise _unreadable(path, "it is of another network or optimizer")
    for variable, array in zip(state, arrays, strict=True):
        variable.assign(array)


def _state(learner: keras.Model) -> list[keras.Variable]:
    # In the order of the network's layers: names are not the same in every process, Keras numbers optimizers.
    return [*learner.variables, *learner.optimizer.variables]


def _unreadable(path: Path, reason: str) -> RunFolderError:
    return RunFolderError(
        f"Cannot go on from the checkpoint {path}: {reason}.",
        hint="Delete it and run the same command again: training starts anew, and gives the same result.",
    )
