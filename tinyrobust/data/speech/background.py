"""Recordings without speech, `_background_noise_/`: silence is cut from them, and they are mixed into training clips.

Each recording is parted in time: its first 80 % are for training, the next 10 % for validation, the last 10 % for the test, so
that no noise that a network learned from is in its test.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.files import Skipped
from tinyrobust.data.speech.sound import read_sound
from tinyrobust.errors import DataError
from tinyrobust.recipe.frontend import CLIP_SAMPLES

BACKGROUND = "_background_noise_"
_REGIONS = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}


@dataclass(frozen=True, eq=False)
class Background:
    """The recordings: path to int16 samples at 16 kHz."""

    recordings: dict[Path, NDArray[np.int16]]
    skipped: tuple[Skipped, ...]

    def regions(self, part: str) -> list[tuple[Path, int, int]]:
        """What of each recording is for `part`, from and to in samples; those with less than a second of it are left out."""
        first, last = _REGIONS[part]
        bounds = [(path, int(first * len(audio)), int(last * len(audio))) for path, audio in self.recordings.items()]
        return [(path, start, end) for path, start, end in bounds if end - start >= CLIP_SAMPLES]

    def noise(self) -> list[NDArray[np.int16]]:
        """What may be mixed into training clips."""
        return [self.recordings[path][start:end] for path, start, end in self.regions("train")]

    def cuts(self, part: str, count: int, random: np.random.Generator) -> list[tuple[Path, int]]:
        """Random places to cut a second from: the recording, and where it begins.

        Raises:
            DataError: There is no recording that is long enough.
        """
        regions = self.regions(part)
        if not regions:
            raise DataError(
                f"Expected recordings of ten seconds or more in {BACKGROUND}, to cut the class silence from. "
                f"Received: {len(self.recordings)} recordings, none long enough",
                hint="Add some, or do without the class: [data.speech] silence = 0.",
            )
        chosen = [regions[index] for index in random.integers(0, len(regions), count)]
        places = [(path, int(random.integers(start, end - CLIP_SAMPLES + 1))) for path, start, end in chosen]
        return sorted(places, key=lambda place: (place[0].name, place[1]))


def read_background(folder: Path) -> Background:
    """The recordings in `folder/_background_noise_`; none where there is no such folder."""
    recordings, skipped = {}, []
    inside = (folder / BACKGROUND).iterdir() if (folder / BACKGROUND).is_dir() else ()
    for path in sorted(path for path in inside if path.suffix.lower() in (".wav", ".flac")):
        try:
            recordings[path] = read_sound(path)
        except ValueError as error:
            skipped.append(Skipped(str(path), str(error)))
    return Background(recordings, tuple(skipped))
