"""`[data.speech.frontend]`: from sound to the features that enter a network."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.table import Table

SAMPLE_RATE = 16_000
CLIP_SAMPLES = 16_000  # one second: what the data set, the papers and MLPerf Tiny use


class Mfcc(Table):
    """Mel-frequency cepstral coefficients by librosa's definition: the papers' front end, and MLPerf Tiny's (49x10)."""

    kind: Literal["mfcc"] = "mfcc"
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


class Micro(Table):
    """The front end that microcontrollers run (TensorFlow Lite Micro's): 40 channels, 30 ms windows every 10 ms."""

    kind: Literal["micro"]
    stride: int = Field(2, ge=1, le=10, description="Every so many of the windows are given to the network: 2 gives 49.")


Frontend = Annotated[Mfcc | Micro, Field(discriminator="kind")]


def frame_ms(settings: Mfcc | Micro) -> int:
    """How many milliseconds lie between two rows of a front end's features."""
    return 10 * settings.stride if isinstance(settings, Micro) else settings.hop_ms
