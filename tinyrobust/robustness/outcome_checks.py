"""The checks that compare the outcomes of attacks with each other; see `checks.py`."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from tinyrobust.robustness.checks import check, tolerance
from tinyrobust.robustness.distance import Bools
from tinyrobust.robustness.outcomes import Outcome
from tinyrobust.robustness.robustness_record import Check
from tinyrobust.robustness.subject import UNRELATED

# Square "close to clean accuracy": it breaks less than this share, within a 95 % interval of none at 100 samples, although all
# attacks together break at least `_OTHERS`, so that there was something to find.
_CLOSE = 0.05
_OTHERS = 0.2
# Attacks that take one step or none: with a larger radius they may honestly find less, and nobody can run them longer. What a
# universal perturbation does to these samples was learned on others: as with a transfer, it is not in its hands.
_LIMITED = ("fgsm", "noise", "shift", "universal")


def black_box_wins(outcomes: Sequence[Outcome]) -> Check:
    """Raised when attacks that do not know the gradients break samples that those that do leave standing, at equal radius."""
    worst, explanation = 0, ""
    for target, norm, epsilon in dict.fromkeys((o.target, o.norm, o.epsilon) for o in outcomes):
        here = [o for o in outcomes if (o.target, o.norm, o.epsilon) == (target, norm, epsilon)]
        white = [o for o in here if o.direct and o.gradients and o.crafted_on not in UNRELATED]
        # A transfer between two nets of the same weights is no black box: only attacks without gradients, and surrogates.
        black = [o for o in here if not o.gradients or o.crafted_on in UNRELATED]
        if not white or not black:
            continue
        # Of what came before it in a cascade, an attack that knows the gradients never got the samples.
        left = np.logical_or.reduce([o.given for o in white]) & ~_union(white)
        extra = int((_union(black) & left).sum())
        # Two tolerances: both sides are random searches.
        if extra > max(2 * tolerance(int(white[0].meant.sum())), worst):
            alone = {o.attack: int((o.broken & left).sum()) for o in black}
            worst, best = extra, max(alone, key=alone.__getitem__)
            explanation = (
                f"Gradient masking: at {norm} epsilon {epsilon:.4g} on {target}, attacks without its gradients ({best} "
                f"most) break {extra} samples that every attack which knows the gradients leaves standing."
            )
    if worst:
        return check("black-box-wins", True, explanation, samples=worst)
    return check("black-box-wins", False, "Attacks that know the gradients find what the others find.", samples=0)


def square_is_blind(outcomes: Sequence[Outcome], right: Mapping[str, Bools]) -> Check:
    """Raised when Square breaks next to nothing at a radius at which other attacks break much.

    Args:
        outcomes: All.
        right: By target, whether samples [n] are right without attack.
    """
    squares = [o for o in outcomes if o.parameters["kind"] == "square" and o.direct]
    if not squares:
        return check("square-is-blind", False, "Square was not among the attacks.")
    for square in squares:
        tried = square.given & right[square.target]
        others = [o for o in outcomes if (o.target, o.norm, o.epsilon) == (square.target, square.norm, square.epsilon)]
        # A cascade left it the hard half: finding little says nothing.
        if not tried.any() or tried.sum() < 0.5 * right[square.target].sum():
            continue
        alone = float(square.broken.sum() / tried.sum())
        together = float((_union(others) & tried).sum() / tried.sum())
        if alone < _CLOSE and together > _OTHERS:
            return check(
                "square-is-blind",
                True,
                f"Square breaks {alone:.1%} of the samples of {square.target} at {square.norm} epsilon {square.epsilon:.4g}, "
                f"where all break {together:.1%}: the scores have no slope to follow. Its figures say nothing.",
                square=alone,
                together=together,
            )
    return check("square-is-blind", False, "Square breaks samples where others do.")


def rising(outcomes: Sequence[Outcome]) -> Check:
    """Raised when an attack with a larger epsilon leaves more samples standing: it was not run to its end.

    Transfers are left out: what an example does to another network is not in the attack's hands.
    """
    searching = [outcome for outcome in outcomes if outcome.direct and outcome.parameters["kind"] not in _LIMITED]
    for attack, target in dict.fromkeys((outcome.attack, outcome.target) for outcome in searching):
        row = [outcome for outcome in searching if (outcome.attack, outcome.target) == (attack, target)]
        for smaller, larger in pairwise(row):
            if int(larger.robust.sum()) - int(smaller.robust.sum()) > tolerance(int(larger.meant.sum())):
                return check(
                    "rising",
                    True,
                    f"Accuracy on {target} under {attack} rises from {_share(smaller):.1%} at epsilon {smaller.epsilon:.4g} to "
                    f"{_share(larger):.1%} at {larger.epsilon:.4g}: the attack does not use the space it has. "
                    "The worst case counts a sample broken at a smaller epsilon as broken.",
                )
    return check("rising", False, "A larger epsilon breaks at least as much.")


def _union(outcomes: Sequence[Outcome]) -> Bools:
    return np.asarray(np.logical_or.reduce([outcome.broken for outcome in outcomes]))


def _share(outcome: Outcome) -> float:
    return float(outcome.robust.sum() / outcome.meant.sum())
