"""Attacks that follow gradients to the nearest adversarial example, however far."""

from typing import ClassVar, Literal

from pydantic import Field

from tinyrobust.attacks.specs.base import GradientSpec
from tinyrobust.attacks.specs.gradient import StepwiseSpec


class Fab(StepwiseSpec):
    """FAB and FAB-T (Croce & Hein 2020, arXiv 1907.02044): the nearest point of the decision boundary.

    The first run (towards each class) starts from the input, the others from random points at most epsilon / 2 away. With
    `drop`, a sample with an example within epsilon has no further runs.
    """

    implementation: ClassVar[str] = "tinyrobust.attacks.fab:FastAdaptiveBoundary"
    minimal: ClassVar[bool] = True
    targetable: ClassVar[bool] = False
    kind: Literal["fab"]
    norm: Literal["linf", "l2", "l1"] = "linf"
    targets: int | None = Field(None, ge=1, description="FAB-T: towards each of so many likely wrong classes.")


class CarliniWagner(GradientSpec):
    """C&W (Carlini & Wagner 2017): the nearest example by gradient descent on distance and margin, in L2, L-inf or L0."""

    implementation: ClassVar[str] = "tinyrobust.attacks.cw:CarliniWagner"
    minimal: ClassVar[bool] = True
    kind: Literal["cw"]
    norm: Literal["linf", "l2", "l0"] = "l2"
    steps: int = Field(50, ge=1, description="Gradients a descent.")
    searches: int = Field(9, ge=1, description="Descents.")
    confidence: float = Field(0.0, ge=0, description="Margin that an example must have, in logits.")
    learning_rate: float = Field(0.3, gt=0, description="Adam's first step, as a share of the largest change that is expected.")


class DeepFool(GradientSpec):
    """DeepFool (Moosavi-Dezfooli et al. 2016): steps to the nearest boundary of the linearised network."""

    implementation: ClassVar[str] = "tinyrobust.attacks.deepfool:DeepFool"
    minimal: ClassVar[bool] = True
    targetable: ClassVar[bool] = False
    kind: Literal["deepfool"]
    norm: Literal["linf", "l2"] = "l2"
    steps: int = Field(50, ge=1, description="The most steps; a sample stops when it is broken.")
    overshoot: float = Field(0.02, ge=0, description="Share by which a step is longer than the linearisation says.")
    candidates: int = Field(
        9, ge=1, description="Other classes looked at: those with the highest logits in every step. One gradient each."
    )


Nearest = Fab | CarliniWagner | DeepFool
