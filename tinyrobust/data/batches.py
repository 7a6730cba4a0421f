"""Training batches whose order and augmentation depend on nothing but (seed, epoch, batch index)."""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Split, scale
from tinyrobust.errors import DataError
from tinyrobust.recipe.data import Augment

Labels = NDArray[np.int64] | dict[str, NDArray[np.generic]]
"""Class indices [n]; or `{"labels": ..., "teacher_logits": [n, classes]}`, where a teacher was asked beforehand."""

# Streams of random numbers that share (seed, epoch) are told apart by their first number.
_ORDER, _AUGMENT = 0, 1


class Batches(keras.utils.PyDataset):
    """Shuffled, augmented batches for `model.fit`.

    ```python
    batches = Batches(dataset.train, recipe.data.augment, batch_size, recipe.seed)
    model.fit(batches, shuffle=False, initial_epoch=first, epochs=last, callbacks=[batches.clock()])
    ```

    All batches have `batch_size` images, so that a compiled step is traced once: the rest of an epoch's order is left out. The
    order is drawn anew for each epoch, so no image is left out for good.

    The epoch is what Keras tells `clock()`. To count the calls of `on_epoch_begin` and `on_epoch_end` would go wrong: Keras
    3.15 calls the latter once before the first epoch and, under JAX, the former too when the model is not built yet. Do not
    pass `steps_per_epoch`: batches of the next epoch would then be made ahead, in the epoch before.

    Args:
        split: The training images.
        augment: Random changes; `load` has checked that the data set allows them.
        batch_size: Images a batch.
        seed: The recipe's seed.
        first_epoch: The epoch, from 0, whose batches are given until the clock tells another.
        copies: Augmented copies of the split's images, each of its shape: epoch e sees copy e modulo their number.
        teacher_logits: What a teacher makes of each copy, or of the split where there is none: float32 [n, classes] each. They
            go with the labels.

    Raises:
        DataError: There are fewer images than one batch takes.
    """

    def __init__(
        self,
        split: Split,
        augment: Augment,
        batch_size: int,
        seed: int,
        first_epoch: int = 0,
        copies: Sequence[NDArray[np.uint8]] = (),
        teacher_logits: Sequence[NDArray[np.float32]] = (),
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        check_size(split, batch_size)
        self._split = split
        self._augment = augment
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = first_epoch
        self._copies = copies
        self._teacher_logits = teacher_logits
        self._told = False
        self._begun = 0
        self._order = (-1, np.empty(0, np.int64))

    @property
    def epoch(self) -> int:
        """The epoch, from 0, whose batches are given now."""
        return self._epoch

    def clock(self) -> keras.callbacks.Callback:
        """The callback by which `fit` tells the epoch, before it asks for the epoch's first batch."""
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: self._tell(epoch))

    def on_epoch_begin(self) -> None:
        """Called by Keras.

        Raises:
            RuntimeError: `fit` runs without the clock: every epoch would be given the batches of the first.
        """
        self._begun += 1
        if self._begun > 1 and not self._told:
            raise RuntimeError("Expected model.fit(batches, callbacks=[batches.clock()]). Received: no clock")

    def __len__(self) -> int:
        return len(self._split) // self._batch_size

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], Labels]:
        """Batch `index` of the present epoch.

        Returns:
            Images, float32 in [0, 1], of shape [batch_size, height, width, channels], and class indices of shape [batch_size].
        """
        epoch, chosen = self._epoch, self._chosen(index)
        random = np.random.default_rng([_AUGMENT, self._seed, epoch, index])
        x = self._copies[epoch % len(self._copies)] if self._copies else self._split.x
        labels = self._split.y[chosen]
        images = scale(augmented(x[chosen], self._augment, random))
        if not self._teacher_logits:
            return images, labels
        asked = self._teacher_logits[epoch % len(self._teacher_logits)]
        return images, {"labels": labels, "teacher_logits": asked[chosen]}

    def _chosen(self, index: int) -> NDArray[np.int64]:
        """The rows of batch `index` of the present epoch."""
        if not 0 <= index < len(self):
            raise IndexError(f"Expected a batch index from 0 to {len(self) - 1}. Received: {index}")
        return self._order_of(self._epoch)[index * self._batch_size : (index + 1) * self._batch_size]

    def _tell(self, epoch: int) -> None:
        self._epoch = epoch
        self._told = True

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([_ORDER, self._seed, epoch]).permutation(len(self._split)))
        return self._order[1]


def check_size(split: Split, batch_size: int) -> None:
    """Whether there is one batch to train on.

    Raises:
        DataError: There are fewer images than one batch takes.
    """
    if len(split) < batch_size:
        raise DataError(
            f"Expected at least train.batch_size = {batch_size:,} training images. Received: {len(split):,}",
            hint=f"Use more images, or --set train.batch_size={max(1, len(split) // 4)}.",
        )


class InOrder(keras.utils.PyDataset):
    """All images as they are, in their order, for `model.evaluate` and `validation_data`; one batch at a time in float.

    Args:
        split: The images.
        batch_size: Images a batch; the last has the rest.
    """

    def __init__(self, split: Split, batch_size: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._split = split
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._split) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Batch `index`: images, float32 in [0, 1], and class indices."""
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        return scale(self._split.x[rows]), self._split.y[rows]


def augmented(x: NDArray[np.uint8], augment: Augment, random: np.random.Generator) -> NDArray[np.uint8]:
    """Each image mirrored and shifted by its own draw.

    The border of a crop is black (0), as in He et al. (2016), section 4.2: the background of the digit sets, where mirrored
    borders would add strokes, and what published CIFAR-10 figures use.

    Args:
        x: Images of shape [n, height, width, channels].
        augment: Mirror with probability 1/2; shift by -crop to crop pixels each way, uniformly.
        random: Where the draws come from.

    Returns:
        Images of the same shape.
    """
    if augment.flip:
        mirrored = random.random(len(x)) < 0.5
        x = np.where(mirrored[:, np.newaxis, np.newaxis, np.newaxis], x[:, :, ::-1], x)
    if augment.crop:
        height, width = x.shape[1:3]
        border = (augment.crop, augment.crop)
        padded = np.pad(x, ((0, 0), border, border, (0, 0)))
        top, left = random.integers(0, 2 * augment.crop + 1, (2, len(x), 1, 1))
        rows, columns = top + np.arange(height)[:, np.newaxis], left + np.arange(width)
        x = padded[np.arange(len(x))[:, np.newaxis, np.newaxis], rows, columns]
    return x
