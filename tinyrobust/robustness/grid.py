"""The sensor's grid: an attacker in front of a camera can place values only where its 8 bits are."""

from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

_LEVELS = 255
_ORDERS = {"l2": 2, "l1": 1}


def snap(
    adversarial: FloatArray,
    x: FloatArray,
    epsilon: float | None = None,
    norm: Literal["linf", "l2", "l1", "l0"] = "linf",
) -> FloatArray:
    """Images on the grid of multiples of 1/255, next to adversarial ones.

    Each value takes the nearest level. Where that would leave the ball, it takes the next level towards the original: for
    "linf" value by value, for "l2" and "l1" in the whole image. For "l0" it never leaves it.

    Args:
        adversarial: Images [n, ...] in [0, 1].
        x: The originals, on the grid.
        epsilon: Radius of the ball around the originals; without it every value takes the nearest level.
        norm: Of the ball.

    Returns:
        Float32, exactly as 8-bit images divided by 255.
    """
    original = np.round(x.astype(np.float64) * _LEVELS)
    change = adversarial.astype(np.float64) * _LEVELS - original
    nearest = np.round(change)
    if epsilon is not None and norm != "l0":
        radius = epsilon * _LEVELS + 1e-4  # single precision moves a pixel by less
        if norm == "linf":
            outside = np.abs(nearest) > radius
        else:
            lengths = np.linalg.norm(nearest.reshape(len(x), -1), _ORDERS[norm], axis=1)
            outside = (lengths > radius).reshape(-1, *[1] * (x.ndim - 1))
        # A change that is whole but for rounding errors is whole.
        nearest = np.where(outside, np.trunc(np.round(change, 3)), nearest)
    return np.clip(original + nearest, 0, _LEVELS).astype(np.float32) / np.float32(_LEVELS)
