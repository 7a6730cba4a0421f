"""The levels of quantized weights as integers of a file: exact, and few different ones in a tensor."""

import numpy as np
import numpy.typing as npt

# Beyond so many steps from zero to the peak, as many int8 integers as levels would not fit a grid of whole steps.
MOST = 63
# Levels are computed, multiplied by a batch norm's scale and kept in single precision: this far from exact, of the peak.
_NOISE = 2e-6


def steps(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.int64] | None:
    """The fewest steps from zero to the peak of every channel with which all of its weights are whole steps.

    With the peak p of a channel and n steps, every weight is k * p / n for a whole k. Two levels -a and a, and three with 0,
    have n = 1; symmetric ones of b bits at most 2^(b-1) - 1; DoReFa's odd ones, {-3, -1, 1, 3} * a / 3, at most 2^b - 1.

    Args:
        rows: Weights, [channels, weights].

    Returns:
        n of every channel, 1 to `MOST`; None where a channel has no such n: weights in float, of 8 bits, or of two scales.
    """
    found = []
    for row in rows:
        found.append(_steps(row))
        if not found[-1]:
            return None
    return np.array(found, np.int64)


def _steps(row: npt.NDArray[np.float64]) -> int:
    """Of one channel; 0 where there is no such number."""
    peak = np.abs(row).max(initial=0.0)
    shares = row / peak if peak > 0 else row
    for n in range(1, MOST + 1):
        scaled = shares * n
        if (np.abs(scaled - np.rint(scaled)) <= n * _NOISE).all():
            return n
    return 0
