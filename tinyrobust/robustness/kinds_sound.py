"""Kinds of attacks that are at home on sound: one delta for all clips, and shifts in time."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from tinyrobust.robustness.attack_kind import AttackKind, GradientKind


class Universal(GradientKind):
    """One perturbation for all samples, learned on validation samples (Moosavi-Dezfooli et al. 2017; Shafahi et al. 2020).

    In L-inf the same level everywhere; in snr as loud as the ratio says, relative to each clip.
    """

    learns: ClassVar[bool] = True
    kind: Literal["universal"]
    norm: Literal["linf", "snr"] = "linf"
    epochs: int = Field(20, ge=1, description="Passes over the samples that it learns on.")
    relative_step: float = Field(0.1, gt=0, le=1, description="Size of the first step as a share of the radius.")

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """Has still to learn."""
        from tinyrobust.attacks.universal import Universal as Made

        settings: dict[str, Any] = {"epochs": self.epochs, "relative_step": self.relative_step, "batch_size": 64}
        return Made(estimator, norm=self.norm, epsilon=epsilon, seed=seed, drop=drop, **settings)


class Shift(AttackKind):
    """The clip moved in time, either way: no attacker is needed for that. Its radius is in milliseconds."""

    gradients: ClassVar[bool] = False
    kind: Literal["shift"]
    norm: Literal["shift"] = "shift"
    step: int = Field(10, ge=1, description="From one shift that is tried to the next, in ms.")

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """The nearest shift that breaks a sample."""
        from tinyrobust.attacks.sound import Shift as Made

        return Made(estimator, epsilon=epsilon, step=self.step, seed=seed, drop=drop)
