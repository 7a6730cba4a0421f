"""The samples that are attacked."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks.specs import Norm
from tinyrobust.data.arrays import scale
from tinyrobust.data.speech.units import unit
from tinyrobust.robustness.distance import NORMS, SOUND_NORMS, Bools, Floats, Ints

Stored = npt.NDArray[np.uint8] | npt.NDArray[np.int16] | npt.NDArray[np.float32]
"""Images or features, uint8 or float32 in [0, 1], [n, h, w, c], or clips, int16 [n, samples]."""


@dataclass(frozen=True)
class Subset:
    """The attacked samples.

    Attributes:
        index: Positions [n] in the test set.
        image: Originals, uint8 or float32 in [0, 1], [n, h, w, c], or clips, int16 [n, samples].
        label: True classes [n].
        clean: Per target, the class [n] that it names without attack.
    """

    index: Ints
    image: Stored
    label: Ints
    clean: dict[str, Ints]

    @property
    def sound(self) -> bool:
        """Whether they are clips."""
        return self.image.dtype == np.int16

    @property
    def norms(self) -> tuple[Norm, ...]:
        """In which distances are measured."""
        return SOUND_NORMS if self.sound else NORMS

    @cached_property
    def x(self) -> Floats:
        """The samples as attacks see them, in [0, 1]."""
        return inputs(self.image)

    def right(self, target: str) -> Bools:
        """Whether [n] `target` is right without attack."""
        return np.asarray(self.clean[target] == self.label)


def inputs(stored: Stored) -> Floats:
    """Images, or clips, as attacks see them, in [0, 1]."""
    if stored.dtype == np.float32:
        return stored.astype(np.float32)
    return unit(stored.astype(np.int16)) if stored.dtype == np.int16 else scale(stored.astype(np.uint8))
