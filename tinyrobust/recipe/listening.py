"""`[listening]`: how a stream of sound is listened to."""

from typing import Literal

from pydantic import Field

from tinyrobust.recipe.table import Table


class Listening(Table):
    """How a stream of sound is listened to, and with what it is measured; without this table it is not.

    Chen, Parada and Heigold, "Small-footprint keyword spotting using deep neural networks", ICASSP 2014, section 2.3.
    """

    hop_ms: int = Field(
        100, ge=10, le=1000, description="The network judges the last second so often; a multiple of the front end's step."
    )
    smoothing_ms: int = Field(300, ge=10, le=2000, description="Posteriors are averaged over the windows of this time.")
    refractory_ms: int = Field(1000, ge=0, le=10_000, description="After a detection nothing is reported for so long.")
    state: Literal["carried", "reset"] = Field(
        "carried", description="Of a front end that adapts, such as micro: it runs on, or begins anew for every window."
    )
    snr_db: float = Field(10.0, ge=-20, le=60, description="Of a spoken clip to the noise that it is measured in.")
    false_accepts_per_hour: float | None = Field(
        None,
        ge=0,
        description="The lowest threshold that keeps to it on validation audio is taken; when absent, that of fewest errors.",
    )
    clips: int = Field(400, ge=1, description="At most so many clips of keywords, and of other words, of each part.")
