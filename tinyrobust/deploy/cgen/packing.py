"""Weights at their true size: which encoding each tensor takes, by net gain with the decoders' code counted."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyrobust.formats import BIT, BYTE, CRUMB, ENCODINGS, TRIT, Encoding, magnitude

_TRIT_POWERS = np.array([81, 27, 9, 3, 1], np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """The weights of a layer as they lie on flash.

    Attributes:
        encoding: How.
        data: The bytes.
        scale: What one unit of an unpacked weight stands for: the magnitude where trits or signs are kept.
        unpacked: What the decoder gives, in the layer's order.
    """

    encoding: Encoding
    data: NDArray[np.uint8]
    scale: int
    unpacked: NDArray[np.int8]


def candidates(weights: NDArray[np.int8]) -> tuple[Encoding, ...]:
    """The encodings that hold these weights without loss."""
    return tuple(encoding for encoding in ENCODINGS if encoding.holds(weights))


def choose(tensors: Sequence[NDArray[np.int8]]) -> list[Encoding]:
    """The encoding of each tensor with which tables and decoders take the fewest bytes: every set of decoders is tried."""
    possible = [candidates(weights) for weights in tensors]
    packed = [encoding for encoding in ENCODINGS if encoding is not BYTE]
    best: tuple[int, list[Encoding]] | None = None
    for chosen in itertools.chain.from_iterable(itertools.combinations(packed, n) for n in range(len(packed) + 1)):
        encodings = [
            min((e for e in allowed if e is BYTE or e in chosen), key=lambda e, count=weights.size: e.size(count))  # type: ignore[misc]
            for allowed, weights in zip(possible, tensors, strict=True)
        ]
        total = sum(encoding.decoder_bytes for encoding in set(encodings))
        total += sum(encoding.size(weights.size) for weights, encoding in zip(tensors, encodings, strict=True))
        if best is None or total < best[0]:
            best = total, encodings
    return best[1] if best else []


def pack(weights: NDArray[np.int8], encoding: Encoding) -> Packed:
    """Packs weights of any shape, in their order.

    Raises:
        ValueError: The encoding does not hold these weights.
    """
    if not encoding.holds(weights):
        raise ValueError(f"Expected weights that {encoding.name} holds. Received: {np.unique(weights)[:20]}")
    flat = weights.reshape(-1)
    if encoding is BYTE:
        return Packed(encoding, flat.view(np.uint8), 1, flat)
    if encoding not in (BIT, CRUMB, TRIT):
        values, positions = np.unique(flat, return_inverse=True)
        table = np.zeros(encoding.table_bytes, np.int8)
        table[: values.size] = values
        codes = _bits(positions.reshape(-1), table.size.bit_length() - 1)
        return Packed(encoding, np.concatenate([table.view(np.uint8), codes]), 1, flat)
    units = np.sign(flat)
    return Packed(encoding, pack_units(units, encoding), magnitude(flat) or 1, units)


def pack_units(units: NDArray[np.int8], encoding: Encoding) -> NDArray[np.uint8]:
    """Packs -1, 0 and 1 as trits, crumbs or bits; as bits, 0 becomes -1."""
    digits = units.reshape(-1).astype(np.int64) + 1
    if encoding is TRIT:
        numbers: NDArray[np.int64] = (_padded(digits, 5) * _TRIT_POWERS).sum(axis=1)
        return (-(-numbers * 256 // 243)).astype(np.uint8)
    return _bits(digits, 2) if encoding is CRUMB else _bits(digits // 2, 1)


def _bits(codes: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """Codes of `width` bits one after the other, low bits first."""
    return np.packbits(codes[:, None] >> np.arange(width) & 1, bitorder="little")


def _padded(values: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    rows = np.zeros(-(-values.size // width) * width, np.int64)
    rows[: values.size] = values
    return rows.reshape(-1, width)
