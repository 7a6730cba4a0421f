"""From sound to the 8-bit grid that enters a network, whichever front end a recipe chooses."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.speech import micro as tflm
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.data.speech.mfcc import constants, mfcc
from tinyrobust.data.speech.micro import micro
from tinyrobust.recipe.frontend import Mfcc, Micro

# A coefficient's range is its mean and this many standard deviations either side, over the training clips. Coefficients are
# about normally distributed, where 4 leave out 0.006 %; wider ranges would spend the 8 bits on outliers.
_DEVIATIONS = 4.0
# So far apart at least, in the front end's own units: a coefficient that never changes has no range of its own.
_NARROWEST = 1e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """The range of every coefficient that uint8 0..255 stands for.

    Attributes:
        low: What 0 stands for, float64 [coefficients], in the front end's own units.
        high: What 255 stands for.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, record: FrontendRecord) -> "Grid":
        """The grid of a front end that was used."""
        return cls(np.array(record.low), np.array(record.high))

    def quantized(self, features: NDArray[np.float32]) -> NDArray[np.uint8]:
        """[n, frames, coefficients] -> uint8 [n, frames, coefficients, 1]: 255 (f - low) / (high - low), rounded, clipped."""
        steps = np.floor(255 * (features - self.low) / (self.high - self.low) + 0.5)
        return np.clip(steps, 0, 255).astype(np.uint8)[..., np.newaxis]

    def clipped(self, features: NDArray[np.float32]) -> float:
        """The share of values that lie outside."""
        return float(((features < self.low) | (features > self.high)).mean())


def shape(settings: Mfcc | Micro) -> tuple[int, int]:
    """Frames and coefficients of a clip of a second."""
    if isinstance(settings, Micro):
        return tflm.frames(settings), tflm.CHANNELS
    return constants(settings).frames, settings.coefficients


def features(audio: NDArray[np.int16], settings: Mfcc | Micro) -> NDArray[np.float32]:
    """Clips, int16 [n, 16000], to features in the front end's own units, float32 [n, frames, coefficients]."""
    return micro(audio, settings) if isinstance(settings, Micro) else mfcc(audio, settings)


def fitted_grid(training: NDArray[np.float32], settings: Mfcc | Micro) -> Grid:
    """The grid of a front end: micro's is TensorFlow Lite Micro's own, that of MFCC is fixed from the training clips.

    Args:
        training: Features of the training clips as they are, without augmentation, [n, frames, coefficients].
        settings: The front end's.
    """
    if isinstance(settings, Micro):
        return Grid(np.full(tflm.CHANNELS, tflm.LOW), np.full(tflm.CHANNELS, tflm.HIGH))
    mean = training.mean(axis=(0, 1), dtype=np.float64)
    width = np.maximum(_DEVIATIONS * training.std(axis=(0, 1), dtype=np.float64), _NARROWEST)
    return Grid(mean - width, mean + width)
