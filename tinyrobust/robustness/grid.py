"""The sensor's grid: an attacker in front of a camera can place values only where its 8 bits are, of sound where 16 are."""

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks.specs import Norm
from tinyrobust.data.speech.units import MIDPOINT, STEPS
from tinyrobust.robustness.distance import flat

FloatArray = npt.NDArray[np.float32]

_LEVELS = 255
_ORDERS = {"l2": 2, "l1": 1}


def snap(
    adversarial: FloatArray,
    x: FloatArray,
    epsilon: float | None = None,
    norm: Norm = "linf",
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
            lengths = np.linalg.norm(flat(nearest), _ORDERS[norm], axis=1)
            outside = (lengths > radius).reshape(-1, *[1] * (x.ndim - 1))
        # A change that is whole but for rounding errors is whole.
        nearest = np.where(outside, np.trunc(np.round(change, 3)), nearest)
    return np.clip(original + nearest, 0, _LEVELS).astype(np.float32) / np.float32(_LEVELS)


def sampled(adversarial: FloatArray, x: FloatArray, epsilon: float, norm: Norm) -> FloatArray:
    """Clips of 16-bit samples next to adversarial ones, no further from the originals than `epsilon`.

    Each sample takes the nearest step. Where that would leave the ball, in L-inf it takes the last step inside; in L2 and "snr"
    the whole change is made smaller first, by as little as is needed.

    Args:
        adversarial: Clips [n, samples] in [0, 1].
        x: The originals, on the grid.
        epsilon: Radius of the ball; infinite where there is none.
        norm: Of the ball.

    Returns:
        Float32, exactly as `tinyrobust.data.speech.units.unit` of int16 samples.
    """
    original = (x.astype(np.float64) - MIDPOINT) * STEPS
    change = (adversarial.astype(np.float64) - MIDPOINT) * STEPS - original
    steps = np.rint(change)
    if norm == "linf" and np.isfinite(epsilon):
        most = np.floor(epsilon * STEPS + 1e-6)
        steps = np.clip(steps, -most, most)
    if norm in ("l2", "snr"):
        radius = epsilon * (STEPS if norm == "l2" else np.linalg.norm(original, axis=1)) * np.ones(len(x))
        outside = np.flatnonzero(np.linalg.norm(steps, axis=1) > radius)
        steps[outside] = _smaller(change[outside], radius[outside])
    # The highest sample is one step below 1.
    clips = np.clip(original + steps, -STEPS // 2, STEPS // 2 - 1)
    return (clips / STEPS + MIDPOINT).astype(np.float32)


def _smaller(change: npt.NDArray[np.float64], radius: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Changes [n, samples] times the largest factor at which they, rounded, are no longer than `radius` [n].

    A rounded change grows with the factor, sample by sample: halving finds it.
    """
    low, high = np.zeros(len(change)), np.ones(len(change))
    for _ in range(14):
        middle = (low + high) / 2
        fits = np.linalg.norm(np.rint(change * middle[:, np.newaxis]), axis=1) <= radius
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.asarray(np.rint(change * low[:, np.newaxis]))
