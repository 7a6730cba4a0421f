"""Signs, seen without any attack, that a figure would be about something else than the file: no headline where one is raised.

A robust accuracy means nothing where the labels are not those of the file, its input is in other units, or what it answers is
no class. All of them look at the confusion matrix of the flashed file on the whole test set.
"""

import math

import numpy as np

from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.reading import Anomaly
from tinyrobust.robustness.checks import check
from tinyrobust.robustness.distance import Ints
from tinyrobust.robustness.robustness_record import Check

WITHHOLDING = ("at-chance", "one-class", "permuted-classes", "fewer-classes", "no-classifier")
"""Checks that, raised, leave an evaluation without a headline."""
_ONE = 0.98  # of the answers are of one class
_SPARE = 5  # samples of a class, from which on a matching of classes is no accident
_GAIN = 0.2  # of all samples become right when classes are matched


def all_clean(confusion: Ints, classes: int | None, model: Int8Model) -> list[Check]:
    """Every check of clean answers.

    Args:
        confusion: Counts [true class][named class] of the file on the whole test set.
        classes: How many classes the data have, where that is known.
        model: The file.
    """
    chance = at_chance(confusion)
    return [
        chance,
        one_class(confusion),
        permuted_classes(confusion),
        fewer_classes(classes, model.classes),
        no_classifier(model, at_chance=chance.raised),
    ]


def at_chance(confusion: Ints) -> Check:
    """Raised when the mean of the classes' accuracies is not above that of an answer that does not look at the input.

    One class named for everything, or classes drawn at random, have a mean of 1 by the number of classes; two standard errors
    are allowed.
    """
    counts = confusion.sum(axis=1)
    present = counts > 0
    k = int(present.sum())
    balanced = float((np.diag(confusion)[present] / counts[present]).mean())
    chance = 1 / k
    error = math.sqrt(float(np.sum(chance * (1 - chance) / counts[present]))) / k
    right = float(np.trace(confusion) / confusion.sum())
    observed = f"the file is right on {right:.1%} of the clean samples ({balanced:.1%}, class by class)"
    if k > 1 and balanced <= chance + 2 * error:
        explanation = f"At chance: {observed}, where {chance:.1%} need no look at the input: nothing can be robust here. "
        explanation += "Units, classes or preprocessing of the data are not those of the file."
        return check("at-chance", True, explanation, balanced=balanced, chance=chance)
    return check(
        "at-chance",
        False,
        f"{observed[0].upper()}{observed[1:]}, {chance:.1%} would be chance.",
        balanced=balanced,
        chance=chance,
    )


def one_class(confusion: Ints) -> Check:
    """Raised when the file names one class for nearly everything, and the data are of several."""
    named = confusion.sum(axis=0) / confusion.sum()
    most = int(named.argmax())
    of_it = float(confusion[most].sum() / confusion.sum())
    if named[most] >= _ONE and of_it < _ONE**2:
        explanation = (
            f"One answer: the file names class {most} for {named[most]:.1%} of the inputs, of which {of_it:.1%} are of it. "
        )
        explanation += "It does not see the input: its units are others, or the file is broken."
        return check("one-class", True, explanation, share=float(named[most]))
    return check("one-class", False, f"The class that is named most is named for {named[most]:.1%}.", share=float(named[most]))


def permuted_classes(confusion: Ints) -> Check:
    """Raised when the file would be right far more often if its classes were in another order."""
    from scipy.optimize import linear_sum_assignment  # takes a second

    n, right = int(confusion.sum()), int(np.trace(confusion))
    labels, outputs = linear_sum_assignment(confusion, maximize=True)
    matched = int(confusion[labels, outputs].sum())
    gained = matched - right
    if gained > max(_GAIN * n, _SPARE * len(confusion)) and matched > 2 * right:
        order = ", ".join(f"label {a} is output {b}" for a, b in zip(labels, outputs, strict=True) if confusion[a, b])
        explanation = f"Classes in another order: {right / n:.1%} are right as the labels are, {matched / n:.1%} if {order}."
        return check("permuted-classes", True, explanation, right=right / n, matched=matched / n)
    explanation = f"No other order of classes is much better: {matched / n:.1%} at most."
    return check("permuted-classes", False, explanation, right=right / n, matched=matched / n)


def fewer_classes(classes: int | None, outputs: int) -> Check:
    """Raised when the data have fewer classes than the file has outputs."""
    if classes is not None and classes < outputs:
        explanation = (
            f"Fewer classes than outputs: the data have {classes}, the file has {outputs}. Which output is which class is "
        )
        explanation += "then not known, and a sample counts as broken by classes that the data do not have."
        return check("fewer-classes", True, explanation, classes=classes, outputs=outputs)
    known = "The data do not say how many classes they have." if classes is None else f"Data and file have {outputs} classes."
    return check("fewer-classes", False, known, outputs=outputs)


def no_classifier(model: Int8Model, *, at_chance: bool) -> Check:
    """Raised when the outputs look like no scores of classes (an autoencoder's, an embedding's), or like no reconstruction."""
    explained = model.reading.explained if isinstance(model.reading, Anomaly) else None
    if explained is not None and explained < 0:
        explanation = (
            f"No reconstruction: of normal inputs the outputs are farther away than their mean is ({explained:.1%} of the "
            "variance explained). The outputs are in other units than the inputs, or the data in others than the file's."
        )
        return check("no-classifier", True, explanation, explained=explained)
    values = math.prod(model.input_shape)
    if model.classes == values and values > 2:
        explanation = (
            f"No classifier: the file puts out {values} numbers for {values}, as an autoencoder does; they are no scores. "
            "Where it finds anomalies: --anomaly reconstruction, with labels 0 (normal) and 1 (anomaly)."
        )
        return check("no-classifier", True, explanation, outputs=model.classes)
    if at_chance and not model.ends_in_softmax and model.classes > 2:
        explanation = (
            f"No classifier: {model.classes} outputs without a softmax that are at chance, as those of an embedding are."
        )
        return check("no-classifier", True, explanation, outputs=model.classes)
    return check("no-classifier", False, "The outputs are scores of classes.", outputs=model.classes)
