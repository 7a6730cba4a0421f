"""`[robustness]`: how hard a model is attacked."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.table import Count, Decibels, Table

Radii = tuple[Annotated[float, Field(gt=0)], ...]


class Waveform(Table):
    """How hard the sound itself is attacked, before the front end. Without this table it is not.

    L-inf radii are a share of the 16-bit range, from 0 (-32768) to 1 (32768): 0.001 is 65.5 of 65,536 steps, and in
    amplitude from -1 to 1 twice as much, 0.002.
    """

    protocol: str = Field("waveform", description="A file in models/protocols/.")
    epsilons: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.0005, 0.001, 0.002), description="L-inf radii, rising, as a share of the 16-bit range."
    )
    snr_db: tuple[Decibels, ...] = Field((30.0, 20.0, 10.0), description="Of the clip to what an attack adds, falling.")
    headline_snr_db: float = Field(20.0, description="Of the headline: one of snr_db.")
    shift_ms: tuple[Annotated[int, Field(ge=1, le=500)], ...] = Field(
        (50, 100), description="Largest shifts in time, rising: the baseline that no one had to search for."
    )
    samples: Count = Field(200, description="A stratified subset of the test clips is attacked.")

    @model_validator(mode="after")
    def _headline_is_measured(self) -> Self:
        if self.headline_snr_db not in self.snr_db:
            raise ValueError(f"Expected a headline_snr_db among snr_db. Received: {self.snr_db}, {self.headline_snr_db}")
        for radii in (self.epsilons, self.shift_ms, tuple(-db for db in self.snr_db)):
            if list(radii) != sorted(set(radii)) or not radii:
                raise ValueError(f"Expected radii that rise, and an snr_db that falls. Received: {radii}")
        return self


def noise_ratio(snr_db: float) -> float:
    """The length of what is added, as a share of the clip's (both L2): 20 dB is 0.1."""
    return float(10 ** (-snr_db / 20))


class Robustness(Table):
    """How hard it is attacked. Radii are in input units ([0, 1] for images)."""

    protocol: str = Field("quick", description="A file in models/protocols/.")
    epsilons: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (2 / 255, 4 / 255, 8 / 255), description="L-inf radii, rising: the largest change of any input value."
    )
    l2: Radii = Field((0.25, 0.5, 1.0), description="L2 radii, rising, for attacks in that norm.")
    l1: Radii = Field((3.0, 6.0, 12.0), description="L1 radii, rising, for attacks in that norm.")
    l0: Radii = Field((2.0, 4.0, 8.0), description="How many input values an attack in L0 may change, rising.")
    headline: float = Field(8 / 255, description="The epsilon of the headline: one of `epsilons`.")
    samples: Count = Field(200, description="A stratified subset of the test images is attacked.")
    grid: bool = Field(False, description="Try every example rounded to the sensor's 8 bits too, and say how many still work.")
    corruptions: str | None = Field(
        None,
        description="A file of corruptions in models/protocols/, such as corruptions: what a camera does to images, besides.",
    )
    waveform: Waveform | None = Field(None, description="Speech: the sound is attacked too.")
    members: int | None = Field(
        None,
        ge=2,
        le=64,
        description="Of [[stochastic]]: draws that an answer is made of. When absent, as many as it is trained with, or 16.",
    )

    @model_validator(mode="after")
    def _headline_is_measured(self) -> Self:
        if not self.epsilons or self.headline not in self.epsilons:
            raise ValueError(f"Expected a headline among the epsilons. Received: {self.epsilons}, {self.headline}")
        for radii in (self.epsilons, self.l2, self.l1, self.l0):
            if list(radii) != sorted(set(radii)):
                raise ValueError(f"Expected radii that rise. Received: {radii}")
        return self
