"""Raw inputs for a file whose data are not at hand, and what stands between a file's float ends and the integers inside."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyrobust.deploy import tensors
from tinyrobust.deploy.artefact import Artefact, Tensor

Raw = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False, slots=True)
class Inputs:
    """What is run.

    Attributes:
        raw: As the model takes it, int8 [n, bytes]; of several inputs, one after the other.
        source: Where it comes from, in words.
        labels: The right classes [n], where they are known.
    """

    raw: Raw
    source: str
    labels: npt.NDArray[np.int64] | None = None


def probes(artefact: Artefact, n: int, seed: int = 0) -> Inputs:
    """Inputs for a model whose data are not at hand: the two extremes first, then random ones.

    Integers of 8 and 16 bits take all their values. A float input behind which a QUANTIZE stands takes the numbers of its
    grid, any other float input those from -1 to 1, and wider integers and truth values, which count or choose, 0 and 1.

    Args:
        artefact: The model.
        n: How many, at least 1.
        seed: Fixes the random ones.
    """
    random = np.random.default_rng(seed)
    parts = [_probed(artefact, index, n, random) for index in artefact.inputs]
    whole = all(artefact.tensors[index].dtype == "int8" for index in artefact.inputs)
    source = "all 127, all -128, then random bytes" if whole else "the largest, the smallest, then random values"
    return Inputs(np.concatenate(parts, axis=1), source)


def _probed(artefact: Artefact, index: int, n: int, random: np.random.Generator) -> Raw:
    tensor, behind = artefact.tensors[index], inner(artefact, index, "QUANTIZE")
    kind, shape = np.dtype(_dtype(behind)), (n, tensor.count)
    low, high = (-1, 1) if kind.kind == "f" else (0, 1)
    if kind.kind in "iu" and kind.itemsize <= 2:
        low, high = np.iinfo(kind.name).min, np.iinfo(kind.name).max
    values: npt.NDArray[np.generic]
    # Drawn in their own type: of the largest input that there is, 64-bit draws would take a gigabyte.
    values = random.uniform(low, high, shape) if kind.kind == "f" else random.integers(low, high, shape, kind, endpoint=True)
    for row, extreme in enumerate((high, low)[:n]):
        values[row] = extreme
    if behind is not tensor:
        values = _real(values, behind)
    raw: Raw = np.ascontiguousarray(values.astype(_dtype(tensor))).view(np.int8).reshape(n, -1)
    return raw


def quantized(artefact: Artefact, raw: Raw) -> Raw:
    """The integers inside that a file's QUANTIZE makes of its raw inputs, as generated C takes them; [n, bytes]."""
    return _inside(artefact, artefact.inputs, "QUANTIZE", raw)


def dequantized(artefact: Artefact, raw: Raw) -> Raw:
    """The raw outputs of a file that its DEQUANTIZE makes of the integers inside, as generated C gives them; [n, bytes]."""
    parts, start = [], 0
    for index in artefact.outputs:
        tensor, behind = artefact.tensors[index], inner(artefact, index, "DEQUANTIZE")
        part = np.ascontiguousarray(raw[:, start : start + behind.nbytes])
        start += behind.nbytes
        parts.append(part if behind is tensor else _real(part.view(behind.dtype), behind).view(np.int8).reshape(len(raw), -1))
    return np.concatenate(parts, axis=1)


def requantized(artefact: Artefact, raw: Raw) -> Raw:
    """The integers inside that a file's DEQUANTIZE made its raw outputs of, as generated C gives them; [n, bytes].

    The inverse of `dequantized`: every integer has a float of its own.
    """
    return _inside(artefact, artefact.outputs, "DEQUANTIZE", raw)


def _inside(artefact: Artefact, ends: Sequence[int], name: str, raw: Raw) -> Raw:
    """The raw bytes of all ends, [n, bytes], with the integers behind them in the place of floats; see `inner`."""
    parts, start = [], 0
    for index in ends:
        tensor, behind = artefact.tensors[index], inner(artefact, index, name)
        part = np.ascontiguousarray(raw[:, start : start + tensor.nbytes])
        start += tensor.nbytes
        if behind is not tensor:
            scale, zero_point = float(behind.scales[0]), int(behind.zero_points[0])
            part = tensors.quantized(part.view(np.float32), scale, zero_point, np.dtype(behind.dtype)).view(np.int8)
        parts.append(part)
    return np.concatenate(parts, axis=1)


def inner(artefact: Artefact, index: int, name: str) -> Tensor:
    """The integer tensor behind a float end (QUANTIZE at an input, DEQUANTIZE at an output); the end itself elsewhere.

    Args:
        artefact: The model.
        index: The tensor of one of its inputs or outputs.
        name: "QUANTIZE" or "DEQUANTIZE".
    """
    end = artefact.tensors[index]
    if end.dtype != "float32":
        return end
    for operator in artefact.operators:
        here, there = (operator.inputs, operator.outputs) if name == "QUANTIZE" else (operator.outputs, operator.inputs)
        if operator.name == name and here == (index,) and len(there) == 1:
            found = artefact.tensors[there[0]]
            if found.scales.size == 1 and found.scales[0] > 0 and found.dtype in ("int8", "uint8", "int16"):
                return found
    return end


def _real(values: npt.NDArray[np.generic], tensor: Tensor) -> npt.NDArray[np.float32]:
    steps = np.asarray(values, np.float64) - int(tensor.zero_points[0])
    return np.asarray(steps * float(tensor.scales[0]), np.float32)


def _dtype(tensor: Tensor) -> str:
    return tensor.dtype if tensor.dtype in np.sctypeDict else "int8"  # packed types are a byte each in the arena
