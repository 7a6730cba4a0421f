"""Attacks that follow gradients and stay within a radius."""

from typing import ClassVar, Literal, Self

from pydantic import Field

from tinyrobust.attacks.specs.base import BallNorm, GradientSpec

# What they maximise: see `attacks/losses.py`.
Loss = Literal["ce", "dlr", "margin"]


class Fgsm(GradientSpec):
    """Fast gradient method (Goodfellow et al. 2015): one step of size epsilon along the steepest ascent of the loss."""

    implementation: ClassVar[str] = "tinyrobust.attacks.pgd:FastGradient"
    steps: ClassVar[int] = 1
    step_share: ClassVar[float] = 1.0
    random_starts: ClassVar[int] = 0
    kind: Literal["fgsm"]
    norm: BallNorm = "linf"
    loss: Loss = "ce"


class Pgd(GradientSpec):
    """Projected gradient descent (Madry et al. 2018): steps along the steepest ascent of a loss, projected into the ball."""

    implementation: ClassVar[str] = "tinyrobust.attacks.pgd:ProjectedGradient"
    kind: Literal["pgd"]
    norm: BallNorm = "linf"
    steps: int = Field(20, ge=1, description="Gradients a run.")
    relative_step: float | None = Field(
        None, gt=0, le=1, description="Step size as a share of epsilon; 2.5 / steps when absent."
    )
    random_starts: int = Field(1, ge=0, description="Runs from random points of the ball; 0: one run from the image itself.")
    loss: Loss = "ce"

    @property
    def step_share(self) -> float:
        """Length of a step as a share of epsilon; by default 2.5 / steps, 1 at most (Madry et al. 2018, section 5)."""
        return min(1.0, 2.5 / self.steps) if self.relative_step is None else self.relative_step

    def harder(self) -> Self:
        """More steps and one more start."""
        return self.model_copy(update={"steps": 5 * self.steps, "random_starts": self.random_starts + 1})


class StepwiseSpec(GradientSpec):
    """An attack of steps and restarts."""

    steps: int = Field(100, ge=1, description="Steps a run.")
    restarts: int = Field(1, ge=1, description="Runs, each from a random point.")

    def harder(self) -> Self:
        """More steps and one more restart."""
        return self.model_copy(update={"steps": 5 * self.steps, "restarts": self.restarts + 1})


class Apgd(StepwiseSpec):
    """APGD (Croce & Hein 2020): PGD that chooses its own step sizes, on the cross-entropy, the DLR or the margin."""

    implementation: ClassVar[str] = "tinyrobust.attacks.apgd:AutoProjectedGradient"
    kind: Literal["apgd"]
    norm: BallNorm = "linf"
    loss: Loss = "ce"


class ApgdT(StepwiseSpec):
    """APGD-T (Croce & Hein 2020): APGD on the targeted DLR, towards each of the most likely wrong classes.

    It is untargeted towards the outside: `y` are true classes, and any wrong class counts.
    """

    implementation: ClassVar[str] = "tinyrobust.attacks.apgd:TargetedAutoProjectedGradient"
    targetable: ClassVar[bool] = False
    loss: ClassVar[Literal["targeted-dlr"]] = "targeted-dlr"
    kind: Literal["apgd-t"]
    norm: BallNorm = "linf"
    targets: int = Field(9, ge=1, description="Wrong classes that are tried, no more than there are, the likeliest first.")


Gradient = Fgsm | Pgd | Apgd | ApgdT
