"""Attacks that are at home on sound: one delta for all clips, and shifts in time."""

from typing import ClassVar, Literal

from pydantic import Field

from tinyrobust.attacks.specs.base import GradientSpec, ScoreSpec


class Universal(GradientSpec):
    """One perturbation for all samples, learned on validation samples (Moosavi-Dezfooli et al. 2017; Shafahi et al. 2020).

    In L-inf the same level everywhere; in snr as loud as the ratio says, relative to each clip.
    """

    implementation: ClassVar[str] = "tinyrobust.attacks.universal:Universal"
    learns: ClassVar[bool] = True
    targetable: ClassVar[bool] = False
    kind: Literal["universal"]
    norm: Literal["linf", "snr"] = "linf"
    epochs: int = Field(20, ge=1, description="Passes over the samples that it learns on.")
    relative_step: float = Field(0.1, gt=0, le=1, description="Size of the first step as a share of the radius.")
    step_samples: int = Field(64, ge=1, description="Samples that a step learns on.")


class Shift(ScoreSpec):
    """The clip moved in time, either way: no attacker is needed for that. Its radius is in milliseconds."""

    implementation: ClassVar[str] = "tinyrobust.attacks.sound:Shift"
    kind: Literal["shift"]
    norm: Literal["shift"] = "shift"
    step: int = Field(10, ge=1, description="From one shift that is tried to the next, in ms; epsilon at most.")


Sound = Universal | Shift
