"""Signs that a robustness figure is not to be trusted, each as a sentence for the record.

After Athalye et al. 2018 (gradient masking) and Carlini et al. 2019 (how to evaluate). They warn; they repair nothing.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tinyrobust.attacks.estimator import CompiledClassifier
from tinyrobust.robustness.outcomes import Floats, Ints, Outcome

_SHARE = 0.1


def black_box_only() -> str:
    """Says that no attack used gradients."""
    return (
        "Black box only: no Keras network was given, so no attack used gradients. "
        "The figures are upper bounds: a white-box attacker breaks more."
    )


def zero_gradients(target: CompiledClassifier, x: Floats, y: Ints) -> Iterator[str]:
    """Warns when many samples have an input gradient of exactly zero: attacks on the gradient cannot move them."""
    gradient = target.loss_gradient(x, y).reshape(len(x), -1)
    share = float(np.mean(~np.any(gradient, axis=1)))
    if share > _SHARE:
        yield (
            f"Gradient masking: {share:.0%} of the input gradients are exactly zero, so gradient attacks stand still there. "
            "What they leave standing is not robust: the loss has saturated (large logits, distillation)."
        )


def flat_scores(scores: Floats, y: Ints) -> Iterator[str]:
    """Warns when the scores of the int8 file saturate: all wrong classes score the same, so black boxes see no slope."""
    wrong = scores.copy()
    wrong[np.arange(len(y)), y] = -np.inf
    highest = wrong.max(axis=1)
    wrong[np.arange(len(y)), y] = np.inf
    share = float(np.mean(highest == wrong.min(axis=1)))
    if scores.shape[1] > 2 and share > _SHARE:
        yield (
            f"Saturated scores: on {share:.0%} of the images the int8 file gives all wrong classes the same score "
            "(a softmax in 8 bits, or one scale for very large logits), so score-based attacks are blind there. "
            "Its figures under Square are upper bounds."
        )


def iterative_is_weaker(outcomes: list[Outcome]) -> Iterator[str]:
    """Warns when PGD leaves more samples standing than an attack that should be weaker, on the same target."""
    direct = [outcome for outcome in outcomes if outcome.target == outcome.crafted_on]
    for pgd in (outcome for outcome in direct if outcome.parameters["kind"] == "pgd"):
        for other in direct:
            same = (other.target, other.epsilon) == (pgd.target, pgd.epsilon)
            surplus = int(pgd.robust.sum()) - int(other.robust.sum())
            if same and other.parameters["kind"] != "pgd" and surplus > _tolerance(pgd):
                yield (
                    f"Gradient masking: at epsilon {pgd.epsilon:.4g} on {pgd.target}, {other.attack} breaks {surplus} samples "
                    f"more than {pgd.attack}, which knows the gradients and takes more steps."
                )


def rising(outcomes: list[Outcome]) -> Iterator[str]:
    """Warns when an attack with a larger epsilon leaves more samples standing: it was not run to its end."""
    for attack, target in dict.fromkeys((outcome.attack, outcome.target) for outcome in outcomes):
        row = [outcome for outcome in outcomes if (outcome.attack, outcome.target) == (attack, target)]
        for near, far in pairwise(row):
            if int(far.robust.sum()) - int(near.robust.sum()) > _tolerance(far):
                yield (
                    f"Accuracy on {target} under {attack} rises from {near.robust.mean():.1%} at epsilon {near.epsilon:.4g} to "
                    f"{far.robust.mean():.1%} at {far.epsilon:.4g}: the attack does not use the space it has. "
                    "The worst case counts a sample broken at a smaller epsilon as broken."
                )


def _tolerance(outcome: Outcome) -> float:
    """One point, at least one sample: less is chance."""
    return max(1.0, 0.01 * len(outcome.robust))
