"""`[data.speech.frontend]`: from sound to the features that enter a network.

A front end is a table here, with its own keys, and an implementation in `data/speech/frontends/`.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tinyrobust.choices import members
from tinyrobust.recipe.table import Table

SAMPLE_RATE = 16_000
CLIP_SAMPLES = 16_000  # one second: what the data set, the papers and MLPerf Tiny use


class FrontendTable(Table, ABC):
    """What all front ends have. Every key but `kind` has a default.

    Attributes:
        implementation: Its `tinyrobust.data.speech.frontend.FrontEnd`: `module:class`, imported when features are computed.
        differentiable: Whether it has a layer through which gradients flow back to the sound.
        kind: Its name in recipes.
    """

    implementation: ClassVar[str]
    differentiable: ClassVar[bool]
    kind: str

    @property
    @abstractmethod
    def row_ms(self) -> int:
        """Milliseconds from one row of features to the next."""


class Mfcc(FrontendTable):
    """Mel-frequency cepstral coefficients by librosa's definition: the papers' front end, and MLPerf Tiny's (49x10)."""

    implementation: ClassVar[str] = "tinyrobust.data.speech.frontends.mfcc:MfccFrontEnd"
    differentiable: ClassVar[bool] = True
    kind: Literal["mfcc"]
    window_ms: int = Field(30, ge=5, le=100, description="Length of the Hann window.")
    hop_ms: int = Field(20, ge=5, le=100, description="From one window to the next.")
    mels: int = Field(40, ge=4, le=128, description="Bands of the mel filter bank (Slaney's).")
    coefficients: int = Field(10, ge=2, le=128, description="Of the cosine transform (type 2, orthonormal).")
    low_hz: float = Field(20.0, ge=0)
    high_hz: float = Field(4000.0, le=SAMPLE_RATE / 2)
    top_db: float = Field(80.0, gt=0, description="What lies further below a clip's loudest band is raised to that.")

    @model_validator(mode="after")
    def _bands_fit(self) -> Self:
        if self.coefficients > self.mels:
            raise ValueError(f"Expected at most as many coefficients as mels. Received: {self.coefficients} and {self.mels}")
        if self.low_hz >= self.high_hz:
            raise ValueError(f"Expected low_hz below high_hz. Received: {self.low_hz} and {self.high_hz}")
        return self

    @property
    def row_ms(self) -> int:
        """A row is a window."""
        return self.hop_ms


class Micro(FrontendTable):
    """The front end that microcontrollers run (TensorFlow Lite Micro's): 40 channels, 30 ms windows every 10 ms."""

    implementation: ClassVar[str] = "tinyrobust.data.speech.frontends.micro:MicroFrontEnd"
    differentiable: ClassVar[bool] = False  # integer C code
    kind: Literal["micro"]
    stride: int = Field(2, ge=1, le=10, description="Every so many of the windows are given to the network: 2 gives 49.")

    @property
    def row_ms(self) -> int:
        """A row is every `stride`-th window of 10 ms."""
        return 10 * self.stride


Frontend = Annotated[Mfcc | Micro, Field(discriminator="kind")]


def with_gradients() -> str:
    """The front ends through which gradients flow, for messages: `mfcc`."""
    tables = members(Frontend).items()
    return " or ".join(kind for kind, table in tables if issubclass(table, FrontendTable) and table.differentiable)
