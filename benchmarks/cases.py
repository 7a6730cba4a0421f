"""The attacks that `speed.py` times: ours and ART's, each with the same budget."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from art.attacks import evasion as art

from tinyrobust.attacks import specs
from tinyrobust.attacks.specs import AttackSpec, Norm


@dataclass(frozen=True)
class Case:
    """One attack of ours and ART's; both at a radius, or for the nearest example.

    Attributes:
        ours: Its spec.
        arts: From classifier, radius and number of images to an attack.
        leaves: Whether broken samples leave on both sides: ART's Square sees to that itself.
        goals: How many times faster on digits and on CIFAR-10; None: not named.
        images: How many; ART's slow attacks get few.
        gradients: Whether its rate is compared with that of raw gradients: it takes one a step, forward and back.
    """

    ours: AttackSpec
    arts: Callable[..., Any]
    goals: tuple[float | None, float | None]
    images: tuple[int, int] = (64, 64)
    gradients: bool = False
    leaves: bool = False

    @property
    def norm(self) -> Norm:
        """Of the radius."""
        return self.ours.norm


def _pgd(classifier: Any, epsilon: float, n: int) -> Any:
    settings = {"eps": epsilon, "eps_step": epsilon / 8, "max_iter": 20, "num_random_init": 1, "batch_size": n}
    # The faster one of ART's two on a small network; on a large one they take the same time.
    return art.ProjectedGradientDescentNumpy(classifier, verbose=False, **settings)


def _apgd(classifier: Any, epsilon: float, n: int) -> Any:
    settings = {"eps": epsilon, "eps_step": 2 * epsilon, "max_iter": 20, "nb_random_init": 1, "batch_size": n}
    return art.AutoProjectedGradientDescent(classifier, loss_type="cross_entropy", verbose=False, **settings)


def _art_square(classifier: Any, epsilon: float, n: int) -> Any:
    return art.SquareAttack(classifier, eps=epsilon, max_iter=200, nb_restarts=1, p_init=0.8, batch_size=n, verbose=False)


_WALK = {"max_iter": 20, "num_trial": 10, "sample_size": 10, "targeted": False}
_HOP = {"max_iter": 6, "max_eval": 300, "init_eval": 50}
_ZOO = {"max_iter": 10, "binary_search_steps": 2, "nb_parallel": 64, "learning_rate": 0.1, "initial_const": 1.0}
# ART's ZOO gives up when its loss has not fallen for a while; with it, the budgets would not be the same.
_ZOO |= {"use_resize": False, "abort_early": False, "verbose": False}
_CARLINI = {"max_iter": 100, "binary_search_steps": 3}

CASES: dict[str, Case] = {
    "pgd-20": Case(
        specs.Pgd.of(steps=20, relative_step=1 / 8),
        _pgd,
        (12, 5),
        gradients=True,
    ),
    "apgd-ce-20": Case(
        specs.Apgd.of(steps=20),
        _apgd,
        (12, 5),
        gradients=True,
    ),
    "carlini-l2": Case(
        specs.CarliniWagner.of(steps=100, searches=3),
        lambda classifier, _, n: art.CarliniL2Method(classifier, batch_size=n, verbose=False, **_CARLINI),
        (50, 20),
        (16, 2),
        gradients=True,
    ),
    "deepfool-50": Case(
        specs.DeepFool.of(steps=50),
        lambda classifier, _, n: art.DeepFool(classifier, max_iter=50, batch_size=n, verbose=False),
        (10, 10),
        (64, 16),
    ),
    "square-200": Case(
        specs.Square.of(iterations=200),
        _art_square,
        (3, 3),
        (64, 32),
        leaves=True,
    ),
    "boundary-20": Case(
        specs.Boundary.of(steps=20, trials=10, directions=10),
        lambda classifier, _, n: art.BoundaryAttack(classifier, verbose=False, **_WALK),  # noqa: ARG005 - one signature for all
        (10, 10),
        (64, 24),
    ),
    "hop-skip-jump-6": Case(
        specs.HopSkipJump.of(steps=6, queries=300, first_queries=50),
        lambda classifier, _, n: art.HopSkipJump(classifier, verbose=False, **_HOP),  # noqa: ARG005 - one signature for all
        (None, None),
        (64, 24),
    ),
    "zoo-10": Case(
        specs.Zoo.of(steps=10, searches=2, coordinates=64),
        lambda classifier, _, n: art.ZooAttack(classifier, **_ZOO),  # noqa: ARG005 - one signature for all
        (10, 10),
        (64, 8),
    ),
}
