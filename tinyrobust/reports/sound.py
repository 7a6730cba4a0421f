"""Sound on a page: a clip as a WAV that a browser plays, and its spectrogram as a small picture."""

import base64
import io
import wave
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt

from tinyrobust.recipe.frontend import SAMPLE_RATE
from tinyrobust.reports.examples import png_uri

_WINDOW, _HOP = 512, 160  # 32 ms every 10 ms: harmonics and the edges of syllables are both seen
_BANDS = 96  # rows of a picture, from 0 to 8 kHz
_RANGE_DB = 80.0  # what lies further below the loudest of the original is drawn as silence
_COLORS = 64  # of the picture's palette: more would double its size and show nothing else


def wav_uri(samples: npt.NDArray[np.int16]) -> str:
    """A clip, int16 [n] at 16 kHz, as the data URI of a WAV: exactly these samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode()


def level(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    """Power over time and frequency in dB of full scale, [bands, frames], the lowest frequency first."""
    sound = samples.astype(np.float64) / 32768
    frames = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[::_HOP]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)))[:, : _WINDOW // 2]
    # Neighbours are added up to the rows of the picture.
    edges = np.linspace(0, _WINDOW // 2, _BANDS + 1).astype(int)[:-1]
    found: npt.NDArray[np.float64] = 10 * np.log10(np.add.reduceat(power, edges, axis=1).T + 1e-12)
    return found


def spectrogram_uri(levels: npt.NDArray[np.float64], loudest: float) -> str:
    """Levels in dB, [bands, frames], as the data URI of a picture: the brightest color is `loudest`, high tones on top."""
    steps = np.clip((levels - loudest) / _RANGE_DB + 1, 0, 1)[::-1]
    pixels = np.round(steps * (_COLORS - 1)).astype(np.uint8)
    palette = np.round(matplotlib.colormaps["magma"](np.linspace(0, 1, _COLORS))[:, :3] * 255).astype(np.uint8)
    return png_uri(pixels, palette)


def signal_to_noise(clean: npt.NDArray[Any], changed: npt.NDArray[Any]) -> float:
    """How far the change lies below the clip, in dB; infinite where nothing changed."""
    signal, noise = (float(np.square(part.astype(np.float64)).sum()) for part in (clean, changed.astype(np.float64) - clean))
    return float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-12) / noise))
