"""`[train.adversarial]`: whether a network learns on attacks."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from tinyrobust.recipe.table import Count, Decibels, Table


class Adversarial(Table):
    """Fast adversarial training (Wong et al. 2020): every image is replaced by one made against the network by one step."""

    epsilon: float = Field(gt=0, le=1, description="Radius of the L-inf ball, in input units ([0, 1] for images).")
    step: float = Field(1.25, gt=0, le=2, description="Size of the step, as a multiple of epsilon.")


class AdversarialSound(Table):
    """The same on the sound of clips: noise is made against the network, through the front end, at a signal-to-noise ratio."""

    domain: Literal["waveform"]
    snr_db: tuple[Decibels, Decibels] = Field(
        (20.0, 20.0), description="Of the clip to the noise: drawn for each clip from this range."
    )
    steps: Count = Field(1, description="Gradients a batch.")
    step: float = Field(1.25, gt=0, le=2, description="Size of a step, as a multiple of the radius.")

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"Expected snr_db from low to high. Received: {self.snr_db}")
        return self


def _domain(table: Any) -> str:
    given = table.get("domain") if isinstance(table, dict) else getattr(table, "domain", None)
    return "features" if given is None else "waveform"


# Without a domain: features, or images.
Adversary = Annotated[
    Annotated[Adversarial, Tag("features")] | Annotated[AdversarialSound, Tag("waveform")], Discriminator(_domain)
]
