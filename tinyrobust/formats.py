"""The storage formats of weights: one table, from the rules of a recipe to the bytes in the generated C.

A `Format` says which integers a weight may be, up to one scale per output channel, and how many bits that takes: quantizers and
the recipe's tables name the one they end in, `footprint` recognises it from the integers of a file and counts its bits. An
`Encoding` says how the generated C stores such integers.

To add a format, enter it in `FORMATS`. To add an encoding, enter it in `ENCODINGS` and in the formats that it holds, write
`tr_unpack_<name>` in `export/runtime/tr_unpack.c` and its inverse in `deploy/cgen/packing.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FormatName = Literal["binary", "ternary", "int2", "int3", "int4", "int8", "int16", "float"]
StoredIntegers = NDArray[np.int8] | NDArray[np.uint8] | NDArray[np.int16] | NDArray[np.uint16]
_Rows = NDArray[np.int32]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` weights packed at `bits` bits each, rounded up to whole bytes.

    Raises:
        ValueError: `count` is negative or `bits` is not positive.
    """
    if count < 0 or bits < 1:
        raise ValueError(f"Expected count >= 0 and bits >= 1. Received: count={count}, bits={bits}")
    return (count * bits + 7) // 8


def magnitude(weights: NDArray[np.int8]) -> int | None:
    """The a > 0 with every weight of a tensor -a, 0 or a; None where there is none."""
    sizes = np.unique(np.abs(weights.astype(np.int16)))
    sizes = sizes[sizes > 0]
    if sizes.size == 0:
        return 1
    return int(sizes[0]) if sizes.size == 1 else None


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the generated C stores the weights of a layer.

    Attributes:
        name: In C, `tr_unpack_<name>` decodes it.
        weights: So many weights lie
        bytes: in so many bytes.
        decoder_bytes: Code that a model pays once for the decoder: Thumb-2 at -Os (gcc 12.2); a test compiles and compares.
        holds: Whether it stores the int8 weights of a tensor without loss.
        table_bytes: What every tensor pays beside its weights.
    """

    name: str
    weights: int
    bytes: int
    decoder_bytes: int
    holds: Callable[[NDArray[np.int8]], bool]
    table_bytes: int = 0

    def size(self, count: int) -> int:
        """Bytes of a tensor of `count` weights."""
        return self.table_bytes + -(-count * self.bytes // self.weights)


@dataclass(frozen=True, slots=True)
class Format:
    """Which integers the weights of an output channel are, up to one scale per channel.

    Attributes:
        name: As recipes, records and reports say it.
        bits: Of one weight, as `footprint` counts them.
        levels: How many different values a channel has at most.
        holds: Whether channels are of this format, from their integers less the zero point, [channels, weights], and the
            largest magnitude of each, [channels, 1]. None: it is known by the type that the file stores.
        encodings: The encodings of the generated C for this format.
    """

    name: FormatName
    bits: int
    levels: int
    holds: Callable[[_Rows, _Rows], bool] | None = None
    encodings: tuple[Encoding, ...] = ()


def _binary(rows: _Rows, peaks: _Rows) -> bool:
    return bool(((np.abs(rows) == peaks) & (peaks > 0)).all())


def _ternary(rows: _Rows, peaks: _Rows) -> bool:
    return bool(((np.abs(rows) == peaks) | (rows == 0)).all())


def _spaced(bits: int) -> Callable[[_Rows, _Rows], bool]:
    """Whether every row's values are rounded multiples k * step, for a step of the row's own, of one of two kinds.

    Either k is any integer from -2^(bits-1) to 2^(bits-1) - 1, or all of them with the other sign: a batch norm with a negative
    scale turns a channel around. Or k is odd, from -(2^bits - 1) to 2^bits - 1: levels on both sides of zero and none at it.
    """
    half = 2 ** (bits - 1)

    def holds(rows: _Rows, peaks: _Rows) -> bool:
        fits = np.zeros(len(rows), dtype=bool)
        for top, odd in (*((top, False) for top in range(1, half + 1)), *((top, True) for top in range(1, 2 * half, 2))):
            # The row's largest magnitude is `top` steps: step = peak / top. In integers: exact where a level ends in .5.
            steps = rows * (top / np.maximum(peaks, 1))
            levels = (2 * np.rint((steps - 1) / 2) + 1 if odd else np.rint(steps)).astype(np.int32)
            near = (2 * np.abs(rows * top - levels * peaks) <= top).all(axis=1)
            fits |= near & (odd | (levels.max(axis=1) < half) | (levels.min(axis=1) > -half))
        return bool(fits.all())

    return holds


def _one_magnitude(weights: NDArray[np.int8]) -> bool:
    return magnitude(weights) is not None


def _values(most: int) -> Callable[[NDArray[np.int8]], bool]:
    """Whether a tensor has at most so many different values."""
    return lambda weights: np.unique(weights).size <= most


def _signs(weights: NDArray[np.int8]) -> bool:
    """Whether every weight of a tensor is -a or a, for an a > 0."""
    return _one_magnitude(weights) and bool(weights.all())


BYTE = Encoding("int8", 1, 1, decoder_bytes=4, holds=lambda _: True)
# A table of the tensor's values, then indices into it.
NIBBLE = Encoding("nibble", 2, 1, decoder_bytes=70, holds=_values(16), table_bytes=16)
OCTAL = Encoding("octal", 8, 3, decoder_bytes=74, holds=_values(8), table_bytes=8)
QUAD = Encoding("quad", 4, 1, decoder_bytes=70, holds=_values(4), table_bytes=4)
# Units, -1 to 1: what they stand for goes into the requantization.
CRUMB = Encoding("crumb", 4, 1, decoder_bytes=44, holds=_one_magnitude)
TRIT = Encoding("trit", 5, 1, decoder_bytes=72, holds=_one_magnitude)
BIT = Encoding("bit", 8, 1, decoder_bytes=44, holds=_signs)

ENCODINGS = (BYTE, NIBBLE, OCTAL, QUAD, CRUMB, TRIT, BIT)

BINARY = Format("binary", 1, 2, _binary, (BIT, CRUMB, TRIT))
TERNARY = Format("ternary", 2, 3, _ternary, (CRUMB, TRIT))
INT2 = Format("int2", 2, 4, _spaced(2), (QUAD,))
INT3 = Format("int3", 3, 8, _spaced(3), (OCTAL,))
INT4 = Format("int4", 4, 16, _spaced(4), (NIBBLE,))
INT8 = Format("int8", 8, 2**8, None, (BYTE,))
INT16 = Format("int16", 16, 2**16)
FLOAT = Format("float", 32, 2**32)

# Fewest bits first: the order in which a format is recognised.
FORMATS = (BINARY, TERNARY, INT2, INT3, INT4, INT8, INT16, FLOAT)


def with_levels(levels: int) -> Format:
    """The format of the fewest bits that has so many levels.

    Raises:
        ValueError: There are fewer than two, or more than any format has.
    """
    if not 2 <= levels <= FLOAT.levels:
        raise ValueError(f"Expected from 2 to {FLOAT.levels} levels. Received: levels={levels}")
    return next(one for one in FORMATS if one.levels >= levels)


def fixed_point(bits: int) -> Format:
    """The format of symmetric integers of `bits` bits (from 2 to 8): -(2^(bits-1) - 1) to 2^(bits-1) - 1."""
    return with_levels(2**bits - 1)


def recognise(values: StoredIntegers, channel_axis: int, zero_points: NDArray[np.integer] | int = 0) -> Format:
    """The format with the fewest bits that holds integer weights, up to one scale per output channel.

    With v = value - zero point and a > 0 constant within an output channel:

    - binary: every v is -a or a;
    - ternary: every v is -a, 0 or a;
    - int2, int3, int4: every v is one of the levels -2..1 (-4..3, -8..7) times a step that is constant within the channel,
      rounded to an integer; or of these with the other sign; or of the odd numbers from -3 to 3 (-7 to 7, -15 to 15).
      A converter stretches a 4-bit grid to the int8 range (step 127/7), and weights within -8..7 are the case step = 1;
    - otherwise int8 or int16, as stored.

    The constant a (or the step) is one more number per output channel, and folds into its requantization. A channel with
    a single weight is always binary for the same reason.

    Args:
        values: Weights as stored, of one or two bytes each.
        channel_axis: Axis of the output channels.
        zero_points: The zero point, or one per output channel.
    """
    stored = as_stored(values)
    if values.size == 0:
        return stored
    per_channel = np.moveaxis(values.reshape(1) if values.ndim == 0 else values, channel_axis, 0)
    rows = per_channel.reshape(per_channel.shape[0], -1).astype(np.int32) - np.reshape(zero_points, (-1, 1)).astype(np.int32)
    peaks = np.abs(rows).max(axis=1, keepdims=True)
    distinct = 1 + (np.diff(np.sort(rows, axis=1), axis=1) != 0).sum(axis=1).max()
    enough = (one for one in FORMATS if one.levels >= distinct)
    return next((one for one in enough if one.holds and one.holds(rows, peaks)), stored)


def packed(weights: NDArray[np.int8], kind: Format) -> Format:
    """The format at whose bits the generated C stores a tensor: `kind`, or the next one with an encoding that holds it.

    `recognise` looks at every channel by itself, an encoding at the tensor: with steps that differ from channel to channel, or
    channels turned around whose levels do not lie evenly about zero, a tensor may have more values than a format has levels.

    Args:
        weights: Of the tensor, with the zero point 0.
        kind: What `recognise` found.
    """
    wider = FORMATS[FORMATS.index(kind) :]
    return next(one for one in wider if one is INT8 or any(encoding.holds(weights) for encoding in one.encodings))


def as_stored(values: StoredIntegers) -> Format:
    """int8 or int16, by the width of the integers."""
    return INT8 if values.dtype.itemsize == 1 else INT16
