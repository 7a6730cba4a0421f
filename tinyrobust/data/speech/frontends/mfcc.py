"""MFCC by librosa's definition, for many clips at once.

The same as, for each clip,

```python
librosa.feature.mfcc(y=audio / 32768, sr=16000, n_mfcc=coefficients, n_mels=mels, fmin=low_hz, fmax=high_hz,
                     n_fft=fft_size, win_length=window, hop_length=hop, center=False)
```

with librosa's window, filter bank and transform; only the loop over clips is gone, and what librosa computes anew for each
clip is computed once.
"""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from librosa.filters import get_window, mel
from librosa.util import pad_center
from numpy.typing import NDArray

from tinyrobust.data.speech.frontend import CTable, FrontEnd, Grid, HeaderContents, State
from tinyrobust.data.speech.stream import RowStream
from tinyrobust.data.speech.units import amplitudes
from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE, Mfcc

if TYPE_CHECKING:
    import keras

# librosa.power_to_db: powers below this count as this, -100 dB.
AMIN = 1e-10
_DB = 10 / np.log(10)
# Clips at once: the frames of more leave the processor's cache: 8 took 0.09 s a thousand clips, 64 took 0.13 s.
_CLIPS = 8
_HOW = (
    "The features of one clip, all in float:",
    "  sound = sample / 32768",
    "  for each frame f: spectrum of window[i] * sound[f * HOP + i], i < FFT_SIZE; power = re^2 + im^2, the lowest BINS bins",
    "  for each band m: sum over k < filter_length[m] of filter_weights[.. + k] * power[filter_start[m] + k]; the weights of",
    "    all bands follow each other",
    "  loudness = 10 log10(max(AMIN, band)), then raised to at least (the largest of the whole clip) - TOP_DB",
    "  coefficient c = sum over m of transform[c][m] * loudness[m]",
    "and into the network's input, row after row: "
    "floor((coefficient - low[c]) * steps[c] + 0.5), clamped to 0..255, minus 128.",
    "This is librosa.feature.mfcc with center=False.",
)


@dataclass(frozen=True, eq=False)
class Constants:
    """What every implementation shares.

    Attributes:
        window: The periodic Hann window, in the middle of a frame of `fft_size` samples.
        hop: Samples from frame to frame.
        frames: In a clip of a second.
        filters: The mel filter bank, float32 [mels, bins]: the lowest bins of the spectrum.
        transform: The cosine transform, float32 [coefficients, mels].
    """

    window: NDArray[np.float64]
    hop: int
    frames: int
    filters: NDArray[np.float32]
    transform: NDArray[np.float32]

    @classmethod
    def of(cls, settings: Mfcc) -> "Constants":
        """The window, filter bank and transform that librosa makes for these settings."""
        length, hop = settings.window_ms * SAMPLE_RATE // 1000, settings.hop_ms * SAMPLE_RATE // 1000
        size = 1 << (length - 1).bit_length()
        window = pad_center(get_window("hann", length, fftbins=True), size=size)
        filters = mel(sr=SAMPLE_RATE, n_fft=size, n_mels=settings.mels, fmin=settings.low_hz, fmax=settings.high_hz)
        transform = scipy.fft.dct(np.eye(settings.mels), axis=0, type=2, norm="ortho")[: settings.coefficients]
        # Bins that no band reaches, those above `high_hz`, are left out.
        filters = filters[:, : np.flatnonzero(filters.any(axis=0))[-1] + 1]
        frames = 1 + (CLIP_SAMPLES - size) // hop
        return cls(window, hop, frames, filters, transform.astype(np.float32))

    @property
    def fft_size(self) -> int:
        """Samples of a frame: the power of two above the window, as microcontrollers' transforms want it."""
        return len(self.window)


class MfccFrontEnd(FrontEnd):
    """Coefficient 0 is the loudness, in dB times the square root of `mels`; see `tinyrobust.data.speech.frontend.FrontEnd`.

    Args:
        settings: Windows, bands, coefficients.

    Attributes:
        constants: Window, filter bank and transform.
    """

    def __init__(self, settings: Mfcc) -> None:
        self.settings: Mfcc = settings
        self.constants = Constants.of(settings)
        self.shape = (self.constants.frames, settings.coefficients)

    def features(self, audio: NDArray[np.int16]) -> NDArray[np.float32]:
        """See `FrontEnd.features`."""
        size, hop = self.constants.fft_size, self.constants.hop
        out = np.empty((len(audio), *self.shape), np.float32)
        for start in range(0, len(audio), _CLIPS):
            sound = amplitudes(audio[start : start + _CLIPS])
            frames = np.lib.stride_tricks.sliding_window_view(sound, size, axis=1)[:, ::hop]
            out[start : start + _CLIPS] = self.coefficients(self.spectra(frames))
        return out

    def spectra(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """The power of every frame of amplitudes, [..., fft_size], in the bins that bands reach, float32 [..., bins].

        A frame's come out the same, bit for bit, whichever others there are.
        """
        # Double and single precision where librosa has them. The transform in single would be no faster here, and its rounding
        # shows in bands 80 dB below the loudest: 4e-4 of a coefficient.
        fixed = self.constants
        spectrum = scipy.fft.rfft(frames * fixed.window, axis=-1)[..., : fixed.filters.shape[1]]
        power: NDArray[np.float32] = np.abs(spectrum.astype(np.complex64)) ** 2
        return power

    def coefficients(self, power: NDArray[np.float32]) -> NDArray[np.float32]:
        """Powers of clips, [n, frames, bins], to [n, frames, coefficients]; what is quiet is raised relative to the whole clip.

        The bands of a frame can differ in the last bit with the number of frames: matrices of another size are multiplied in
        another order.
        """
        bands = power @ self.constants.filters.T
        loudness = 10 * np.log10(np.maximum(np.float32(AMIN), bands))
        loudness = np.maximum(loudness, loudness.max(axis=(1, 2), keepdims=True) - np.float32(self.settings.top_db))
        out: NDArray[np.float32] = scipy.fft.dct(loudness, axis=-1, type=2, norm="ortho")[..., : self.settings.coefficients]
        return out

    def grid(self, training: NDArray[np.float32]) -> Grid:
        """Fixed from the training clips."""
        return Grid.fitted(training)

    def layer(self, grid: Grid | None = None, *, rounded: bool = False, open_floor: bool = False) -> "keras.layers.Layer":
        """See `FrontEnd.layer`.

        With an open floor the gradient of what lies further below the loudest band than `top_db` is that of log(band + floor),
        which falls smoothly to zero. An attacker who follows it finds what would not stay below.
        """
        from tinyrobust.data.speech.layer import FeatureLayer

        return FeatureLayer(self.settings.kind, partial(self._in_ops, open_floor=open_floor), grid, rounded=rounded)

    def _in_ops(self, sound: "keras.KerasTensor", *, open_floor: bool) -> "keras.KerasTensor":
        """The features in `keras.ops`: amplitudes [n, 16000] to [n, frames, coefficients]."""
        from keras import ops

        fixed, top_db = self.constants, self.settings.top_db
        starts = fixed.hop * np.arange(fixed.frames)[:, np.newaxis]
        frames = ops.take(ops.reshape(sound, (-1, CLIP_SAMPLES)), starts + np.arange(fixed.fft_size), axis=1)
        real, imaginary = ops.rfft(frames * fixed.window.astype(np.float32))
        power = ops.square(real) + ops.square(imaginary)
        bands = ops.matmul(power[..., : fixed.filters.shape[1]], fixed.filters.T)
        loudness = _DB * ops.log(ops.maximum(bands, AMIN))
        loudest = ops.max(loudness, axis=(1, 2), keepdims=True)
        loudness = ops.maximum(loudness, loudest - top_db)
        if open_floor:
            floor = ops.max(bands, axis=(1, 2), keepdims=True) * 10 ** (-top_db / 10)
            smooth = _DB * ops.log(ops.maximum(bands + floor, AMIN))
            loudness = smooth + ops.stop_gradient(loudness - smooth)
        return ops.matmul(loudness, fixed.transform.T)

    def stream(self, hop_ms: int, state: State = "carried") -> "MfccStream":  # noqa: ARG002 - it remembers nothing
        """See `FrontEnd.stream`."""
        return MfccStream(self, hop_ms)

    def header(self, grid: Grid) -> HeaderContents:
        """See `FrontEnd.header`."""
        settings, fixed = self.settings, self.constants
        reached = [np.flatnonzero(row) for row in fixed.filters]
        # A band between two bins reaches none: it starts anywhere and has no length.
        spans = [(int(bins[0]), int(bins[-1]) + 1) if len(bins) else (0, 0) for bins in reached]
        weights = np.concatenate([row[start:end] for row, (start, end) in zip(fixed.filters, spans, strict=True)])
        constants = {
            "FFT_SIZE": fixed.fft_size,
            "WINDOW": settings.window_ms * SAMPLE_RATE // 1000,
            "HOP": fixed.hop,
            "BINS": fixed.filters.shape[1],
            "BANDS": settings.mels,
            "LOW_HZ": settings.low_hz,
            "HIGH_HZ": settings.high_hz,
            "AMIN": AMIN,
            "TOP_DB": settings.top_db,
        }
        tables = (
            CTable("float", "window", fixed.window),
            CTable("uint16_t", "filter_start", np.array([start for start, _ in spans])),
            CTable("uint16_t", "filter_length", np.array([end - start for start, end in spans])),
            CTable("float", "filter_weights", weights),
            CTable("float", "transform", fixed.transform),
            CTable("float", "low", grid.low),
            CTable("float", "steps", 255 / (grid.high - grid.low)),
        )
        return HeaderContents(_HOW, constants, tables)


class MfccStream(RowStream[np.float32]):
    """A row is the power spectrum of a frame, computed once; what follows is relative to the loudest band of a window.

    Args:
        front_end: Whose spectra and coefficients.
        hop_ms: From one window to the next.
    """

    def __init__(self, front_end: MfccFrontEnd, hop_ms: int) -> None:
        fixed = front_end.constants
        super().__init__(hop_ms, front_end.row_ms, front_end.shape, row_samples=fixed.hop, rows_in_window=fixed.frames)
        self._front_end = front_end
        self._left = np.empty(0, np.int16)

    def rows(self, chunk: NDArray[np.int16]) -> NDArray[np.float32]:
        """Power spectra, [n, bins]."""
        fixed = self._front_end.constants
        sound = np.concatenate([self._left, chunk])
        count = max(0, 1 + (len(sound) - fixed.fft_size) // fixed.hop)
        self._left = sound[count * fixed.hop :]
        if not count:
            return np.empty((0, fixed.filters.shape[1]), np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(amplitudes(sound), fixed.fft_size)[:: fixed.hop]
        return self._front_end.spectra(frames)

    def window(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coefficients, [frames, coefficients]."""
        one: NDArray[np.float32] = self._front_end.coefficients(rows[np.newaxis])[0]
        return one
