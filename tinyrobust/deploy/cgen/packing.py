"""Weights at their true size: which format each tensor takes, by net gain with the decoders' code counted."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Format = Literal["int8", "nibble", "crumb", "trit"]

# Thumb-2 code at -Os (gcc 12.2) that a model pays once for each format it uses; a test compiles and compares.
DECODER_BYTES: dict[Format, int] = {"int8": 4, "nibble": 48, "crumb": 44, "trit": 72}

_TRIT_POWERS = np.array([81, 27, 9, 3, 1], np.int64)


@dataclass(frozen=True, eq=False, slots=True)
class Packed:
    """The weights of a layer as they lie on flash.

    Attributes:
        format: How.
        data: The bytes.
        scale: What one unit of an unpacked weight stands for: the magnitude where trits are kept.
        unpacked: What the decoder gives, in the layer's order.
    """

    format: Format
    data: NDArray[np.uint8]
    scale: int
    unpacked: NDArray[np.int8]


def magnitude(weights: NDArray[np.int8]) -> int | None:
    """The a > 0 with every weight -a, 0 or a; None where there is none."""
    sizes = np.unique(np.abs(weights.astype(np.int16)))
    sizes = sizes[sizes > 0]
    if sizes.size == 0:
        return 1
    return int(sizes[0]) if sizes.size == 1 else None


def candidates(weights: NDArray[np.int8]) -> tuple[Format, ...]:
    """The formats that hold these weights without loss."""
    formats: tuple[Format, ...] = ("int8",)
    if magnitude(weights) is not None:
        formats += ("crumb", "trit")
    if np.unique(weights).size <= 16:
        formats += ("nibble",)
    return formats


def size(count: int, fmt: Format) -> int:
    """Bytes of `count` packed weights."""
    return {"int8": count, "nibble": 16 + -(-count // 2), "crumb": -(-count // 4), "trit": -(-count // 5)}[fmt]


def choose(tensors: Sequence[NDArray[np.int8]]) -> list[Format]:
    """The format of each tensor with which tables and decoders take the fewest bytes: every set of decoders is tried."""
    possible = [candidates(weights) for weights in tensors]
    packed: tuple[Format, ...] = ("nibble", "crumb", "trit")
    best: tuple[int, list[Format]] | None = None
    for chosen in itertools.chain.from_iterable(itertools.combinations(packed, n) for n in range(4)):
        formats = [
            min((f for f in allowed if f == "int8" or f in chosen), key=lambda f, t=weights: size(t.size, f))  # type: ignore[misc]
            for allowed, weights in zip(possible, tensors, strict=True)
        ]
        total = sum(DECODER_BYTES[f] for f in set(formats))
        total += sum(size(weights.size, f) for weights, f in zip(tensors, formats, strict=True))
        if best is None or total < best[0]:
            best = total, formats
    return best[1] if best else []


def pack(weights: NDArray[np.int8], fmt: Format) -> Packed:
    """Packs weights of any shape, in their order.

    Raises:
        ValueError: The format does not hold these weights.
    """
    if fmt not in candidates(weights):
        raise ValueError(f"Expected weights that {fmt} holds. Received: {np.unique(weights)[:20]}")
    flat = weights.reshape(-1)
    if fmt == "int8":
        return Packed(fmt, flat.view(np.uint8), 1, flat)
    if fmt == "nibble":
        values, positions = np.unique(flat, return_inverse=True)
        table = np.zeros(16, np.int8)
        table[: values.size] = values
        fields = _padded(positions.reshape(-1), 2)
        data = np.concatenate([table.view(np.uint8), (fields[:, 0] | fields[:, 1] << 4).astype(np.uint8)])
        return Packed(fmt, data, 1, flat)
    unit = magnitude(flat) or 1
    trits = np.sign(flat)
    digits = trits.astype(np.int64) + 1
    if fmt == "crumb":
        data = (_padded(digits, 4) << np.arange(0, 8, 2)).sum(axis=1)
    else:
        data = -(-(_padded(digits, 5) * _TRIT_POWERS).sum(axis=1) * 256 // 243)
    return Packed(fmt, data.astype(np.uint8), unit, trits)


def _padded(values: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    rows = np.zeros(-(-values.size // width) * width, np.int64)
    rows[: values.size] = values
    return rows.reshape(-1, width)
