"""Attacks for the nearest example, and Square, against ART's at no larger budget: never weaker by more than a point."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from art.attacks.evasion import CarliniL0Method, CarliniL2Method, CarliniLInfMethod, SquareAttack
from art.attacks.evasion import DeepFool as ArtDeepFool

from tinyrobust.attacks.cw import CarliniWagner
from tinyrobust.attacks.deepfool import DeepFool
from tinyrobust.attacks.norms import Norm, distance
from tinyrobust.attacks.square import Square

_POINT = 0.01 + 1e-9


class _Pair(NamedTuple):
    """Ours and ART's with the same idea; `samples` are few where ART is slow."""

    ours: Callable[[Any], Any]
    arts: Callable[[Any], Any]
    norm: Norm
    radii: tuple[float, ...]
    samples: int = 100


_QUIET: dict[str, Any] = {"verbose": False, "batch_size": 100}
_PAIRS = {
    "carlini-l2": _Pair(
        lambda target: CarliniWagner(target, steps=20, searches=9),
        lambda target: CarliniL2Method(target, **_QUIET),
        "l2",
        (0.3, 0.5, 0.8, 1.2),
    ),
    "carlini-linf": _Pair(
        lambda target: CarliniWagner(target, norm="linf", steps=10, searches=5),
        lambda target: CarliniLInfMethod(target, **_QUIET),
        "linf",
        (0.05, 0.1, 0.2),
        10,
    ),
    "carlini-l0": _Pair(
        lambda target: CarliniWagner(target, norm="l0", steps=20, searches=9),
        lambda target: CarliniL0Method(target, **_QUIET),
        "l0",
        (2, 5, 10),
        3,
    ),
    "deepfool": _Pair(
        DeepFool,
        lambda target: ArtDeepFool(target, max_iter=50, **_QUIET),
        "l2",
        (0.3, 0.5, 0.8, 1.2),
    ),
    "square-l2": _Pair(
        lambda target: Square(target, norm="l2", epsilon=0.8, iterations=300),
        lambda target: SquareAttack(target, norm=2, eps=0.8, max_iter=300, nb_restarts=1, p_init=0.8, **_QUIET),
        "l2",
        (0.8,),
    ),
    **{
        f"square-{epsilon}": _Pair(
            lambda target, epsilon=epsilon: Square(target, epsilon=epsilon, iterations=300),
            lambda target, epsilon=epsilon: SquareAttack(
                target, norm=math.inf, eps=epsilon, max_iter=300, nb_restarts=1, p_init=0.8, **_QUIET
            ),
            "linf",
            (epsilon,),
        )
        for epsilon in (0.05, 0.1, 0.2)
    },
}


def _standing(attack: Any, target: Any, pair: _Pair, images: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, int]:
    """Robust accuracy at every radius, and the passes through the network that it took."""
    x, y = (array[: pair.samples] for array in images)
    before = target.forward_passes + target.backward_passes
    np.random.seed(0)  # noqa: NPY002 - ART's generator
    found = attack.generate(x, np.eye(10, dtype=np.float32)[y])
    passes = target.forward_passes + target.backward_passes - before
    broken = target.predict(found).argmax(axis=1) != y
    far = distance(found - x, pair.norm)
    return np.array([1 - (broken & (far <= radius + 1e-6)).mean() for radius in pair.radii]), passes


# ART's Square in L2 divides by the norm of a window that may be zero: its answers that are not numbers count as failures.
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ["undefended", "robust"])
@pytest.mark.parametrize("pair", _PAIRS.values(), ids=_PAIRS)
def test_never_weaker_than_arts(pair, name, targets, images) -> None:
    target = targets[name]
    ours, our_passes = _standing(pair.ours(target), target, pair, images)
    arts, art_passes = _standing(pair.arts(target), target, pair, images)
    assert (ours <= arts + _POINT).all(), f"ours {ours}, ART's {arts}"
    assert our_passes <= 1.1 * art_passes
