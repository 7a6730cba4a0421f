import numpy as np

from tinyrobust.robustness import checks
from tinyrobust.robustness.outcomes import Outcome


def _outcome(kind: str, epsilon: float, robust: int, target: str = "keras") -> Outcome:
    standing = np.arange(100) < robust
    zeros = np.zeros(100)
    return Outcome(
        target=target,
        attack=kind,
        crafted_on="keras",
        epsilon=epsilon,
        parameters={"kind": kind},
        predicted=zeros.astype(np.int64),
        distance=zeros.astype(np.float32),
        broken=~standing,
        robust=standing,
        adversarial=np.zeros((100, 2, 2, 1), np.float32),
        seconds=0.0,
        queries=0,
    )


def test_a_stronger_black_box_is_reported() -> None:
    found = list(checks.iterative_is_weaker([_outcome("pgd", 0.1, 60), _outcome("square", 0.1, 30)]))
    assert len(found) == 1
    assert "square breaks 30 samples more than pgd" in found[0]


def test_chance_other_targets_and_other_epsilons_are_not_reported() -> None:
    pgd = _outcome("pgd", 0.1, 60)
    others = [_outcome("square", 0.1, 59), _outcome("square", 0.2, 10), _outcome("fgsm", 0.1, 10, target="int8")]
    assert not list(checks.iterative_is_weaker([pgd, *others]))


def test_rising_accuracy_is_reported() -> None:
    found = list(checks.rising([_outcome("fgsm", 0.1, 10), _outcome("fgsm", 0.2, 30), _outcome("fgsm", 0.3, 31)]))
    assert len(found) == 1
    assert "rises from 10.0% at epsilon 0.1 to 30.0% at 0.2" in found[0]


def test_saturated_scores_are_reported() -> None:
    labels = np.zeros(10, np.int64)
    saturated = np.tile(np.float32([1, 0, 0]), (10, 1))
    assert "Saturated scores: on 100%" in next(checks.flat_scores(saturated, labels))
    assert not list(checks.flat_scores(saturated + np.float32([0, 0, 0.1]), labels))
