"""The confusion matrix of the flashed file, for the page and the model card."""

from collections.abc import Callable
from dataclasses import dataclass

from tinyrobust.robustness.robustness_record import Proportion, RobustnessRecord
from tinyrobust.robustness.statistics import wilson

_WORST = 5  # pairs of classes that are named in words


@dataclass(frozen=True)
class ConfusionRow:
    """The test samples of one class: how many were named as each class, and the share that was named rightly."""

    name: str
    counts: list[int]
    right: Proportion


@dataclass(frozen=True)
class Mistake:
    """`count` of the `n` samples of the class `true` were named `named`."""

    true: str
    named: str
    count: int
    n: int


def confusion_rows(record: RobustnessRecord, class_name: Callable[[int], str]) -> list[ConfusionRow]:
    """A row for every class that has test samples; none where the record is from before they were counted."""
    return [
        ConfusionRow(class_name(label), counts, wilson(counts[label], sum(counts)))
        for label, counts in enumerate(record.confusion or [])
        if any(counts)
    ]


def mistakes(record: RobustnessRecord, class_name: Callable[[int], str]) -> list[Mistake]:
    """The most frequent mistakes, the most frequent first."""
    found = [
        Mistake(class_name(true), class_name(named), count, sum(counts))
        for true, counts in enumerate(record.confusion or [])
        for named, count in enumerate(counts)
        if true != named and count
    ]
    return sorted(found, key=lambda mistake: -mistake.count)[:_WORST]
