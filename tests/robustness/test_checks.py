from dataclasses import replace

import numpy as np

from tinyrobust.robustness import checks, outcome_checks
from tinyrobust.robustness.distance import NORMS
from tinyrobust.robustness.outcomes import Outcome


def _outcome(kind: str, epsilon: float, robust: int, target: str = "keras", gradients: bool = True) -> Outcome:
    standing, every = np.arange(100) < robust, np.ones(100, bool)
    return Outcome(
        target=target,
        attack=kind,
        crafted_on="keras",
        home="keras",
        gradients=gradients,
        norm="linf",
        epsilon=epsilon,
        parameters={"kind": kind},
        meant=every,
        given=every,
        predicted=np.zeros(100, np.int64),
        distance={norm: np.zeros(100, np.float32) for norm in NORMS},
        broken=~standing,
        robust=standing,
    )


def test_a_stronger_black_box_is_reported() -> None:
    found = outcome_checks.black_box_wins([_outcome("pgd", 0.1, 60), _outcome("square", 0.1, 30, gradients=False)])
    assert found.raised
    assert "30 samples" in found.explanation


def test_a_black_box_that_came_first_in_a_cascade_is_not_reported() -> None:
    noise, pgd = _outcome("noise", 0.1, 60, gradients=False), _outcome("pgd", 0.1, 0)
    left = noise.robust
    assert not outcome_checks.black_box_wins([noise, replace(pgd, given=left, broken=left)]).raised
    half = left & (np.arange(100) < 30)
    later = replace(_outcome("square", 0.1, 0, gradients=False), given=left & ~half, broken=left & ~half)
    assert outcome_checks.black_box_wins([noise, replace(pgd, given=left, broken=half), later]).raised


def test_chance_other_targets_and_other_epsilons_are_not_reported() -> None:
    pgd = _outcome("pgd", 0.1, 60)
    others = [_outcome("square", 0.1, 59, gradients=False), _outcome("square", 0.2, 10, gradients=False)]
    assert not outcome_checks.black_box_wins([pgd, *others, _outcome("square", 0.1, 10, "int8", gradients=False)]).raised


def test_rising_accuracy_is_reported() -> None:
    found = outcome_checks.rising([_outcome("pgd", 0.1, 10), _outcome("pgd", 0.2, 30), _outcome("pgd", 0.3, 31)])
    assert found.raised
    assert "rises from 10.0% at epsilon 0.1 to 30.0% at 0.2" in found.explanation


def test_one_step_may_overshoot_and_a_transfer_may_fail() -> None:
    assert not outcome_checks.rising([_outcome("fgsm", 0.1, 10), _outcome("fgsm", 0.2, 30)]).raised
    assert not outcome_checks.rising([_outcome("pgd", 0.1, 10, "int8"), _outcome("pgd", 0.2, 30, "int8")]).raised


def test_saturated_scores_are_reported() -> None:
    labels = np.zeros(10, np.int64)
    saturated = np.tile(np.float32([1, 0, 0]), (10, 1))
    assert checks.saturated_scores(saturated, labels, white=False).raised
    assert not checks.saturated_scores(saturated, labels, white=True).raised
    assert not checks.saturated_scores(saturated + np.float32([0, 0, 0.1]), labels, white=False).raised
