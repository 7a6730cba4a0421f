"""Signs that a robustness figure is not to be trusted: each is looked for, and a raised one makes the record unreliable.

After Athalye et al. 2018 (gradient masking: sections 3 and 5), Carlini et al. 2019 (how to evaluate: section 5) and Croce et
al. 2022 (how adaptive evaluations go wrong). They say what is wrong; they repair nothing. `docs/reading-robustness.md` has a
paragraph for each, under the name of the check. Those that compare attacks with each other are in `outcome_checks.py`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tinyrobust.robustness.distance import Bools, Floats, Ints
from tinyrobust.robustness.robustness_record import Check
from tinyrobust.robustness.statistics import wilson

TITLES = {
    "at-chance": "Clean accuracy is above chance",
    "one-class": "More than one class is named",
    "permuted-classes": "Classes are in the order of the file",
    "fewer-classes": "The data have as many classes as the file",
    "no-classifier": "The outputs are scores of classes",
    "black-box-only": "Attacks on the gradient were possible",
    "zero-gradients": "Input gradients that are exactly zero",
    "misleading-gradients": "Gradients tell the truth",
    "softmax": "Softmax where logits belong",
    "saturated-scores": "Scores without a slope",
    "random-predictions": "Random answers without expectation",
    "more-steps": "More steps and restarts do not help",
    "half-grey": "Nothing stands at epsilon 0.5",
    "unconstrained": "An unconstrained attack reaches 0 %",
    "black-box-wins": "Black box and transfer do not beat white box",
    "square-is-blind": "Square finds something",
    "rising": "Accuracy does not rise with epsilon",
    "no-examples": "Adversarial examples are such",
}
# Some dead samples are honest: a ReLU network can be flat around one. On undefended digits and CIFAR networks none was; on nets
# distilled at T = 50 two thirds and more were. In between lies what would move a figure by more than its confidence interval.
_SHARE = 0.1


def check(name: str, raised: bool, explanation: str, **figures: float) -> Check:
    """A check of the list above with its title."""
    return Check(name=name, title=TITLES[name], raised=raised, explanation=explanation, figures=figures)


def tolerance(n: int) -> float:
    """One point, at least one sample: what another seed of the same attack moves; smaller than any confidence interval here."""
    return max(1.0, 0.01 * n)


def black_box_only(attacked: set[str], targets: Sequence[str]) -> Check:
    """Raised for every target that no attack on its own gradients was tried on, nor one on a network of the same weights.

    Args:
        attacked: Targets on which one was.
        targets: All.
    """
    alone = [target for target in targets if target not in attacked]
    if alone:
        return check(
            "black-box-only",
            True,
            f"Black box only: no attack used gradients against {' and '.join(alone)}. "
            "The figures are upper bounds: a white-box attacker breaks more.",
        )
    return check("black-box-only", False, "Every target was attacked with gradients.")


def zero_gradients(shares: Mapping[str, float]) -> Check:
    """Raised when in every view that attacks used many samples have an input gradient of exactly zero.

    Args:
        shares: By view, the share of samples whose gradient is all zeros.
    """
    if not shares:
        return check("zero-gradients", False, "No attack used gradients.")
    best = min(shares, key=lambda view: shares[view])
    listing = ", ".join(f"{share:.0%} on {view}" for view, share in shares.items())
    if shares[best] > _SHARE:
        return check(
            "zero-gradients",
            True,
            f"Gradient masking: {shares[best]:.0%} of the input gradients are exactly zero ({listing}), so gradient attacks "
            "stand still there. What they leave standing is not robust: the loss has saturated (large logits, distillation).",
            **shares,
        )
    explanation = f"Share of input gradients that are exactly zero: {listing}."
    if max(shares.values()) > _SHARE:
        explanation += f" The network masks its gradients; the attacks on {best} do not depend on the masked ones."
    return check("zero-gradients", False, explanation, **shares)


def softmax(scores: Mapping[str, Floats], attacked: set[str]) -> Check:
    """Raised when scores are probabilities where attacks need logits.

    Args:
        scores: By target, scores [n, classes] of clean samples.
        attacked: Targets that were attacked through gradients of their own: their scores do not matter.
    """
    blind = []
    for target, rows in scores.items():
        sums = rows.sum(axis=1)
        # Rows of integers that were probabilities add up to one give or take their rounding: half a step of 1/256 for each of
        # ten classes. Logits that do so on every image by chance do not occur.
        if rows.min() >= 0 and rows.max() <= 1 and np.all(np.abs(sums - 1) < 0.02) and target not in attacked:
            blind.append(target)
    if blind:
        return check(
            "softmax",
            True,
            f"The scores of {' and '.join(blind)} are probabilities: gradients and margins vanish where the network is sure, "
            "and attacks stand still. Attack the logits.",
        )
    return check("softmax", False, "Attacks saw logits, or gradients that a softmax does not hide.")


def saturated_scores(scores: Floats, y: Ints, white: bool) -> Check:
    """Raised when the int8 file gives all wrong classes the same score, so that black boxes see no slope, and nothing else is.

    Args:
        scores: Of the file, [n, classes], for clean samples.
        y: True classes [n].
        white: Whether the file was also attacked through gradients.
    """
    wrong = scores.copy()
    wrong[np.arange(len(y)), y] = -np.inf
    highest = wrong.max(axis=1)
    wrong[np.arange(len(y)), y] = np.inf
    share = float(np.mean(highest == wrong.min(axis=1))) if scores.shape[1] > 2 else 0.0
    observed = f"on {share:.0%} of the images the int8 file gives all wrong classes the same score"
    if share <= _SHARE:
        return check("saturated-scores", False, f"{observed.capitalize()}.", share=share)
    explanation = f"Saturated scores: {observed} (a softmax in 8 bits, or one scale for very large logits), so "
    explanation += "score-based attacks are blind there: figures under Square are upper bounds."
    if white:
        explanation += " Attacks through gradients, which do not see these scores, were tried too."
    return check("saturated-scores", not white, explanation, share=share)


def random_predictions(differing: float, passes: int) -> Check:
    """Raised when the same image gets another answer when asked again, and attacks did not average over that.

    Args:
        differing: Share of samples whose logits differ between two passes.
        passes: Over how many passes attacks averaged.
    """
    if differing == 0:
        return check("random-predictions", False, "The same image gets the same answer.", differing=0.0)
    if passes > 1:
        explanation = f"Answers are random; attacks followed the mean of {passes} passes (EOT)."
        return check("random-predictions", False, explanation, differing=differing, passes=passes)
    return check(
        "random-predictions",
        True,
        f"Random answers: {differing:.0%} of the images get other logits when asked again, and attacks did not average "
        "over that. They chase noise: expectation over transformation (Athalye et al. 2018) breaks such networks.",
        differing=differing,
        passes=1,
    )


def more_steps(name: str, epsilon: float, factor: int, before: Bools, extra: Bools, unfinished: Sequence[str] = ()) -> Check:
    """Raised when the strongest attack on gradients, run longer, breaks more than it and its peers did, by over a point.

    And when the protocol's rule had an attack run on at some radius, and the budget was spent before it converged.

    Args:
        name: Of that attack.
        epsilon: The radius.
        factor: So many times the steps that the protocol lists.
        before: Samples [n] that it is about.
        extra: Those [n] of them that only the longer run breaks.
        unfinished: Where the last run by the protocol's rule still broke more than next to nothing, in words.
    """
    n, count = len(before), int(extra.sum())
    raised = count > tolerance(n)
    standing = int(before.sum())
    explanation = (
        f"{name} with {factor} times the steps and one more restart breaks {count} of {standing} samples that still stood at "
        f"epsilon {epsilon:.4g}"
    )
    explanation += ": it had not converged, the figures are too high." if raised else "."
    figures = {"samples": float(count), "standing": float(standing)}
    return check("more-steps", raised or bool(unfinished), f"{explanation}{_not_converged(unfinished)}", **figures)


def run_on(radii: int, unfinished: Sequence[str]) -> Check:
    """The same where nothing was attacked at the headline's radius: only what the protocol's rule said elsewhere.

    Args:
        radii: Rows at which attacks were run on.
        unfinished: As `more_steps`.
    """
    explanation = f"Attacks were run on at {radii} radii and targets."
    return check("more-steps", bool(unfinished), f"{explanation}{_not_converged(unfinished)}")


def together(found: Sequence[Check]) -> Check:
    """Checks of one name, each about another target or norm, as one: raised when one of them is, which is explained first."""
    first, *others = sorted(found, key=lambda one: not one.raised)
    return first.model_copy(update={"explanation": " ".join(one.explanation for one in (first, *others))})


def _not_converged(unfinished: Sequence[str]) -> str:
    return f" Not converged within the budget: {'; '.join(unfinished)}. These figures are too high." if unfinished else ""


def large_epsilon(name: str, attack: str, standing: int, n: int, limit: float, epsilon: float) -> Check:
    """Raised when too much stands where everything can be broken.

    Args:
        name: "half-grey" or "unconstrained".
        attack: What was tried.
        standing: Samples that still stand.
        n: Of how many.
        limit: The share that may stand: at epsilon 0.5, where all images can be made the same gray one, as many as have the
            commonest class (raised only where the whole confidence interval lies above); without bound, where every image can
            be made any other, none at all.
        epsilon: The radius.
    """
    share = wilson(standing, n)
    raised = share.low > limit if limit else standing > 0
    explanation = f"{attack} leaves {share.value:.1%} standing at epsilon {epsilon:g}"
    if raised:
        explanation += f", where at most {limit:.1%} can: the attack does not work on this network, so its figures say nothing."
    else:
        explanation += f"; at most {limit:.1%} is expected."
    return check(name, raised, explanation, standing=share.value, limit=limit)


def no_examples(looked_at: int, failing: int, why: str) -> Check:
    """Raised when examples that count as adversarial are none on a second look: outside of the ball, or classified rightly."""
    if failing:
        explanation = f"{failing} of {looked_at} adversarial examples are none on a second look: {why}."
        return check("no-examples", True, explanation, looked_at=looked_at, failing=failing)
    explanation = f"{looked_at} examples were looked at again: in their ball, in [0, 1], and classified wrongly."
    return check("no-examples", False, explanation, looked_at=looked_at, failing=0)
