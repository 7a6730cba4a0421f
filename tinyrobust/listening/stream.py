"""A stream of sound, in chunks of any size, to the features of one window of a second after another.

The results do not depend on how the sound is cut into chunks. The features of the first second are those of a clip of a second,
bit for bit. Afterwards a window can differ from a clip, where a front end remembers:

- `mfcc` remembers nothing. The spectrum of a frame is computed once and kept; what follows is relative to the loudest band of a
  window, so it is computed for each.
- `micro` keeps a running estimate of the noise. As on a microcontroller it runs on ("carried"), or every window is heard by a
  front end that has just been switched on ("reset"), which is as much work again for every window.
"""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pymicro_features import MicroFrontend

from tinyrobust.data.speech.frontend import shape
from tinyrobust.data.speech.mfcc import amplitudes, coefficients, constants, spectra
from tinyrobust.data.speech.micro import CHANNELS, STEP, micro, row
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE, Mfcc, Micro, frame_ms

_LONGEST_HOP = 1000  # windows touch each other then


class _FrontEnd(Protocol):
    """What of a front end is done once for a row of the stream, and what once for a window of rows.

    Attributes:
        row_samples: From row to row.
        rows_in_window: Rows of a second.
    """

    row_samples: int
    rows_in_window: int

    def rows(self, chunk: NDArray[np.int16]) -> NDArray[Any]:
        """The rows that the next samples complete, [n, ...]."""

    def window(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """The rows of a window to features, [frames, coefficients]."""


class Stream:
    """Cuts a stream into windows of a second, one a hop, and hears each as the network expects it.

    Window i covers the samples from `i * hop` on, and is given as soon as all 16,000 of them are there.

    Args:
        settings: The front end's.
        hop_ms: From one window to the next, a multiple of the front end's step, at most a second.
        state: For `micro`, what the front end remembers; see above.

    Attributes:
        windows: How many have been given.

    Raises:
        RecipeError: The hop does not fit the front end.
    """

    def __init__(self, settings: Mfcc | Micro, hop_ms: int, state: Literal["carried", "reset"] = "carried") -> None:
        step = frame_ms(settings)
        if not 0 < hop_ms <= _LONGEST_HOP or hop_ms % step:
            raise RecipeError(f"Expected a hop of {step} ms or a multiple of it, at most {_LONGEST_HOP} ms. Received: {hop_ms}")
        self.windows = 0
        self._shape = shape(settings)
        self._front_end = _front_end(settings, state)
        self._hop = hop_ms * SAMPLE_RATE // 1000
        self._samples = 0
        self._rows = self._front_end.rows(np.empty(0, np.int16))

    def feed(self, chunk: NDArray[np.int16]) -> NDArray[np.float32]:
        """Takes the next samples, int16 [n] at 16 kHz.

        Returns:
            The features of every window that they complete, [windows, frames, coefficients], in the front end's own units.
        """
        front_end, hop = self._front_end, self._hop // self._front_end.row_samples
        self._rows = np.concatenate([self._rows, front_end.rows(chunk)])
        self._samples += len(chunk)
        complete = max(0, 1 + (self._samples - CLIP_SAMPLES) // self._hop) - self.windows
        features = np.empty((complete, *self._shape), np.float32)
        for index in range(complete):
            features[index] = front_end.window(self._rows[index * hop : index * hop + front_end.rows_in_window])
        self._rows = self._rows[complete * hop :]
        self.windows += complete
        return features


def _front_end(settings: Mfcc | Micro, state: Literal["carried", "reset"]) -> _FrontEnd:
    if isinstance(settings, Mfcc):
        return _MfccRows(settings)
    return _MicroRows(settings) if state == "carried" else _MicroReset(settings)


class _MfccRows:
    """A row is the power spectrum of a frame."""

    def __init__(self, settings: Mfcc) -> None:
        self._settings, self._fixed = settings, constants(settings)
        self.row_samples, self.rows_in_window = self._fixed.hop, self._fixed.frames
        self._left = np.empty(0, np.int16)

    def rows(self, chunk: NDArray[np.int16]) -> NDArray[np.float32]:
        size, hop = self._fixed.fft_size, self._fixed.hop
        sound = np.concatenate([self._left, chunk])
        count = max(0, 1 + (len(sound) - size) // hop)
        self._left = sound[count * hop :]
        if not count:
            return np.empty((0, self._fixed.filters.shape[1]), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(amplitudes(sound), size)[::hop]
        return spectra(frames, self._fixed)

    def window(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        one: NDArray[np.float32] = coefficients(rows[np.newaxis], self._settings, self._fixed)[0]
        return one


class _MicroRows:
    """A row is what the C code gives for a step, of which it is given one after the other."""

    def __init__(self, settings: Micro) -> None:
        self.row_samples, self.rows_in_window = STEP * settings.stride, shape(settings)[0]
        self._stride, self._given = settings.stride, 0
        self._front_end = MicroFrontend()
        self._left = np.empty(0, np.int16)

    def rows(self, chunk: NDArray[np.int16]) -> NDArray[np.float32]:
        sound = np.concatenate([self._left, chunk])
        steps = len(sound) // STEP
        self._left = sound[steps * STEP :]
        made = (row(self._front_end, sound[at : at + STEP]) for at in range(0, steps * STEP, STEP))
        found = [values for values in made if values is not None]
        kept = found[-self._given % self._stride :: self._stride]
        self._given += len(found)
        return np.array(kept, np.float32).reshape(-1, CHANNELS)

    def window(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows


class _MicroReset:
    """A row is a sample: every window begins anew."""

    row_samples, rows_in_window = 1, CLIP_SAMPLES

    def __init__(self, settings: Micro) -> None:
        self._settings = settings

    def rows(self, chunk: NDArray[np.int16]) -> NDArray[np.int16]:
        return chunk

    def window(self, rows: NDArray[np.int16]) -> NDArray[np.float32]:
        one: NDArray[np.float32] = micro(rows[np.newaxis], self._settings)[0]
        return one
