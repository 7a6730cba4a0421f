"""Confidence intervals of proportions."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyrobust.robustness.robustness_record import Proportion

_Z = 1.959963984540054  # the 97.5 % quantile of the normal distribution: a two-sided 95 % interval


def wilson(count: int, n: int) -> Proportion:
    """The share `count / n` with its 95 % Wilson score interval (Wilson 1927, JASA 22:209, eq. 4).

    Args:
        count: Samples that count, 0 to n.
        n: All samples, at least 1.

    Raises:
        ValueError: `count` is not between 0 and `n`, or `n` is below 1.
    """
    if not 0 <= count <= n or n < 1:
        raise ValueError(f"Expected 0 <= count <= n and n >= 1. Received: count={count}, n={n}")
    share = count / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == n else centre + half
    return Proportion(count=count, n=n, value=share, low=low, high=high)


def share(samples: npt.NDArray[Any]) -> Proportion:
    """The share of true values among booleans [n], with its interval."""
    return wilson(int(np.count_nonzero(samples)), len(samples))
