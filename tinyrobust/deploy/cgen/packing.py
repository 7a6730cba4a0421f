"""Weights at their true size: which encoding each tensor takes, by net gain with the decoders' code counted."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyrobust.formats import BYTE, CRUMB, ENCODINGS, NIBBLE, Encoding, magnitude

_TRIT_POWERS = np.array([81, 27, 9, 3, 1], np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """The weights of a layer as they lie on flash.

    Attributes:
        encoding: How.
        data: The bytes.
        scale: What one unit of an unpacked weight stands for: the magnitude where trits are kept.
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
    if encoding is NIBBLE:
        values, positions = np.unique(flat, return_inverse=True)
        table = np.zeros(16, np.int8)
        table[: values.size] = values
        fields = _padded(positions.reshape(-1), 2)
        data = np.concatenate([table.view(np.uint8), (fields[:, 0] | fields[:, 1] << 4).astype(np.uint8)])
        return Packed(encoding, data, 1, flat)
    unit = magnitude(flat) or 1
    trits = np.sign(flat)
    digits = trits.astype(np.int64) + 1
    if encoding is CRUMB:
        data = (_padded(digits, 4) << np.arange(0, 8, 2)).sum(axis=1)
    else:
        data = -(-(_padded(digits, 5) * _TRIT_POWERS).sum(axis=1) * 256 // 243)
    return Packed(encoding, data.astype(np.uint8), unit, trits)


def _padded(values: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    rows = np.zeros(-(-values.size // width) * width, np.int64)
    rows[: values.size] = values
    return rows.reshape(-1, width)
