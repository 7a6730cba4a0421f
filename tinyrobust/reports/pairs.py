"""Clips that an attack on the sound broke: original and example, to be heard and seen."""

import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyrobust.errors import RunFolderError
from tinyrobust.reports.sound import level, signal_to_noise, spectrogram_uri, wav_uri

_SHOWN = 4  # a clip of a second is 43 kB of the page
Clip = npt.NDArray[np.int16]


@dataclass(frozen=True)
class SoundPair:
    """One broken clip.

    Attributes:
        index: Its position in the test set.
        original: int16 [n] at 16 kHz.
        adversarial: int16 [n]: what was judged.
        label: Its true class.
        before: What the target names without attack.
        after: What the target names now.
        attack: What made the example.
        target: Whom it fools.
    """

    index: int
    original: Clip
    adversarial: Clip
    label: int
    before: int
    after: int
    attack: str
    target: str

    @property
    def snr_db(self) -> float:
        """How far the change lies below the clip."""
        return signal_to_noise(self.original, self.adversarial)

    @property
    def largest_change(self) -> int:
        """In 16-bit steps."""
        return int(np.abs(self.adversarial.astype(np.int64) - self.original).max())

    @property
    def sounds(self) -> tuple[str, str]:
        """Original and example as WAV data URIs."""
        return wav_uri(self.original), wav_uri(self.adversarial)

    @cached_property
    def pictures(self) -> tuple[str, str, str]:
        """Spectrograms of the original, the change and the example, on one scale, as PNG data URIs."""
        change = np.clip(self.adversarial.astype(np.int64) - self.original, -32768, 32767).astype(np.int16)
        levels = [level(sound) for sound in (self.original, change, self.adversarial)]
        first, second, third = (spectrogram_uri(one, float(levels[0].max())) for one in levels)
        return first, second, third


def read_pairs(path: Path) -> list[SoundPair]:
    """A few of the clips that an evaluation of the sound kept, of as many classes as there are; none where there is no file.

    Raises:
        RunFolderError: The file is not what `tinyrobust.robustness.outcomes` documents.
    """
    if not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            attack, target = str(arrays["example/attack"]), str(arrays["example/target"])
            clean = dict(zip(arrays["index"].tolist(), arrays[f"clean/{target}"].tolist(), strict=True))
            found = {key: arrays[f"example/{key}"] for key in ("index", "label", "image", "adversarial", "predicted")}
    except (KeyError, OSError, ValueError, zlib.error) as error:
        raise RunFolderError(
            f"Cannot read the adversarial clips in {path}: {error}", hint="Delete the file and run the attack stage again."
        ) from error
    if not found["image"].dtype == found["adversarial"].dtype == np.int16:
        raise RunFolderError(
            f"{path}: Expected clips of 16-bit samples. Received: {found['image'].dtype} and {found['adversarial'].dtype}",
            hint="Delete the file and run the attack stage again.",
        )
    return [
        SoundPair(
            index=int(found["index"][row]),
            original=found["image"][row],
            adversarial=found["adversarial"][row],
            label=int(found["label"][row]),
            before=int(clean[int(found["index"][row])]),
            after=int(found["predicted"][row]),
            attack=attack,
            target=target,
        )
        for row in _different(found["label"].tolist())
    ]


def _different(labels: list[int]) -> list[int]:
    """Rows of a few samples: one of every class first."""
    firsts = [row for row, label in enumerate(labels) if label not in labels[:row]]
    return sorted((firsts + [row for row in range(len(labels)) if row not in firsts])[:_SHOWN])
