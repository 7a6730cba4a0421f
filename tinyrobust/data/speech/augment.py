"""Random changes to training clips: a pure function of (seed, the clip's name, the number of the copy).

So the copies do not depend on which other clips there are, on their order, or on the number of threads.
"""

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from librosa.effects import pitch_shift
from numpy.typing import NDArray
from scipy.fft import irfft, rfft
from scipy.signal import fftconvolve, resample_poly

from tinyrobust.data.speech.sound import one_second, to_int16
from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE
from tinyrobust.recipe.speech import Masks, SpeechAugment

# Streams of random numbers of one copy are told apart by their first number.
_SOUND, _MASKS, _RESPONSE, _ROOM, _COLOR = range(5)
# Where a response is drawn, in Hz: octaves, as ears and mel bands count; between them it is a straight line in dB over octaves.
_KNOTS = 8000.0 / 2.0 ** np.arange(7, -1, -1)
# Of colored noise: how far its spectrum is from flat, in dB, either way.
_SPREAD_DB = 20.0
# Speeds are fractions with denominators up to this: the step is finer than the ear's, and resampling stays short.
_DENOMINATOR = 50
# The middle of the 8-bit range: what a coefficient's mean over the training clips is on the grid of MFCC.
_MASKED = 128


def augmented(
    clip: NDArray[np.int16],
    name: str,
    copy: int,
    settings: SpeechAugment,
    seed: int,
    noise: Sequence[NDArray[np.int16]],
) -> NDArray[np.int16]:
    """One copy of a clip: speed, pitch, shift, gain, room, noise, response, in this order, each by its own draw.

    Args:
        clip: int16, of shape [16000].
        name: Of the clip, `<word>/<file>`.
        copy: Which copy, from 0.
        settings: The ranges.
        seed: The recipe's.
        noise: Recordings of a second or more to mix in; where there are none, none is.

    Returns:
        int16, of shape [16000].
    """
    random = _random(_SOUND, name, copy, seed)
    # All draws are made whatever the settings: switching one change on leaves the others as they were.
    speed, semitones = random.uniform(*settings.speed), random.uniform(*settings.pitch)
    shift = int(random.integers(-settings.shift_ms, settings.shift_ms + 1)) * SAMPLE_RATE // 1000
    gain_db, noisy, snr_db = (
        random.uniform(*settings.gain_db),
        random.random() < settings.noise,
        random.uniform(*settings.snr_db),
    )
    sound = clip.astype(np.float64) / 32768
    if speed != 1:
        sound = _played(sound, speed)
    if semitones:
        sound = pitch_shift(sound, sr=SAMPLE_RATE, n_steps=semitones)
    sound = _shifted(sound, shift) * 10 ** (gain_db / 20)
    if settings.room and (room := _random(_ROOM, name, copy, seed)).random() < settings.room:
        sound = reverberated(sound, room.uniform(*settings.room_ms), room.uniform(*settings.room_db), room)
    if noisy and settings.colored and (color := _random(_COLOR, name, copy, seed)).random() < settings.colored:
        hiss = through_microphone(color.standard_normal(CLIP_SAMPLES), color.uniform(-_SPREAD_DB, _SPREAD_DB, len(_KNOTS)))
        sound = mixed(sound, hiss, snr_db)
    elif noisy and noise:
        recording = noise[int(random.integers(len(noise)))]
        start = int(random.integers(len(recording) - CLIP_SAMPLES + 1))
        sound = mixed(sound, recording[start : start + CLIP_SAMPLES] / 32768, snr_db)
    if settings.response_db:
        drawn = _random(_RESPONSE, name, copy, seed).uniform(-settings.response_db, settings.response_db, len(_KNOTS))
        sound = through_microphone(sound, drawn)
    return one_second(to_int16(sound))


def reverberated(
    sound: NDArray[np.float64], decay_ms: float, direct_db: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """`sound` in a room: what it reflects is noise that decays exponentially (Polack's model of a room's impulse response).

    Args:
        sound: Of shape [16000].
        decay_ms: Until the reflections are softer by 60 dB.
        direct_db: Power of the direct sound over that of all reflections.
        random: Draws the reflections.
    """
    count = max(1, round(decay_ms * SAMPLE_RATE / 1000))
    reflections = random.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    reflections *= 10 ** (-direct_db / 20) / math.sqrt(np.sum(reflections**2))
    changed: NDArray[np.float64] = sound + fftconvolve(sound, reflections)[: len(sound)]
    return changed


def through_microphone(sound: NDArray[np.float64], response_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """`sound` through a microphone of another frequency response, without delay.

    Args:
        sound: Of shape [16000].
        response_db: At 62.5, 125, 250, ... 8000 Hz; a straight line between two of them, constant below the first.
    """
    frequencies = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    db = np.interp(np.log2(np.maximum(frequencies, _KNOTS[0])), np.log2(_KNOTS), response_db)
    changed: NDArray[np.float64] = irfft(rfft(sound) * 10 ** (db / 20), len(sound))
    return changed


def mixed(sound: NDArray[np.float64], noise: NDArray[np.float64], snr_db: float) -> NDArray[np.float64]:
    """`sound` plus `noise`, scaled so that the ratio of their powers over the whole clip is `snr_db`; as it is if one is 0."""
    signal_power, noise_power = float(np.mean(sound**2)), float(np.mean(noise**2))
    if signal_power == 0 or noise_power == 0:
        return sound
    return sound + noise * (math.sqrt(signal_power / noise_power) * 10 ** (-snr_db / 20))


def masked(x: NDArray[np.uint8], name: str, copy: int, masks: Masks, seed: int) -> NDArray[np.uint8]:
    """The features of one copy with blocks of frames and of channels set to the middle of their range.

    Widths are drawn from 0 to the largest, places uniformly (Park et al. 2019, section 2).

    Args:
        x: uint8, of shape [frames, channels, 1].
        name: Of the clip.
        copy: Which copy, from 0.
        masks: How many blocks, and how wide.
        seed: The recipe's.
    """
    random = _random(_MASKS, name, copy, seed)
    x = x.copy()
    for axis, count, widest in ((0, masks.time, masks.time_width), (1, masks.channels, masks.channels_width)):
        for _ in range(count):
            width = int(random.integers(0, min(widest, x.shape[axis]) + 1))
            start = int(random.integers(0, x.shape[axis] - width + 1))
            np.moveaxis(x, axis, 0)[start : start + width] = _MASKED
    return x


def _random(stream: int, name: str, copy: int, seed: int) -> np.random.Generator:
    words = np.frombuffer(hashlib.sha256(name.encode()).digest()[:16], np.uint32)
    return np.random.default_rng([stream, seed, copy, *words.tolist()])


def _played(sound: NDArray[np.float64], speed: float) -> NDArray[np.float64]:
    """Played `speed` times as fast; what gets longer loses both ends, what gets shorter has silence at both."""
    ratio = Fraction(speed).limit_denominator(_DENOMINATOR)
    changed: NDArray[np.float64] = resample_poly(sound, ratio.denominator, ratio.numerator)
    if len(changed) >= len(sound):
        start = (len(changed) - len(sound)) // 2
        return changed[start : start + len(sound)]
    before = (len(sound) - len(changed)) // 2
    return np.pad(changed, (before, len(sound) - len(changed) - before))


def _shifted(sound: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    """Moved by so many samples, later where positive; zeros come in."""
    out = np.zeros_like(sound)
    if by >= 0:
        out[by:] = sound[: len(sound) - by]
    else:
        out[:by] = sound[-by:]
    return out
