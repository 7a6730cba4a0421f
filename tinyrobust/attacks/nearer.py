"""Bisection between an image and its adversarial example: attacks for the nearest example end with it."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks.base import FloatArray

BoolArray = npt.NDArray[np.bool_]


def nearer(x: FloatArray, found: FloatArray, broken: Callable[[FloatArray], BoolArray], halvings: int = 8) -> FloatArray:
    """Examples on the lines from x to `found`, both [n, ...], that are still broken and at most as far as `found`.

    Args:
        x: Images, not broken.
        found: Adversarial examples.
        broken: Says which of n images are broken.
        halvings: Questions; the distance is cut down to the next 1 / 2^halvings of what it was.
    """
    low, high = np.zeros(len(x)), np.ones(len(x))
    nearest = found.copy()
    for _ in range(halvings):
        middle = (low + high) / 2
        share = middle.astype(np.float32).reshape(-1, *[1] * (x.ndim - 1))
        tried = x + share * (found - x)
        done = broken(tried)
        nearest[done] = tried[done]
        low, high = np.where(done, low, middle), np.where(done, middle, high)
    return nearest
