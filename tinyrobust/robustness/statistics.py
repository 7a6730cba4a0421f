"""Confidence intervals of proportions."""

import numpy as np
import numpy.typing as npt

from tinyrobust.robustness.robustness_record import Proportion


def wilson(count: int, n: int) -> Proportion:
    """The share `count / n` with its 95 % Wilson score interval (Wilson 1927, JASA 22:209, eq. 4).

    Args:
        count: Samples that count, 0 to n.
        n: All samples, at least 1.

    Raises:
        ValueError: `count` is not between 0 and `n`, or `n` is below 1.
    """
    from scipy.stats import binomtest  # here: it takes a second, and command lines read records without

    if not 0 <= count <= n or n < 1:
        raise ValueError(f"Expected 0 <= count <= n and n >= 1. Received: count={count}, n={n}")
    interval = binomtest(count, n).proportion_ci(confidence_level=0.95, method="wilson")
    return Proportion(count=count, n=n, value=count / n, low=float(interval.low), high=float(interval.high))


def share(samples: npt.NDArray[np.bool_]) -> Proportion:
    """The share of true values among booleans [n], with its interval."""
    return wilson(int(np.count_nonzero(samples)), len(samples))
