"""Clips to features, chunk by chunk, kept in the cache."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.files import Skipped
from tinyrobust.data.speech.augment import augmented, masked
from tinyrobust.data.speech.background import Background
from tinyrobust.data.speech.cache import Arrays, cached
from tinyrobust.data.speech.clips import WORKERS, chunks, content_hash
from tinyrobust.data.speech.corpus import Clip
from tinyrobust.data.speech.frontend import FrontEnd, Grid
from tinyrobust.progress import Progress
from tinyrobust.recipe.frontend import FrontendTable
from tinyrobust.recipe.speech import SpeechAugment

# Raise it when the features or copies of the same clips come out otherwise: what the cache holds is then of no use.
_VERSIONS = {"features": 2, "copies": 1}
_LIBRARIES = ("librosa", "numpy", "scipy", "soundfile", "pymicro-features")


@dataclass(frozen=True, eq=False)
class Features:
    """The clips of one part that could be read.

    Attributes:
        values: In the front end's own units, float32 [n, rows, coefficients].
        kept: For each of them, the index of its clip.
        padded: How many clips were shorter than a second.
        skipped: The clips that could not be read.
        sound: SHA-256, in hex, over the samples of all clips, int16 [n, 16000] in this order: what the features were made of.
    """

    values: NDArray[np.float32]
    kept: NDArray[np.int64]
    padded: int
    skipped: tuple[Skipped, ...]
    sound: str


def features_of(
    part: str, clips: Sequence[Clip], background: Background, front_end: FrontEnd, progress: Progress | None = None
) -> Features:
    """The features of clips as they are."""

    def compute() -> Arrays:
        values, kept, reasons, padded = [], [], [], 0
        sound = hashlib.sha256()
        for sounds in chunks(clips, background):
            sound.update(sounds.audio.astype("<i2").tobytes())
            values.append(front_end.features(sounds.audio))
            kept.append(sounds.kept)
            reasons += [one.reason for one in sounds.skipped]
            padded += sounds.padded
            if progress:
                progress(f"computing features of {part} clips", sum(map(len, kept)) + len(reasons), len(clips))
        return {
            "values": np.concatenate(values),
            "kept": np.concatenate(kept),
            "padded": np.array(padded),
            "reasons": np.array(json.dumps(reasons)),
            "sound": np.array(sound.hexdigest()),
        }

    arrays = cached("features", [_what("features", front_end.settings), content_hash(clips)], compute)
    values, kept = np.asarray(arrays["values"], np.float32), np.asarray(arrays["kept"], np.int64)
    # The cache goes by content, not by name: the same files may be elsewhere by now.
    left_out = sorted(set(range(len(clips))) - set(kept.tolist()))
    reasons = json.loads(str(arrays["reasons"]))
    skipped = tuple(Skipped(str(clips[index].path), reason) for index, reason in zip(left_out, reasons, strict=True))
    return Features(values, kept, int(arrays["padded"]), skipped, str(arrays["sound"]))


def copies_of(
    clips: Sequence[Clip],
    background: Background,
    front_end: FrontEnd,
    grid: Grid,
    augment: SpeechAugment,
    seed: int,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """The features of every augmented copy of training clips, all of which can be read.

    Returns:
        uint8, of shape [copies, n, rows, coefficients, 1].
    """
    noise = background.noise()
    total = augment.copies * len(clips)

    def compute() -> Arrays:
        out = np.empty((augment.copies, len(clips), *front_end.shape, 1), np.uint8)
        done = 0
        with ThreadPoolExecutor(WORKERS) as pool:
            for sounds in chunks(clips, background):
                names = [clips[index].name for index in sounds.kept]
                for copy in range(augment.copies):
                    changed = pool.map(
                        lambda pair, copy=copy: augmented(pair[0], pair[1], copy, augment, seed, noise),
                        zip(sounds.audio, names, strict=True),
                    )
                    x = grid.quantized(front_end.features(np.stack(list(changed))))
                    out[copy, sounds.kept] = [
                        masked(one, name, copy, augment.masks, seed) for one, name in zip(x, names, strict=True)
                    ]
                    done += len(names)
                    if progress:
                        progress("augmenting clips", done, total)
        return {"x": out}

    depends_on = [
        _what("copies", front_end.settings),
        augment.model_dump(mode="json"),
        seed,
        [grid.low.tolist(), grid.high.tolist()],
        content_hash(clips),
        [clip.name for clip in clips],
        content_hash([Clip(path, "", 0) for path in background.recordings]),
    ]
    return np.asarray(cached("copies", depends_on, compute)["x"], np.uint8)


def _what(kind: str, settings: FrontendTable) -> list[object]:
    return [_VERSIONS[kind], settings.model_dump(mode="json"), {name: metadata.version(name) for name in _LIBRARIES}]
