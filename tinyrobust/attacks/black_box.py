"""What Boundary, HopSkipJump and ZOO share: they look for the nearest example and ask for answers only.

All samples of a batch are searched side by side, so that one question to the target holds the tries of all of them; every
sample draws from a generator of its own, and does what it would do alone.
"""

import abc
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks.base import BatchedAttack, SpecT
from tinyrobust.attacks.bisection import bisect
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.target import BoolArray, FloatArray, IntArray

_Value = TypeVar("_Value", bound=np.generic)

# The most tries that are laid out at once: what bounds the memory.
_MOST = 4096
# Starts are drawn in rounds of so many, until one is adversarial.
_ROUND = 100
# Random starts that are drawn to the boundary, the nearest ones: which of them ends nearest is not known before.
_DRAWN = 10


class BlackBoxAttack(BatchedAttack[SpecT]):
    """A search for the nearest adversarial example of every sample without gradients, however far.

    Subclasses write `_search`. Arguments are those of `BatchedAttack`; `epsilon` plays no part.

    Raises:
        RecipeError: As `BatchedAttack`.
    """

    @abc.abstractmethod
    def _search(self, x: FloatArray, y: IntArray, generators: list[np.random.Generator]) -> FloatArray:
        """The nearest examples found, [n, ...]; anything where there is none."""

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        examples = np.clip(self._search(x, y, self._generators(x, 0)), *self._bounds)
        broken = self._broken(examples, y)
        rows = np.flatnonzero(broken)
        if len(rows):
            examples[rows] = bisect(x[rows], examples[rows], lambda tried: self._broken(tried, y[rows]))
        return np.where(like(broken, x), examples, x)

    def _broken(self, x: FloatArray, y: IntArray) -> BoolArray:
        return np.asarray(np.argmax(self.estimator.predict(x), axis=1) != y)

    def _any_broken(self, tried: FloatArray, y: IntArray) -> BoolArray:
        """Which of several tries a sample are broken: [n, tries] of [n, tries, ...], in one question."""
        flat = tried.reshape(-1, *tried.shape[2:])
        return self._broken(flat, np.repeat(y, tried.shape[1])).reshape(tried.shape[:2])

    def _starts(
        self, x: FloatArray, y: IntArray, generators: list[np.random.Generator], draws: int
    ) -> tuple[FloatArray, BoolArray]:
        """Where walks start: images blended with noise and drawn to the boundary, the nearest of a round of draws.

        Returns:
            Examples [n, ...], and for which samples there is one [n].
        """
        starts, known = x.copy(), np.zeros(len(x), np.bool_)
        for first in range(0, draws, _ROUND):
            count = min(_ROUND, draws - first)
            for rows in blocks(np.flatnonzero(~known), count):
                starts[rows], known[rows] = self._start(x[rows], y[rows], [generators[row] for row in rows], count)
        return starts, known

    def _start(
        self, x: FloatArray, y: IntArray, generators: list[np.random.Generator], draws: int
    ) -> tuple[FloatArray, BoolArray]:
        low, high = (np.float32(bound) for bound in self._bounds)
        noise = np.stack([generator.random((draws, *x.shape[1:]), np.float32) for generator in generators])
        shares = np.arange(1, draws + 1, dtype=np.float32) / np.float32(draws)
        blended = x[:, np.newaxis] + like(shares, x) * (low + noise * (high - low) - x[:, np.newaxis])
        broken = self._any_broken(blended, y)
        # Its share of noise says how far a blend is.
        rank = np.cumsum(broken, axis=1)
        owner, place = np.nonzero(broken & (rank <= _DRAWN))
        known = np.asarray(broken.any(axis=1))
        starts = x.copy()
        if len(owner):
            closer = bisect(x[owner], blended[owner, place], lambda tried: self._broken(tried, y[owner]))
            far = distance(closer - x[owner], self.norm)
            # The nearest one of each sample is written last.
            order = np.argsort(-far, kind="stable")
            starts[owner[order]] = closer[order]
        return starts, known


def blocks(rows: IntArray, tries: int) -> Iterator[IntArray]:
    """`rows` in parts, each with as many as can lay out so many tries at once."""
    size = max(1, _MOST // tries)
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def like(values: npt.NDArray[_Value], x: FloatArray) -> npt.NDArray[_Value]:
    """Values [n] in a shape that meets samples [n, ...]."""
    return values.reshape(-1, *[1] * (x.ndim - 1))
