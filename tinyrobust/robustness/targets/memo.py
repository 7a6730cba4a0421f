"""Answers that are remembered: black-box attacks ask about the same images again and again."""

from collections.abc import Callable, Iterable

import numpy as np

from tinyrobust.attacks.target import FloatArray
from tinyrobust.robustness.distance import Array

_MEMORY = 64 * 2**20  # bytes of inputs that a memo keeps


class Memo:
    """Remembers what a deterministic function of rows said, and asks it only about rows it has not seen.

    ART's Square asks three times for the scores of the same images in every iteration; this changes no result.

    Args:
        function: From rows [n, ...] to scores [n, classes]; a row's scores depend on that row only.
    """

    def __init__(self, function: Callable[[Array], FloatArray]) -> None:
        self._function = function
        self._places: dict[bytes, int] = {}  # of known rows in the scores
        self._scores: FloatArray = np.zeros((0, 0), np.float32)  # with room for more

    def __call__(self, rows: Array) -> FloatArray:
        """The scores [n, classes] of `rows` [n, ...]."""
        if not len(rows):
            return self._function(rows)
        if len(self._places) * rows[:1].nbytes > _MEMORY:
            self.forget()
        keys = _keys(rows)
        new = {key: index for index, key in enumerate(keys) if key not in self._places}
        if len(new) == len(rows):  # the usual case
            scores = self._function(rows)
            self._keep(new, scores)
            return scores
        if new:
            self._keep(new, self._function(rows[list(new.values())]))
        return self._scores[[self._places[key] for key in keys]]

    def forget(self) -> None:
        """Empties it."""
        self._places.clear()

    def _keep(self, keys: Iterable[bytes], scores: FloatArray) -> None:
        start, stop = len(self._places), len(self._places) + len(scores)
        if stop > len(self._scores):
            grown = np.empty((max(stop, 2 * len(self._scores)), *scores.shape[1:]), scores.dtype)
            grown[:start] = self._scores[:start] if start else 0
            self._scores = grown
        self._scores[start:stop] = scores
        self._places.update(zip(keys, range(start, stop), strict=True))


def _keys(rows: Array) -> list[bytes]:
    """The bytes of every row, in one call: a loop over rows costs as much as a small network."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    keys: list[bytes] = flat.view(np.dtype((np.void, flat.itemsize * flat.shape[1])))[:, 0].tolist()
    return keys
