"""The attacks that `attacks.py` compares: ours and ART's, each pair with the same idea and the same budget."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from art.attacks import evasion as art

from tinyrobust.attacks import specs
from tinyrobust.attacks.specs import AttackSpec, Norm

ART_NORM = {"linf": math.inf, "l2": 2, "l1": 1}
RADII: dict[Norm, tuple[float, ...]] = {"linf": (0.05, 0.1, 0.15), "l2": (0.4, 0.8), "l1": (1.5, 3.0), "l0": (2, 5, 10)}
Make = Callable[..., Any]


@dataclass(frozen=True)
class Pair:
    """Two attacks with the same idea and the same budget.

    Attributes:
        norm: Of the radii.
        ours: From a target, `norm`, `epsilon` and `seed` to an attack.
        arts: The same; without `seed`.
        radii: An attack on a ball runs at each; the distances of one that looks for the nearest example are compared with them.
        nearest: Whether it is of the second sort.
        targeted: Towards the class after the true one; what stands has not reached it.
        seeds: Repetitions of attacks that start at random.
        share: Of the samples: ART's slow ones get fewer.
    """

    norm: Norm
    ours: Make
    arts: Make
    radii: tuple[float, ...]
    nearest: bool = False
    targeted: bool = False
    seeds: int = 1
    share: float = 1.0


def _ball(ours: Make, arts: Make, *norms: Norm, seeds: int = 1, share: float = 1.0, targeted: bool = False) -> dict[Norm, Pair]:
    return {norm: Pair(norm, ours, arts, RADII[norm], seeds=seeds, share=share, targeted=targeted) for norm in norms}


def _ours(spec: type[AttackSpec], *, drop: bool = False, **fields: object) -> Make:
    return lambda target, *, norm, epsilon, **run: spec.of(norm=norm, **fields).build(target, epsilon, drop=drop, **run)


def _art_pgd(target: Any, *, norm: Norm, epsilon: float, targeted: bool = False) -> Any:
    settings = {"eps": epsilon, "eps_step": epsilon / 8, "max_iter": 20, "num_random_init": 1, "targeted": targeted}
    # With its own numpy steps: the TensorFlow ones of ART trace the network for every batch.
    return art.ProjectedGradientDescentNumpy(target, norm=ART_NORM[norm], batch_size=1024, verbose=False, **settings)


def _apgd(loss: str, arts: str | None, steps: int) -> tuple[Make, Make]:
    def theirs(target: Any, *, norm: Norm, epsilon: float) -> Any:
        settings = {"eps": epsilon, "eps_step": 2 * epsilon, "max_iter": steps, "nb_random_init": 1, "loss_type": arts}
        return art.AutoProjectedGradientDescent(target, norm=ART_NORM[norm], batch_size=1024, verbose=False, **settings)

    return _ours(specs.Apgd, loss=loss, steps=steps), theirs


def _nearest(
    spec: type[AttackSpec],
    theirs: Make,
    norm: Norm,
    ours: dict[str, Any],
    arts: dict[str, Any],
    share: float = 1.0,
    seeds: int = 1,
) -> Pair:
    """Attacks for the nearest example; their settings."""
    return Pair(
        norm,
        _ours(spec, drop=True, **ours),
        lambda target, norm, epsilon: theirs(target, verbose=False, **arts),  # noqa: ARG005 - one signature for all
        {"linf": (0.05, 0.1, 0.2), "l2": (0.3, 0.5, 0.8, 1.2), "l1": (), "l0": (2.0, 5.0, 10.0)}[norm],
        nearest=True,
        seeds=seeds,
        share=share,
    )


def _pairs() -> Iterator[tuple[str, dict[Norm, Pair]]]:
    yield (
        "fgm",
        _ball(
            _ours(specs.Fgsm),
            lambda target, *, norm, epsilon: art.FastGradientMethod(target, norm=ART_NORM[norm], eps=epsilon, batch_size=1024),
            *("linf", "l2", "l1"),
        ),
    )
    # Random starts: measured, one run on 300 digits has a standard deviation of half a point, on either side.
    pgd = _ours(specs.Pgd, steps=20, relative_step=1 / 8)
    yield "pgd", _ball(pgd, _art_pgd, "linf", "l2", "l1", seeds=10)
    towards = lambda make: lambda target, **settings: make(target, targeted=True, **settings)  # noqa: E731
    yield "pgd-targeted", _ball(towards(pgd), towards(_art_pgd), "linf", "l2", seeds=3, targeted=True)
    yield "apgd-ce", _ball(*_apgd("ce", None, 40), "linf", "l2", "l1", seeds=2)
    yield "apgd-dlr", _ball(*_apgd("dlr", "difference_logits_ratio", 20), "linf", "l2", seeds=2)
    square = _ours(specs.Square, drop=True, iterations=200)
    art_square = lambda target, *, norm, epsilon: art.SquareAttack(  # noqa: E731
        target, norm=ART_NORM[norm], eps=epsilon, max_iter=200, nb_restarts=1, p_init=0.8, batch_size=1024, verbose=False
    )
    yield "square", _ball(square, art_square, "linf", "l2", seeds=2)
    # ART's attacks for the nearest example have their default budgets, which ours stay below: see the passes.
    arts = {"max_iter": 50, "batch_size": 100}
    yield "deepfool", {"l2": _nearest(specs.DeepFool, art.DeepFool, "l2", {"steps": 50}, arts)}
    long, short, arts = {"steps": 20, "searches": 9}, {"steps": 10, "searches": 5}, {"batch_size": 100}
    yield (
        "carlini",
        {
            "l2": _nearest(specs.CarliniWagner, art.CarliniL2Method, "l2", long, arts),
            "linf": _nearest(specs.CarliniWagner, art.CarliniLInfMethod, "linf", short, arts, share=0.1),
            "l0": _nearest(specs.CarliniWagner, art.CarliniL0Method, "l0", long, arts, share=0.03),
        },
    )
    walk = {"max_iter": 60, "num_trial": 10, "sample_size": 10, "targeted": False}
    boundary = {"steps": 60, "trials": 10, "directions": 10}
    yield "boundary", {"l2": _nearest(specs.Boundary, art.BoundaryAttack, "l2", boundary, walk, share=0.2, seeds=3)}
    hop = {"steps": 6, "queries": 300, "first_queries": 50}
    arts = {"max_iter": 6, "max_eval": 300, "init_eval": 50}
    norms: tuple[Norm, ...] = ("l2", "linf")
    hops = {
        norm: _nearest(specs.HopSkipJump, art.HopSkipJump, norm, hop, {"norm": ART_NORM[norm], **arts}, share=0.2)
        for norm in norms
    }
    yield "hop-skip-jump", hops
    zoo = {"steps": 40, "searches": 2, "coordinates": 64, "learning_rate": 0.1, "constant": 1.0}
    arts = {"max_iter": 40, "binary_search_steps": 2, "nb_parallel": 64, "learning_rate": 0.1, "initial_const": 1.0}
    # Without `abort_early`: ART's gives up when its loss has not fallen for a while, and leaves budget unspent.
    arts |= {"use_resize": False, "abort_early": False}
    yield "zoo", {"l2": _nearest(specs.Zoo, art.ZooAttack, "l2", zoo, arts, share=0.2)}


PAIRS: dict[str, Pair] = {f"{name}-{norm}": pair for name, pairs in _pairs() for norm, pair in pairs.items()}
