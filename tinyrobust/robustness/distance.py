"""How far adversarial examples are from their samples, in every norm; and the array types of this package."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.specs import Norm
from tinyrobust.data.speech.units import MIDPOINT, samples, shifted
from tinyrobust.recipe.frontend import SAMPLE_RATE

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")
SOUND_NORMS: tuple[Norm, ...] = ("linf", "l2", "snr", "shift")
# Rounding of float32 pixels and of sums over them: an example this much (relative to the radius) outside counts as inside.
SLACK = 1e-6
_RELATIVE = 1e-5


def distances(adversarial: Floats, x: Floats, norms: Sequence[Norm] = NORMS) -> dict[Norm, Floats]:
    """Distances [n] of examples from their samples in every norm.

    l0 counts input values that changed, as attacks do. snr is the L2 length of the change over that of the clip; no change is
    none of it. shift is infinite here, where nothing is changed zero: who moves clips in time measures it by `moved`.
    """
    change = flat(np.abs(adversarial.astype(np.float64) - x))
    return {norm: np.asarray(_distance(change, x, norm), dtype=np.float32) for norm in norms}


def _distance(change: npt.NDArray[np.float64], x: Floats, norm: Norm) -> Array:
    if norm == "linf":
        return np.asarray(change.max(axis=1, initial=0))
    if norm == "l1":
        return np.asarray(change.sum(axis=1))
    if norm == "l0":
        return distance(change, norm)
    if norm == "shift":
        return np.where(change.any(axis=1), np.inf, 0)
    length = np.sqrt(np.square(change).sum(axis=1))
    of_clip = np.sqrt(np.square(flat(x).astype(np.float64) - MIDPOINT).sum(axis=1)) if norm == "snr" else np.ones(len(x))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(length > 0, length / of_clip, 0)


def flat(x: Array) -> Array:
    """[n, ...] -> [n, values]; where n is 0 too, which -1 does not know."""
    return x.reshape(len(x), math.prod(x.shape[1:]))


def moved(adversarial: Floats, x: Floats, most: int) -> Floats:
    """By how many whole milliseconds [n] clips were moved in time, either way: the fewest that explain it, `most` at most.

    Infinite where no shift makes the one from the other.
    """
    shift, before, after = np.full(len(x), np.inf, np.float32), samples(x), samples(adversarial)
    for ms in sorted(range(-most, most + 1), key=abs, reverse=True):
        shift[(after == shifted(before, ms * SAMPLE_RATE // 1000)).all(axis=1)] = abs(ms)
    return shift


def within(distance: npt.ArrayLike, epsilon: npt.ArrayLike) -> Bools:
    """Whether distances [n] are at most `epsilon`, give or take rounding."""
    return np.asarray(np.asarray(distance) <= (1 + _RELATIVE) * np.asarray(epsilon) + SLACK)
