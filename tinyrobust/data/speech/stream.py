"""Streams of sound through a front end: what is done once for a row is kept, what depends on the window is done for each."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinyrobust.errors import RecipeError
from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE

_LONGEST_HOP = 1000  # windows touch each other then

Row = TypeVar("Row", bound=np.generic)


class RowStream(ABC, Generic[Row]):
    """A `tinyrobust.data.speech.frontend.Stream` that keeps rows: subclasses say how they come about, and what becomes of them.

    Args:
        hop_ms: From one window to the next.
        step_ms: What the hop must be a multiple of.
        shape: Rows and coefficients of a window's features.
        row_samples: From a row that is kept to the next.
        rows_in_window: Rows of a second.

    Raises:
        RecipeError: The hop does not fit the front end.
    """

    def __init__(self, hop_ms: int, step_ms: int, shape: tuple[int, int], row_samples: int, rows_in_window: int) -> None:
        if not 0 < hop_ms <= _LONGEST_HOP or hop_ms % step_ms:
            raise RecipeError(
                f"Expected a hop of {step_ms} ms or a multiple of it, at most {_LONGEST_HOP} ms. Received: {hop_ms}"
            )
        self._shape = shape
        self._hop = hop_ms * SAMPLE_RATE // 1000
        self._row_samples, self._rows_in_window = row_samples, rows_in_window
        self._samples = self._windows = 0
        self._kept: NDArray[Row] | None = None

    @abstractmethod
    def rows(self, chunk: NDArray[np.int16]) -> NDArray[Row]:
        """The rows that the next samples complete, [n, ...]."""

    @abstractmethod
    def window(self, rows: NDArray[Row]) -> NDArray[np.float32]:
        """The rows of a window to its features, [rows, coefficients]."""

    def feed(self, chunk: NDArray[np.int16]) -> NDArray[np.float32]:
        """See `tinyrobust.data.speech.frontend.Stream.feed`."""
        new, hop = self.rows(chunk), self._hop // self._row_samples
        kept = new if self._kept is None else np.concatenate([self._kept, new])
        self._samples += len(chunk)
        complete = max(0, 1 + (self._samples - CLIP_SAMPLES) // self._hop) - self._windows
        features = np.empty((complete, *self._shape), np.float32)
        for index in range(complete):
            features[index] = self.window(kept[index * hop : index * hop + self._rows_in_window])
        self._kept = kept[complete * hop :]
        self._windows += complete
        return features
