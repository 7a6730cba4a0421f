"""A sound file to 16 kHz, one channel, 16 bits: what every front end is given, on the computer as on the chip."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE

# Samples: loudness is compared over 200 ms either side of a cut, and a cut is faded over 10 ms.
_AROUND, _FADE = SAMPLE_RATE // 5, SAMPLE_RATE // 100


def read_sound(path: Path, seconds: float | None = None) -> NDArray[np.int16]:
    """The samples of a file, resampled to 16 kHz where it has another rate; channels are averaged.

    A 16-bit, 16 kHz file of one channel comes out exactly as it is stored.

    Args:
        path: Any format that libsndfile reads: .wav, .flac and more.
        seconds: Read no more than these from the beginning.

    Returns:
        int16, of shape [samples].

    Raises:
        ValueError: The file cannot be read, is cut short, empty, or holds values that are not finite; the message says which.
    """
    try:
        with soundfile.SoundFile(path) as file:
            rate, frames = file.samplerate, file.frames
            wanted = frames if seconds is None else min(frames, math.ceil(seconds * rate))
            sound: NDArray[np.float32] = file.read(wanted, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(_reason(path, error)) from error
    if wanted == 0:
        raise ValueError("it has no samples")
    if len(sound) < wanted:
        raise ValueError(f"it is cut short: {len(sound):,} of {wanted:,} samples can be read")
    if not np.isfinite(sound).all():
        raise ValueError("it has samples that are not finite")
    mono = sound.mean(axis=1, dtype=np.float64)
    if rate != SAMPLE_RATE:
        shared = math.gcd(rate, SAMPLE_RATE)
        mono = resample_poly(mono, SAMPLE_RATE // shared, rate // shared)
    return to_int16(mono)


def sound_blocks(path: Path, seconds: int = 10) -> Iterator[NDArray[np.int16]]:
    """The samples of `read_sound`, a block of so many seconds after the other: a file may last for hours.

    Only a file of 16 kHz is read in blocks; one of another rate is resampled whole.

    Raises:
        ValueError: As `read_sound`; what was read before has been given by then.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.samplerate == SAMPLE_RATE and file.frames:
                count = 0
                for block in file.blocks(seconds * SAMPLE_RATE, dtype="float32", always_2d=True):
                    if not np.isfinite(block).all():
                        raise ValueError("it has samples that are not finite")
                    count += len(block)
                    yield to_int16(block.mean(axis=1, dtype=np.float64))
                if count < file.frames:
                    raise ValueError(f"it is cut short: {count:,} of {file.frames:,} samples can be read")
                return
    except (soundfile.SoundFileError, OSError) as error:
        raise ValueError(_reason(path, error)) from error
    yield read_sound(path)


def to_int16(sound: NDArray[np.floating]) -> NDArray[np.int16]:
    """Amplitudes in [-1, 1) as 16-bit samples: x * 32768, rounded and clipped."""
    samples: NDArray[np.int16] = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)
    return samples


def one_second(sound: NDArray[np.int16]) -> NDArray[np.int16]:
    """The first second; a shorter sound is followed by zeros, as in TensorFlow's speech_commands example."""
    clip = np.zeros(CLIP_SAMPLES, np.int16)
    clip[: len(sound)] = sound[:CLIP_SAMPLES]
    return clip


def joined(first: NDArray[np.int16], second: NDArray[np.int16]) -> NDArray[np.int16]:
    """The first half of one clip, then the second half of another: a word that no one says, in sounds of speech.

    Halves are of energy, so that the cut lies within both words. The second is brought to the loudness of the first around
    the cut (by up to 20 dB), and faded in over the last 10 ms before it.

    Args:
        first: int16, of shape [16000].
        second: Likewise.

    Returns:
        int16, of shape [16000]; zeros follow where the second half is over.
    """
    before, after = _middle(first), _middle(second)
    tail, head = second[after:].astype(np.float64), first[:before].astype(np.float64)
    loudness = [math.sqrt(np.mean(part**2) + 1) if len(part) else 1.0 for part in (head[-_AROUND:], tail[:_AROUND])]
    gain = min(10.0, max(0.1, loudness[0] / loudness[1]))
    fade = min(_FADE, before, after)
    rising = np.linspace(0, 1, fade)
    head[before - fade :] = head[before - fade :] * (1 - rising) + second[after - fade : after] * gain * rising
    samples = np.concatenate([head, tail * gain])
    return one_second(np.clip(np.rint(samples), -32768, 32767).astype(np.int16))


def _middle(sound: NDArray[np.int16]) -> int:
    """The first sample that half of the energy does not come after."""
    energy = np.cumsum(sound.astype(np.float64) ** 2)
    return int(np.searchsorted(energy, energy[-1] / 2))


def _reason(path: Path, error: Exception) -> str:
    if not path.is_file():
        return "there is no such file"
    if path.stat().st_size == 0:
        return "it is empty"
    return f"it is no sound file that can be read ({str(error).rpartition(': ')[2].strip() or type(error).__name__})"
