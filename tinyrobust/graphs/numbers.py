"""A trained network as numbers alone: `network.npz`, its quantized weights written in. No code, no graph, no optimizer.

The network that the numbers belong to is that of a recipe. With them it computes what the trained one does; with batch norm
folded (`freeze`) it is the network that white-box attacks differentiate, and as a start (`[train.start]`) it can be trained on.
A kernel of at most 256 different values along each index of its last axis is stored as codes of 8 bits with tables: a ternary
weight takes two to three bits then, once it is compressed.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from tinyrobust.errors import ModelFileError
from tinyrobust.files import atomic_path
from tinyrobust.graphs.folding import WEIGHT_LAYERS
from tinyrobust.graphs.freeze import with_fixed_weights

NETWORK = "network.npz"
_LEVELS = 256  # of a code of 8 bits
_CODES, _TABLE = ":codes", ":table"
_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP archive can state: equal networks are equal files

Arrays = dict[str, NDArray[np.generic]]


def save(network: keras.Model, path: Path) -> None:
    """Writes the weights that a network computes with: quantized ones as they are, in float32; batch norm as it is.

    Every array is named `<layer>/<variable>`. Where it is stored as codes, `<layer>/<variable>:codes` [..., c], uint8, are
    places in `<layer>/<variable>:table` [levels, c]: the value is `table[codes[..., j], j]`.

    Args:
        network: Trained, of our layers and plain Keras layers.
        path: Of the `.npz`.

    Raises:
        RunFolderError: It cannot be written.
    """
    arrays: Arrays = {}
    for name, variable in _variables(with_fixed_weights(network)).items():
        value = np.asarray(keras.ops.convert_to_numpy(variable))
        arrays |= _coded(name, value) or {name: value}
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            # np.savez writes the time of day into the archive.
            with archive.open(_member(name), "w") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(f"{name}.npy", _TIME)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def restored(network: keras.Model, path: Path) -> keras.Model:
    """The network of a recipe with the numbers of a file: without weight quantizers, for the weights are quantized.

    Args:
        network: The untrained network of the recipe that the file's was trained by.
        path: Of the `.npz`.

    Raises:
        ModelFileError: There is no such file, it is damaged, or its numbers are those of another network.
    """
    constant = with_fixed_weights(network)
    load(constant, path)
    return constant


def load(network: keras.Model, path: Path) -> None:
    """Gives a network the numbers of a file; of layers that neither weigh nor norm, only those that both have.

    Raises:
        ModelFileError: As `restored`.
    """
    found, wanted = read(path), _variables(network)
    layers = {layer.name: isinstance(layer, (*WEIGHT_LAYERS, keras.layers.BatchNormalization)) for layer in network.layers}
    # An activation holds what its quantizer learned, and another recipe may have another quantizer.
    free = {name for name in wanted.keys() ^ found.keys() if layers.get(name.rpartition("/")[0]) is False}
    missing = sorted(wanted.keys() - found.keys() - free)
    other = sorted(found.keys() - wanted.keys() - free)
    shapes = sorted(name for name in wanted.keys() & found.keys() if tuple(wanted[name].shape) != found[name].shape)
    if missing or other or shapes:
        named = [*missing, *other, *shapes]
        reason = "missing" if missing else "not of this network" if other else "of another shape"
        raise ModelFileError(
            f"Expected in {path} the numbers of the recipe's network, {len(wanted)} arrays of {len(layers)} layers. "
            f"Received: {len(found)}, of which {', '.join(named[:4])} {'are' if len(named) > 1 else 'is'} {reason}",
            hint="The file belongs to the recipe beside it; a recipe that starts from it has the same [network] and [data].",
        )
    for name in wanted.keys() & found.keys():
        wanted[name].assign(found[name])


def read(path: Path) -> Arrays:
    """The arrays of a file by name, codes looked up in their tables.

    Raises:
        ModelFileError: There is no such file, or it is damaged.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            stored = {name: np.asarray(file[name]) for name in file.files}
        return {
            name.removesuffix(_CODES): _looked_up(array, stored[name.removesuffix(_CODES) + _TABLE])
            if name.endswith(_CODES)
            else array
            for name, array in stored.items()
            if not name.endswith(_TABLE)
        }
    except (OSError, EOFError, ValueError, TypeError, AttributeError, LookupError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelFileError(
            f"Expected the numbers of a network in {path}, as a run leaves them in {NETWORK}. "
            f"Received: {str(error).strip().partition(chr(10))[0][:200] or type(error).__name__}"
        ) from error


def _variables(network: keras.Model) -> Mapping[str, keras.Variable]:
    """What a network holds, by `<layer>/<variable>`."""
    return {f"{layer.name}/{variable.name}": variable for layer in network.layers for variable in layer.weights}


def _coded(name: str, value: NDArray[np.generic]) -> Arrays | None:
    """Codes and table of a kernel [..., c]; None where a channel has too many values, or the table would be most of it."""
    if value.ndim < 2 or value.dtype != np.float32:
        return None
    rows = value.reshape(-1, value.shape[-1])
    each = [np.unique(channel, return_inverse=True) for channel in rows.T]
    levels = max(len(values) for values, _ in each)
    if levels > _LEVELS or levels * 2 > len(rows):
        return None
    table = np.stack([np.pad(values, (0, levels - len(values)), mode="edge") for values, _ in each], axis=1)
    codes = np.stack([places for _, places in each], axis=1).astype(np.uint8)
    return {name + _CODES: codes.reshape(value.shape), name + _TABLE: table}


def _looked_up(codes: NDArray[np.generic], table: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.take_along_axis(table, codes.reshape(-1, codes.shape[-1]).astype(np.int64), axis=0).reshape(codes.shape)
