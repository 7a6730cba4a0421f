"""From sound to the 8-bit grid that enters a network: what every front end does, whichever a recipe chooses.

To add one: a table in `tinyrobust.recipe.frontend`, entered in `Frontend`, and the `FrontEnd` that it names, in a file of
`tinyrobust.data.speech.frontends`. `tests/data/speech/test_contract.py` tests it from then on.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.recipe.frontend import FrontendTable

if TYPE_CHECKING:
    import keras

# A coefficient's range is its mean and this many standard deviations either side, over the training clips. Coefficients are
# about normally distributed, where 4 leave out 0.006 %; wider ranges would spend the 8 bits on outliers.
_DEVIATIONS = 4.0
# So far apart at least, in the front end's own units: a coefficient that never changes has no range of its own.
_NARROWEST = 1e-3

State = Literal["carried", "reset"]
"""What a front end that adapts to the sound starts each window of a stream with: its present state, or its initial one."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The range of every coefficient that uint8 0..255 stands for.

    Attributes:
        low: What 0 stands for, float64 [coefficients], in the front end's own units.
        high: What 255 stands for.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, record: FrontendRecord) -> "Grid":
        """The grid of a front end that was used."""
        return cls(np.array(record.low), np.array(record.high))

    @classmethod
    def fitted(cls, training: NDArray[np.float32]) -> "Grid":
        """Mean and four standard deviations either side, over training features [n, rows, coefficients]."""
        mean = training.mean(axis=(0, 1), dtype=np.float64)
        width = np.maximum(_DEVIATIONS * training.std(axis=(0, 1), dtype=np.float64), _NARROWEST)
        return cls(mean - width, mean + width)

    def quantized(self, features: NDArray[np.float32]) -> NDArray[np.uint8]:
        """[n, rows, coefficients] -> uint8 [n, rows, coefficients, 1]: 255 (f - low) / (high - low), rounded, clipped."""
        steps = np.floor(255 * (features - self.low) / (self.high - self.low) + 0.5)
        return np.clip(steps, 0, 255).astype(np.uint8)[..., np.newaxis]

    def clipped(self, features: NDArray[np.float32]) -> float:
        """The share of values that lie outside, 0 to 1."""
        return float(((features < self.low) | (features > self.high)).mean())


class Stream(Protocol):
    """A stream of sound, in chunks of any size, to the features of one window of a second after another.

    Window i covers the samples from `i * hop` on, and is given as soon as all 16,000 of them are there. How the sound is cut
    into chunks makes no difference.
    """

    def feed(self, chunk: NDArray[np.int16]) -> NDArray[np.float32]:
        """Takes the next samples, int16 [n] at 16 kHz.

        Returns:
            The features of every window that they complete, [windows, rows, coefficients], in the front end's own units.
        """


@dataclass(frozen=True, eq=False)
class CTable:
    """A constant array of a C header: its type, its name, and its values, of one or two dimensions."""

    c_type: Literal["float", "uint16_t"]
    name: str
    values: NDArray[np.floating] | NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class HeaderContents:
    """What an implementation in C has to know of a front end; sound and shape apart, which all have in common.

    Attributes:
        how: How features are computed with the constants, line by line, for whoever reads the header.
        constants: Single numbers, by name.
        tables: Arrays.
    """

    how: tuple[str, ...]
    constants: Mapping[str, int | float]
    tables: tuple[CTable, ...] = ()


class FrontEnd(ABC):
    """From clips of a second to features, and all that depends on which front end it is.

    Attributes:
        settings: Its table in the recipe.
        shape: Rows and coefficients of a clip of a second.
    """

    settings: FrontendTable
    shape: tuple[int, int]

    @abstractmethod
    def __init__(self, settings: FrontendTable) -> None: ...

    @property
    def row_ms(self) -> int:
        """Milliseconds from one row to the next."""
        return self.settings.row_ms

    @abstractmethod
    def features(self, audio: NDArray[np.int16]) -> NDArray[np.float32]:
        """Clips, int16 [n, 16000], to features in the front end's own units, float32 [n, rows, coefficients].

        Those of a clip are the same, bit for bit, whichever others there are.
        """

    @abstractmethod
    def grid(self, training: NDArray[np.float32]) -> Grid:
        """The 8-bit grid: `Grid.fitted` to the training clips, or one that is always the same.

        Args:
            training: Features of the training clips as they are, without augmentation, [n, rows, coefficients].
        """

    @abstractmethod
    def layer(
        self, grid: Grid | None = None, *, rounded: bool = False, open_floor: bool = False
    ) -> "keras.layers.Layer | None":
        """A `tinyrobust.data.speech.layer.FeatureLayer`, through which gradients reach the sound; see there for shapes.

        Without a grid it agrees with `features` to 1e-3 in the front end's own units.

        Args:
            grid: The range of every coefficient; without one the output is in the front end's own units.
            rounded: Round and clip to the grid, with the gradient of what was not.
            open_floor: The same features, with a gradient also where what is too quiet is raised to a floor.

        Returns:
            None where the table is not `differentiable`.
        """

    @abstractmethod
    def stream(self, hop_ms: int, state: State = "carried") -> Stream:
        """A stream through this front end, from its beginning.

        The features of the first second are those of a clip of a second, bit for bit; those of all windows are where `state` is
        "reset", and where the front end remembers nothing.

        Args:
            hop_ms: From one window to the next, a multiple of `row_ms`, at most a second.
            state: What a front end that remembers starts a window with; no other asks for it.

        Raises:
            RecipeError: The hop does not fit the front end.
        """

    @abstractmethod
    def header(self, grid: Grid) -> HeaderContents:
        """What the microcontroller's implementation is compiled with, for features on this grid."""


def heard(record: FrontendRecord, audio: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Clips, int16 [n, 16000], as a network gets them from the front end of a record: uint8 [n, rows, coefficients, 1]."""
    return Grid.of(record).quantized(front_end(record.settings).features(audio))


def front_end(settings: FrontendTable) -> FrontEnd:
    """The front end that a table of a recipe, or of `frontend.json`, names."""
    implementation: type[FrontEnd] = pkgutil.resolve_name(settings.implementation)
    return implementation(settings)
