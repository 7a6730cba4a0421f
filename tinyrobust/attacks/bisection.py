"""Bisection between an image and its adversarial example: attacks for the nearest example end with it."""

from collections.abc import Callable

import numpy as np

from tinyrobust.attacks.target import BoolArray, FloatArray


def bisect(x: FloatArray, example: FloatArray, broken: Callable[[FloatArray], BoolArray], halvings: int = 8) -> FloatArray:
    """Examples on the lines from x to `example`, both [n, ...], that are still broken and at most as far as `example`.

    Args:
        x: Images, not broken.
        example: Adversarial examples.
        broken: Says which of n images are broken.
        halvings: Questions; the distance is cut down to the next 1 / 2^halvings of what it was.
    """
    low, high = np.zeros(len(x)), np.ones(len(x))
    nearest = example.copy()
    for _ in range(halvings):
        middle = (low + high) / 2
        share = middle.astype(np.float32).reshape(-1, *[1] * (x.ndim - 1))
        tried = x + share * (example - x)
        done = broken(tried)
        nearest[done] = tried[done]
        low, high = np.where(done, low, middle), np.where(done, middle, high)
    return nearest
