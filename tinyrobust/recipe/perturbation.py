"""`perturbation = { kind = "...", ... }`: how the inputs that a network learns on are changed against it.

A perturbation is a table here and a class in `training/perturbations/`.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.table import Count, Decibels, Share, Table

Radius = Annotated[float, Field(gt=0, le=1, examples=[0.1])]


class PerturbationTable(Table):
    """What all perturbations have.

    Attributes:
        perturbation: The class, `module:class`, imported when a network is trained.
        domain: What is changed: the input of the network (an image, or the features of a clip), or the sound of a clip.
    """

    perturbation: ClassVar[str]
    domain: ClassVar[Literal["input", "waveform"]] = "input"
    ramp: Share = Field(0.0, description="Share of the steps in which the radius rises from zero, in a line; 0: it is whole.")


class Fgsm(PerturbationTable):
    """One step along the gradient's sign, from a random start (Wong et al. 2020)."""

    perturbation: ClassVar[str] = "tinyrobust.training.perturbations.linf:Fgsm"
    kind: Literal["fgsm"]
    epsilon: Radius = Field(description="Radius of the L-inf ball, in input units ([0, 1] for images).")
    step: float = Field(1.25, gt=0, le=2, description="Size of the step, as a multiple of epsilon.")


class NFgsm(PerturbationTable):
    """One step along the gradient's sign, from noise beyond the ball, not clipped to it (de Jorge et al. 2022)."""

    perturbation: ClassVar[str] = "tinyrobust.training.perturbations.linf:NFgsm"
    kind: Literal["n-fgsm"]
    epsilon: Radius = Field(
        description="Radius that is trained for, in input units; a change may be (noise + step) times as large."
    )
    noise: float = Field(2.0, ge=0, le=4, description="Half-width of the uniform noise, as a multiple of epsilon.")
    step: float = Field(1.0, gt=0, le=2, description="Size of the step, as a multiple of epsilon.")


class Pgd(PerturbationTable):
    """Several steps along the gradient's sign, projected into the ball (Madry et al. 2018)."""

    perturbation: ClassVar[str] = "tinyrobust.training.perturbations.linf:Pgd"
    kind: Literal["pgd"]
    epsilon: Radius = Field(description="Radius of the L-inf ball, in input units ([0, 1] for images).")
    steps: Count = Field(7, description="Gradients a batch.")
    step: float = Field(0.25, gt=0, le=2, description="Size of a step, as a multiple of epsilon.")
    start: Literal["uniform", "gaussian", "input"] = Field(
        "uniform", description="A uniform point of the ball, a normal one of deviation 0.001, or the input itself."
    )


class PgdL2(PerturbationTable):
    """Several steps along the gradient, projected into the L2 ball (Madry et al. 2018)."""

    perturbation: ClassVar[str] = "tinyrobust.training.perturbations.l2:PgdL2"
    kind: Literal["pgd-l2"]
    epsilon: float = Field(gt=0, examples=[0.5], description="Radius: Euclidean norm over the whole input, in input units.")
    steps: Count = Field(7, description="Gradients a batch.")
    step: float = Field(0.25, gt=0, le=2, description="Size of a step, as a multiple of epsilon.")


class Snr(PerturbationTable):
    """Noise in the sound of clips at a signal-to-noise ratio, made through the front end."""

    perturbation: ClassVar[str] = "tinyrobust.training.perturbations.snr:Snr"
    domain: ClassVar[Literal["input", "waveform"]] = "waveform"
    kind: Literal["snr"]
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


Perturbation = Annotated[Fgsm | NFgsm | Pgd | PgdL2 | Snr, Field(discriminator="kind")]
