"""Many clips to one array, read in parallel; what cannot be read is named, what is short is padded and counted."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.files import Skipped
from tinyrobust.data.speech.background import Background
from tinyrobust.data.speech.corpus import Clip
from tinyrobust.data.speech.sound import joined, one_second, read_sound
from tinyrobust.files import sha256
from tinyrobust.recipe.frontend import CLIP_SAMPLES

# Decoding releases Python's lock; more threads than this gain nothing on a clip of a second.
WORKERS = min(8, os.cpu_count() or 1)
# So many clips of a second are held at once: 16 MB of sound, whatever the size of the data set.
CHUNK = 512


@dataclass(frozen=True, eq=False)
class Sounds:
    """Clips of one second.

    Attributes:
        audio: int16, of shape [n, 16000].
        kept: For each of them, the index of its clip.
        padded: How many were shorter than a second.
        skipped: The clips that could not be read.
    """

    audio: NDArray[np.int16]
    kept: NDArray[np.int64]
    padded: int
    skipped: tuple[Skipped, ...]


def chunks(clips: Sequence[Clip], background: Background) -> Iterator[Sounds]:
    """The sound of `clips`, in their order, `CHUNK` at a time; `kept` counts from the first of all."""
    with ThreadPoolExecutor(WORKERS) as pool:
        for start in range(0, len(clips), CHUNK):
            results = list(pool.map(lambda clip: _read(clip, background), clips[start : start + CHUNK]))
            readable = [(start + index, sound) for index, sound in enumerate(results) if not isinstance(sound, Skipped)]
            audio = [one_second(sound) for _, sound in readable]
            yield Sounds(
                np.stack(audio) if audio else np.empty((0, CLIP_SAMPLES), np.int16),
                np.array([index for index, _ in readable], np.int64),
                sum(len(sound) < CLIP_SAMPLES for _, sound in readable),
                tuple(sound for sound in results if isinstance(sound, Skipped)),
            )


def content_hash(clips: Sequence[Clip]) -> str:
    """SHA-256, in hex, over what the files of `clips` hold, and where cuts begin, in this order. Names do not count."""
    with ThreadPoolExecutor(WORKERS) as pool:
        both = [half for clip in clips for half in (clip, clip.then) if half]
        paths = list(dict.fromkeys(clip.path for clip in both))
        digests = dict(zip(paths, pool.map(_digest, paths), strict=True))
    total = hashlib.sha256()
    for clip in clips:
        changes = f" {clip.backwards} {clip.loudness!r}" if clip.backwards or clip.loudness != 1 else ""
        changes += f" then {digests[clip.then.path]} {clip.then.start}" if clip.then else ""
        total.update(f"{digests[clip.path]} {clip.start}{changes};".encode())
    return total.hexdigest()


def _read(clip: Clip, background: Background) -> NDArray[np.int16] | Skipped:
    if clip.start is not None:
        sound = background.recordings[clip.path][clip.start : clip.start + clip.samples]
    else:
        try:
            sound = read_sound(clip.path, seconds=1)
        except ValueError as error:
            return Skipped(str(clip.path), str(error))
    if clip.then:
        second = _read(clip.then, background)
        return second if isinstance(second, Skipped) else joined(one_second(sound), one_second(second))
    if clip.backwards:
        sound = sound[::-1]
    return sound if clip.loudness == 1 else np.rint(sound * clip.loudness).astype(np.int16)


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        return type(error).__name__
