"""What attacks without gradients share: a target's scores, and the best examples so far."""

from dataclasses import dataclass

import numpy as np

from tinyrobust.attacks.target import BoolArray, FloatArray, IntArray, Target


def margin(scores: FloatArray, label: IntArray) -> FloatArray:
    """The label's score minus the highest other one, [n] of [n, classes]: not above 0 when the sample is misclassified."""
    rows = np.arange(len(label))
    others = scores.copy()
    others[rows, label] = -np.inf
    with np.errstate(invalid="ignore"):
        return np.asarray(scores[rows, label] - others.max(axis=1), dtype=np.float32)


@dataclass(frozen=True)
class Lowest:
    """The best example of every sample so far: one that is broken, else the one of lowest margin.

    Attributes:
        example: [n, ...].
        margin: [n]; turned around in targeted attacks, so that lower is always better.
        broken: [n].
    """

    example: FloatArray
    margin: FloatArray
    broken: BoolArray

    @classmethod
    def none(cls, x: FloatArray) -> "Lowest":
        """Nothing is known: the samples as they are, to be replaced by anything."""
        return cls(x.copy(), np.full(len(x), np.inf, np.float32), np.zeros(len(x), np.bool_))

    @classmethod
    def judged(cls, estimator: Target, x: FloatArray, label: IntArray, *, targeted: bool) -> "Lowest":
        """What the target says to x [n, ...], with the classes [n] to leave (or with `targeted` to reach)."""
        scores = estimator.predict(x)
        height, named = margin(scores, label), np.argmax(scores, axis=1) == label
        # Infinite scores may have no difference: nothing is worse.
        low = np.where(np.isnan(height), np.float32(np.inf), -height if targeted else height)
        return cls(x, low, named if targeted else ~named)

    def standing(self, drop: bool) -> IntArray:
        """The samples that an attack goes on with: with `drop`, those that are not broken."""
        return np.flatnonzero(~self.broken) if drop else np.arange(len(self.broken))

    def improve(self, rows: IntArray, tried: "Lowest", *, ties: bool = False) -> None:
        """Takes over what is better in `tried`, which belongs to samples `rows`; with `ties` also what is as good."""
        lower = tried.margin <= self.margin[rows] if ties else tried.margin < self.margin[rows]
        better = (tried.broken & ~self.broken[rows]) | ((tried.broken == self.broken[rows]) & lower)
        kept = rows[better]
        self.example[kept] = tried.example[better]
        self.margin[kept] = tried.margin[better]
        self.broken[kept] = tried.broken[better]
