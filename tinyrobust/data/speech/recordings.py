"""The sound behind a data set's features, read when it is asked for: what is attacked as sound, and what is listened to."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.speech.background import Background
from tinyrobust.data.speech.clips import chunks
from tinyrobust.data.speech.corpus import Clip
from tinyrobust.errors import DataError
from tinyrobust.recipe.frontend import CLIP_SAMPLES


@dataclass(frozen=True, eq=False)
class Recordings:
    """The clips of a data set and the noise around them.

    Attributes:
        parts: For train, validation and test the clips, in the order of the features' rows.
        background: The recordings without speech.
    """

    parts: dict[str, tuple[Clip, ...]]
    background: Background

    def with_training(self, rows: NDArray[np.int64]) -> "Recordings":
        """The same with those of the training clips, in this order."""
        clips = self.parts["train"]
        return replace(self, parts={**self.parts, "train": tuple(clips[int(row)] for row in rows)})

    def audio(self, part: str, rows: Sequence[int] | NDArray[np.int64] | None = None) -> NDArray[np.int16]:
        """Clips of one second, as they are: without augmentation, short ones followed by zeros.

        Args:
            part: "train", "validation" or "test".
            rows: Which of them, as indices into the part's features; all when absent.

        Returns:
            int16, of shape [n, 16000], in the order of `rows`.

        Raises:
            DataError: A clip is no longer there, or can no longer be read.
        """
        clips = self.parts[part] if rows is None else [self.parts[part][int(row)] for row in rows]
        sounds = list(chunks(clips, self.background))
        skipped = [one for sound in sounds for one in sound.skipped]
        if skipped:
            raise DataError(
                f"{skipped[0].path}: Expected a clip that could be read before. Received: {skipped[0].reason}",
                hint="Put it back, or start a new run with the clips that are left: another --runs-dir.",
            )
        return np.concatenate([sound.audio for sound in sounds]) if sounds else np.empty((0, CLIP_SAMPLES), np.int16)
