"""Streams to measure a detector with, made of clips and noise that nothing was learned from.

Words are set into noise, one every two seconds: an hour of such a stream is one of slow talk without a pause, 1,800 words. The
noise is from the part's own region of the background recordings, as loud as the signal-to-noise ratio asks for at each clip;
pieces of noise are cross-faded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import stratified
from tinyrobust.data.speech.background import BACKGROUND
from tinyrobust.data.speech.recordings import Recordings
from tinyrobust.data.speech.sound import to_int16
from tinyrobust.data.speech.units import amplitudes
from tinyrobust.errors import DataError
from tinyrobust.listening.detection_record import EvaluationAudio
from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE
from tinyrobust.recipe.listening import Listening
from tinyrobust.recipe.speech import SILENCE, UNKNOWN

SLOT = 2 * SAMPLE_RATE  # from word to word: the windows that hold any of a clip hold nothing of the next
_LEAD = SAMPLE_RATE // 2  # of noise before the first
_FADE = SAMPLE_RATE // 50  # 20 ms: no click where two pieces of noise meet
# The draws are the same for every recipe and seed, so that figures can be compared.
_SEED = 0

Sound = NDArray[np.int16]


@dataclass(frozen=True, eq=False)
class Streams:
    """What is listened to, int16 at 16 kHz.

    Attributes:
        keywords: Clips of keywords in noise.
        onsets: Where each of them begins, in samples.
        labels: Their classes.
        others: Clips of other words in noise.
        noise: Sound without words.
        amount: How much of everything there is, for the record.
    """

    keywords: Sound
    onsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    others: Sound
    noise: Sound
    amount: EvaluationAudio


def streams(recordings: Recordings, classes: Sequence[str], part: str, dataset: str, settings: Listening) -> Streams:
    """Makes the streams of one part.

    Args:
        recordings: Clips and noise of the data set.
        classes: Names of the labels.
        part: "validation" or "test".
        dataset: Its name, for the record.
        settings: Signal-to-noise ratio, hop, and how many clips at most.

    Raises:
        DataError: There is no sound without keywords: then nothing can be falsely accepted.
    """
    random = np.random.default_rng([_SEED, ("validation", "test").index(part)])
    clips = recordings.parts[part]
    labels = np.array([clip.label for clip in clips], np.int64)
    spoken = [label for label, name in enumerate(classes) if name not in (UNKNOWN, SILENCE)]
    pieces = _noise(recordings, part)
    rows = _some(labels, spoken, settings.clips)
    keywords, onsets = _embedded(recordings.audio(part, rows), pieces, settings, random)
    other_rows = _some(labels, [label for label, name in enumerate(classes) if name == UNKNOWN], settings.clips)
    others, _ = _embedded(recordings.audio(part, other_rows), pieces, settings, random)
    recorded = [row for row, clip in enumerate(clips) if clip.start is None and classes[clip.label] == SILENCE]
    noise = to_int16(_joined([*pieces, *amplitudes(recordings.audio(part, recorded))]))
    if not len(others) and not len(noise):
        raise DataError(
            f"{dataset}: Expected {part} clips of other words, or recordings of ten seconds or more in {BACKGROUND}: "
            "what must not be taken for a keyword. Received: none",
            hint="Add some, or do without [listening].",
        )
    seconds = {name: len(sound) / SAMPLE_RATE for name, sound in (("others", others), ("noise", noise))}
    source = (
        f"{dataset}: clips one every {SLOT // SAMPLE_RATE} s in background recordings at {settings.snr_db:g} dB; "
        f"noise as loud as it was recorded"
    )
    if not pieces:
        source = f"{dataset}: clips one every {SLOT // SAMPLE_RATE} s, nothing between them: there are no background recordings"
    return Streams(
        keywords,
        onsets,
        labels[rows],
        others,
        noise,
        EvaluationAudio(
            part=part,
            source=source,
            keywords=len(rows),
            keyword_seconds=len(keywords) / SAMPLE_RATE,
            others=len(other_rows),
            other_seconds=seconds["others"],
            noise_seconds=seconds["noise"],
            hours=sum(seconds.values()) / 3600,
        ),
    )


def _some(labels: NDArray[np.int64], wanted: Sequence[int], most: int) -> NDArray[np.int64]:
    """Rows of these classes, a stratified draw of them where there are more than `most`."""
    rows = np.flatnonzero(np.isin(labels, wanted))
    return rows[stratified(labels[rows], min(most, len(rows)), _SEED)]


def _noise(recordings: Recordings, part: str) -> list[NDArray[np.float32]]:
    """What of each background recording is this part's, as amplitudes."""
    background = recordings.background
    return [amplitudes(background.recordings[path][start:end]) for path, start, end in background.regions(part)]


def _embedded(
    clips: Sound, pieces: Sequence[NDArray[np.float32]], settings: Listening, random: np.random.Generator
) -> tuple[Sound, NDArray[np.int64]]:
    """Clips in noise, a slot each, and where each begins: within a hop anywhere, as words do not wait for windows.

    The signal-to-noise ratio is that of the augmentation: of the powers over the whole clip.
    """
    if not len(clips):
        return np.empty(0, np.int16), np.empty(0, np.int64)
    anywhere = min(settings.hop_ms * SAMPLE_RATE // 1000, SLOT - CLIP_SAMPLES - _LEAD)
    onsets = SLOT * np.arange(len(clips)) + _LEAD + random.integers(0, anywhere, len(clips))
    beds = []
    for onset, clip in zip(onsets % SLOT, amplitudes(clips), strict=True):
        bed = _piece(pieces, random)
        power, noise_power = float(np.mean(clip**2)), float(np.mean(bed[onset : onset + CLIP_SAMPLES] ** 2))
        # A clip without any sound has no ratio: the noise stays as loud as it is.
        loud = math.sqrt(power / noise_power) * 10 ** (-settings.snr_db / 20) if power and noise_power else 1.0
        beds.append(bed * np.float32(loud))
    # Half a slot more: the last word is followed by noise, as all others are.
    sound = _joined([*beds, beds[-1]])[: SLOT * len(clips) + SLOT // 2]
    for onset, clip in zip(onsets, amplitudes(clips), strict=True):
        sound[onset : onset + CLIP_SAMPLES] += clip
    return to_int16(sound), onsets.astype(np.int64)


def _piece(pieces: Sequence[NDArray[np.float32]], random: np.random.Generator) -> NDArray[np.float32]:
    """Noise for a slot, from anywhere in one of the pieces; a short one is repeated."""
    if not pieces:
        return np.zeros(SLOT + _FADE, np.float32)
    piece = pieces[int(random.integers(len(pieces)))]
    start = int(random.integers(len(piece)))
    return piece[(start + np.arange(SLOT + _FADE)) % len(piece)]


def _joined(pieces: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """One after the other; the end of each is faded into the beginning of the next."""
    if not pieces:
        return np.empty(0, np.float32)
    rise = (np.arange(_FADE, dtype=np.float32) + np.float32(0.5)) / np.float32(_FADE)
    out = np.zeros(sum(len(piece) - _FADE for piece in pieces) + _FADE, np.float32)
    at = 0
    for index, piece in enumerate(pieces):
        shaped = piece.copy()
        shaped[:_FADE] *= rise if index else 1.0
        shaped[-_FADE:] *= rise[::-1] if index < len(pieces) - 1 else 1.0
        out[at : at + len(piece)] += shaped
        at += len(piece) - _FADE
    return out
