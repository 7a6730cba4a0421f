"""Whole biases for int32 sums: those with which sums end on the levels of the real ones as often as may be."""

import numpy as np
import numpy.typing as npt

_Doubles = npt.NDArray[np.float64]


def rectified(offsets: _Doubles, step: _Doubles, levels: int) -> _Doubles:
    """The biases of a layer whose sums below zero become zero.

    The nearest integers do where levels are many sums apart. But each activation that falls on another of few levels moves
    others behind it, so two things are put right:

    - TensorFlow Lite multiplies a sum by q in [1/2, 1), rounds, and divides by 2^s, rounding again. The first rounding lifts
      what is less than a half below a border onto it: positive sums cross it 1 / 2q too soon. (Negative ones cross theirs too
      soon the other way round: no bias helps a layer with both.)
    - A bias alone, where all inputs are zero, ends on the level on which the real one ends: of all sums zero is the most
      frequent, as half of all activations are, and the ground of many images.

    Args:
        offsets: The real biases of the channels, in units of sums.
        step: From one level to the next in these units, per channel.
        levels: How many there are above zero.

    Returns:
        Whole numbers: of those that are right for each border between two levels the median.
    """
    fractions, exponents = np.frexp(1 / step)
    early = np.where(exponents < 0, 0.5 / fractions, 0.0)
    borders = (np.arange(levels)[:, np.newaxis] + 0.5) * step
    # From which sums on, bias included, the file is on the level above; and from which, without it, the real sums are.
    there, expected = np.ceil(borders - early), np.ceil(borders - offsets)
    biases = np.round(np.median(there - expected, axis=0))
    alone = np.clip(np.floor(offsets / step + 0.5), 0, levels).astype(np.int64)[np.newaxis]
    ends = np.pad(there, ((1, 1), (0, 0)), constant_values=((-np.inf, np.inf), (0, 0)))
    lowest, highest = (np.take_along_axis(ends, alone + one, axis=0)[0] for one in (0, 1))
    return np.asarray(np.clip(biases, lowest, np.maximum(lowest, highest - 1)))
