"""From the scores of one window after another to words that are reported, once each.

Chen, Parada, Heigold, "Small-footprint keyword spotting using deep neural networks", ICASSP 2014, section 2.3, for phrases of
one word: posteriors are averaged over the last `w_smooth` of them, fewer at the beginning (eq. 1); the confidence of a phrase
is the geometric mean over its words (eq. 2), for one word the smoothed posterior itself. What is held back after a detection is
as in TensorFlow's RecognizeCommands (speech_commands example): nothing for a while, and never the same word twice without
its score falling in between.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyrobust.errors import ModelFileError
from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE
from tinyrobust.recipe.listening import Listening
from tinyrobust.recipe.speech import SILENCE, UNKNOWN

_WINDOW_SECONDS = CLIP_SAMPLES / SAMPLE_RATE


@dataclass(frozen=True)
class Detection:
    """A word that was reported.

    Attributes:
        word: Which.
        seconds: When it is reported: the end of the window that decides, from the beginning of the stream. The word lies in
            the second before, or in the smoothing time before that.
        score: The smoothed posterior, 0 to 1.
    """

    word: str
    seconds: float
    score: float


def posteriors(outputs: NDArray[np.float32], ends_in_softmax: bool) -> NDArray[np.float64]:
    """A file's outputs, [n, classes], as probabilities: the softmax of logits, or what a file that ends in one gives."""
    values = outputs.astype(np.float64)
    if ends_in_softmax:
        return values
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


class Smoother:
    """The running mean of posteriors.

    Args:
        settings: Its time and the hop.
    """

    def __init__(self, settings: Listening) -> None:
        self._last: deque[NDArray[np.float64]] = deque(maxlen=max(1, round(settings.smoothing_ms / settings.hop_ms)))

    def feed(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The next posteriors, [n, classes], to smoothed ones of the same shape."""
        smoothed = np.empty_like(rows)
        for index, row in enumerate(rows):
            self._last.append(row)
            smoothed[index] = np.mean(self._last, axis=0)
        return smoothed


class Trigger:
    """Decides when a word is reported.

    The class with the highest score must be a keyword's and reach the threshold; the refractory time since the last detection
    must be over; and if the last detection was of the same word, its score must have been below the threshold in between.

    Args:
        classes: The classes of the file; `unknown` and `silence` are never reported.
        settings: Hop and refractory time.
        threshold: 0 to 1.

    Raises:
        ModelFileError: No class is a keyword.
    """

    def __init__(self, classes: Sequence[str], settings: Listening, threshold: float) -> None:
        self._keywords = {index: word for index, word in enumerate(classes) if word not in (UNKNOWN, SILENCE)}
        if not self._keywords:
            raise ModelFileError(f"Expected a class that is a keyword. Received: {', '.join(classes)}")
        self._threshold = threshold
        self._hop_ms, self._refractory_ms = settings.hop_ms, settings.refractory_ms
        self._window = 0
        self._quiet_until_ms = 0
        self._held: int | None = None

    def feed(self, smoothed: NDArray[np.float64]) -> list[Detection]:
        """The next smoothed posteriors, [n, classes], to what is reported."""
        detections = []
        for row, best in zip(smoothed, smoothed.argmax(axis=1).tolist(), strict=True):
            now_ms = self._window * self._hop_ms
            self._window += 1
            if self._held is not None and row[self._held] < self._threshold:
                self._held = None
            if best not in self._keywords or row[best] < self._threshold or best == self._held:
                continue
            if now_ms < self._quiet_until_ms:
                continue
            self._held, self._quiet_until_ms = best, now_ms + self._refractory_ms
            detections.append(Detection(self._keywords[best], round(_WINDOW_SECONDS + now_ms / 1000, 3), float(row[best])))
        return detections
