"""What is known of a front end: all its parameters, its clips, and sounds to check another implementation with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tinyrobust.recipe.frontend import CLIP_SAMPLES, SAMPLE_RATE, Frontend
from tinyrobust.records import Part, Record

if TYPE_CHECKING:
    from tinyrobust.data.speech.recordings import Recordings

FRONTEND = "frontend.json"


class SkippedClip(Part):
    """A clip that could not be read, and why."""

    path: str
    reason: str


class FrontendRecord(Record):
    """frontend.json: from sound to the 8-bit grid that enters the network, x = 255 (f - low) / (high - low), rounded.

    A network's input unit is 1 / 255 of it: a change of the input by epsilon is one of epsilon (high - low) in
    the feature's own units. What is said of training clips may be left out where somebody else's file is described.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.frontend/1"
    HINT: ClassVar[str] = "Of a run: delete the file and run its export again. Of your own: docs/tutorials/wake-word.md."
    sample_rate: int = SAMPLE_RATE
    clip_samples: int = CLIP_SAMPLES
    settings: Frontend
    shape: tuple[int, int]
    low: tuple[float, ...]
    high: tuple[float, ...]
    clipped: float | None = None
    classes: tuple[str, ...]
    partition: str = ""
    padded: dict[str, int] = Field(default_factory=dict)
    skipped: tuple[SkippedClip, ...] = ()

    @model_validator(mode="after")
    def _every_coefficient_has_a_range(self) -> Self:
        wanted = self.shape[1]
        if not len(self.low) == len(self.high) == wanted:
            raise ValueError(
                f"Expected low and high of {wanted} numbers, one for each coefficient of shape. "
                f"Received: {len(self.low)} and {len(self.high)}"
            )
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError("Expected every number of low below that of high. Received: one that is not")
        return self


@dataclass(frozen=True, eq=False)
class Vectors:
    """Clips of the validation part, to check another implementation of the front end and the network with.

    Attributes:
        audio: int16, of shape [n, 16000].
        features: uint8, of shape [n, frames, coefficients, 1].
        labels: Class indices, int64, of shape [n].
    """

    audio: NDArray[np.int16]
    features: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SpeechParts:
    """What a data set of speech has besides its features.

    Attributes:
        record: The front end that made them.
        vectors: A few clips, to check another implementation of it with.
        recordings: The sound of all clips.
    """

    record: FrontendRecord
    vectors: Vectors
    recordings: "Recordings"
