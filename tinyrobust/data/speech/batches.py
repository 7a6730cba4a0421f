"""Training batches of sound, for networks that learn on it: clips are changed anew each epoch, when they are asked for."""

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Split
from tinyrobust.data.batches import Batches, Labels
from tinyrobust.data.speech.augment import augmented
from tinyrobust.data.speech.recordings import Recordings
from tinyrobust.data.speech.units import unit
from tinyrobust.recipe.data import Augment
from tinyrobust.recipe.frontend import CLIP_SAMPLES
from tinyrobust.recipe.speech import SpeechAugment

# So much sound is kept in memory; of a larger data set every batch is read when it is needed.
_MEMORY = 512 * 2**20


class SoundBatches(Batches):
    """Shuffled, augmented batches of clips. Epoch e has copy e of every clip: no copy is stored, and none comes twice.

    Of the augmentation, the masks are left out: they are blocks of features. Order and changes depend on (seed, epoch, batch)
    only, as those of features do.

    Args:
        split: The training part; its features are not used.
        recordings: The sound of its clips.
        augment: Random changes.
        batch_size: Clips a batch.
        seed: The recipe's seed.

    Raises:
        DataError: There are fewer clips than one batch takes, or clips can no longer be read.
    """

    def __init__(self, split: Split, recordings: Recordings, augment: SpeechAugment, batch_size: int, seed: int) -> None:
        super().__init__(split, Augment(), batch_size, seed)
        self._recordings = recordings
        self._changes = augment
        self._noise = recordings.background.noise()
        small = len(split) * 2 * CLIP_SAMPLES <= _MEMORY
        self._kept = recordings.audio("train") if small else None

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], Labels]:
        """Batch `index` of the present epoch.

        Returns:
            Clips, float32 in [0, 1], of shape [batch_size, 16000], and class indices of shape [batch_size].
        """
        chosen = self._chosen(index)
        audio = self._recordings.audio("train", chosen) if self._kept is None else self._kept[chosen]
        if self._changes.copies:
            clips = [self._recordings.parts["train"][row] for row in chosen]
            audio = np.stack(
                [
                    augmented(sound, clip.name, self._epoch, self._changes, self._seed, self._noise)
                    for sound, clip in zip(audio, clips, strict=True)
                ]
            )
        return unit(audio), self._split.y[chosen]
