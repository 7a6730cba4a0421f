"""What identifies a data set of speech: the sound, and the settings that make features of it. The features follow from both.

They are no part of it: a transform rounds otherwise on another processor, or with other kernels of the same libraries, and a
feature in a million then lands on the neighbouring one of 256 levels.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.speech.background import Background
from tinyrobust.data.speech.corpus import PARTS, Clip
from tinyrobust.data.speech.features import Features
from tinyrobust.recipe.speech import Speech
from tinyrobust.recipe.table import Table


def fingerprint(
    clips: Mapping[str, Sequence[Clip]],
    features: Mapping[str, Features],
    classes: Sequence[str],
    background: Background,
    speech: Speech,
    seed: int,
) -> str:
    """SHA-256, in hex, over the sound and labels of the three parts, the front end, and what augmented copies are made of.

    Copies are drawn by the names of the clips, so these count where there are copies; noise counts where it is mixed in.

    Args:
        clips: Those that could be read, of each part, in order.
        features: What was made of them.
        classes: Their names.
        background: Noise that copies are mixed with.
        speech: The recipe's table.
        seed: The recipe's.
    """
    said: dict[str, object] = {
        "classes": list(classes),
        "parts": {part: [features[part].sound, [clip.label for clip in clips[part]]] for part in PARTS},
        "front end": _said(speech.frontend),
    }
    if speech.augment.copies:
        noise = background.noise() if speech.augment.noise else []
        names = [clip.name for clip in clips["train"]]
        said["copies"] = {
            "settings": _said(speech.augment),
            "seed": seed,
            "names": names,
            "noise": [_digest(one) for one in noise],
        }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _said(table: Table) -> dict[str, object]:
    """What a table says beyond its defaults: a new key with a default changes no fingerprint."""
    return {"kind": getattr(table, "kind", ""), **table.model_dump(mode="json", exclude_defaults=True)}


def _digest(sound: NDArray[np.int16]) -> str:
    return hashlib.sha256(sound.astype("<i2").tobytes()).hexdigest()
