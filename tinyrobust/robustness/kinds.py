"""The kinds of attacks that a protocol can list: one class each, with its parameters and how the attack is made from them.

A new kind of attack is a new class in `Attack`.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tinyrobust.robustness.attack_kind import AttackKind, BallNorm, GradientKind
from tinyrobust.robustness.kinds_sound import Shift, Universal


class Fgsm(GradientKind):
    """Fast gradient method (Goodfellow et al. 2015): one step of size epsilon along the steepest ascent of the loss."""

    kind: Literal["fgsm"]
    norm: BallNorm = "linf"

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """One step."""
        from tinyrobust.attacks.pgd import FastGradient

        return FastGradient(estimator, norm=self.norm, epsilon=epsilon, seed=seed, drop=drop)


class Pgd(GradientKind):
    """Projected gradient descent (Madry et al. 2018): steps along the steepest ascent of a loss, projected into the ball."""

    kind: Literal["pgd"]
    norm: BallNorm = "linf"
    steps: int = Field(ge=1)
    relative_step: float | None = Field(
        None, gt=0, le=1, description="Step size as a share of epsilon; 2.5 / steps when absent."
    )
    random_starts: int = Field(ge=0, description="Runs from random points of the ball; 0: one run from the image itself.")
    loss: Literal["ce", "dlr", "margin"] = "ce"

    def harder(self) -> Self:
        """More steps and one more start."""
        return self.model_copy(update={"steps": 5 * self.steps, "random_starts": self.random_starts + 1})

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """The best of all starts."""
        from tinyrobust.attacks.pgd import ProjectedGradient

        return ProjectedGradient(
            estimator,
            norm=self.norm,
            epsilon=epsilon,
            steps=self.steps,
            relative_step=self.relative_step,
            restarts=max(1, self.random_starts),
            random_start=self.random_starts > 0,
            loss=self.loss,
            seed=seed,
            drop=drop,
        )


class _Stepwise(GradientKind):
    steps: int = Field(100, ge=1)
    restarts: int = Field(1, ge=1)

    def harder(self) -> Self:
        """More steps and one more restart."""
        return self.model_copy(update={"steps": 5 * self.steps, "restarts": self.restarts + 1})

    def settings(self, epsilon: float, seed: int, drop: bool) -> dict[str, Any]:
        """What these attacks are made with."""
        settings = {"norm": self.norm, "epsilon": epsilon, "steps": self.steps, "restarts": self.restarts}
        return settings | {"seed": seed, "drop": drop}


class Apgd(_Stepwise):
    """APGD (Croce & Hein 2020): PGD that chooses its own step sizes, on the cross-entropy, the DLR or the margin."""

    kind: Literal["apgd"]
    norm: BallNorm = "linf"
    loss: Literal["ce", "dlr", "margin"]

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """Untargeted."""
        from tinyrobust.attacks.apgd import AutoProjectedGradient

        return AutoProjectedGradient(estimator, loss=self.loss, **self.settings(epsilon, seed, drop))


class ApgdT(_Stepwise):
    """APGD-T (Croce & Hein 2020): APGD on the targeted DLR, towards each of the most likely wrong classes."""

    kind: Literal["apgd-t"]
    norm: BallNorm = "linf"
    targets: int = Field(9, ge=1)

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """Towards at most as many classes as there are."""
        from tinyrobust.attacks.apgd import TargetedAutoProjectedGradient

        return TargetedAutoProjectedGradient(estimator, targets=self.targets, **self.settings(epsilon, seed, drop))


class Fab(_Stepwise):
    """FAB and FAB-T (Croce & Hein 2020, arXiv 1907.02044): the nearest point of the decision boundary."""

    minimal: ClassVar[bool] = True
    kind: Literal["fab"]
    norm: Literal["linf", "l2"] = "linf"
    targets: int | None = Field(None, ge=1, description="FAB-T: towards each of so many likely wrong classes.")

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """The nearest example; `epsilon` bounds the random starts."""
        from tinyrobust.attacks.fab import FastAdaptiveBoundary

        return FastAdaptiveBoundary(estimator, targets=self.targets, **self.settings(epsilon, seed, drop))


class Square(AttackKind):
    """Square Attack (Andriushchenko et al. 2020): random squares, kept when the margin of the scores falls; no gradients.

    On sound: windows in time instead of squares, tones instead of colours.
    """

    gradients: ClassVar[bool] = False
    kind: Literal["square"]
    norm: Literal["linf", "l2", "snr"] = "linf"
    iterations: int = Field(ge=1)
    restarts: int = Field(ge=1)
    initial_share: float = Field(
        0.8, gt=0, lt=1, description="Share of the pixels in the first squares; it shrinks by schedule."
    )

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """On scores only."""
        from tinyrobust.attacks.sound import SquareInTime
        from tinyrobust.attacks.square import Square as Squares

        settings: dict[str, Any] = {
            "iterations": self.iterations,
            "restarts": self.restarts,
            "initial_share": self.initial_share,
        }
        made = SquareInTime if len(estimator.input_shape) == 1 else Squares
        return made(estimator, norm=self.norm, epsilon=epsilon, seed=seed, drop=drop, **settings)


class Noise(AttackKind):
    """Random noise of the given radius, the best of some draws: what no attack may be weaker than."""

    gradients: ClassVar[bool] = False
    kind: Literal["noise"]
    norm: BallNorm = "linf"
    noise: Literal["uniform", "gaussian", "salt"] = "uniform"
    draws: int = Field(10, ge=1)

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:
        """The best of all draws."""
        from tinyrobust.attacks.noise import Noise as Made

        return Made(estimator, kind=self.noise, draws=self.draws, norm=self.norm, epsilon=epsilon, seed=seed, drop=drop)


class CarliniWagner(GradientKind):
    """C&W (Carlini & Wagner 2017): the nearest example by gradient descent on distance and margin, in L2, L-inf or L0."""

    minimal: ClassVar[bool] = True
    kind: Literal["cw"]
    norm: Literal["linf", "l2", "l0"] = "l2"
    steps: int = Field(50, ge=1)
    searches: int = Field(9, ge=1)

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:  # noqa: ARG002
        """The nearest example, however far."""
        from tinyrobust.attacks.cw import CarliniWagner as Made

        return Made(estimator, norm=self.norm, steps=self.steps, searches=self.searches, seed=seed, drop=drop)


class DeepFool(GradientKind):
    """DeepFool (Moosavi-Dezfooli et al. 2016): steps to the nearest boundary of the linearised network."""

    minimal: ClassVar[bool] = True
    kind: Literal["deepfool"]
    norm: Literal["linf", "l2"] = "l2"
    steps: int = Field(50, ge=1)

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:  # noqa: ARG002
        """The nearest example, however far."""
        from tinyrobust.attacks.deepfool import DeepFool as Made

        return Made(estimator, norm=self.norm, steps=self.steps, seed=seed, drop=drop)


class _Decision(AttackKind):
    gradients: ClassVar[bool] = False
    minimal: ClassVar[bool] = True


class Boundary(_Decision):
    """Boundary attack (Brendel et al. 2018): a walk along the boundary; only the named class is asked for."""

    kind: Literal["boundary"]
    norm: Literal["linf", "l2"] = "l2"
    steps: int = Field(500, ge=1)

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:  # noqa: ARG002
        """Untargeted."""
        from tinyrobust.attacks.boundary import Boundary as Made

        return Made(estimator, norm=self.norm, steps=self.steps, seed=seed, drop=drop)


class HopSkipJump(_Decision):
    """HopSkipJump (Chen et al. 2020): estimates the boundary's normal from decisions."""

    kind: Literal["hopskipjump"]
    norm: Literal["linf", "l2"] = "l2"
    steps: int = Field(20, ge=1)

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:  # noqa: ARG002
        """Untargeted."""
        from tinyrobust.attacks.hopskipjump import HopSkipJump as Made

        return Made(estimator, norm=self.norm, steps=self.steps, seed=seed, drop=drop)


class Zoo(_Decision):
    """ZOO (Chen et al. 2017): C&W with gradients estimated from scores."""

    kind: Literal["zoo"]
    norm: Literal["l2"] = "l2"
    steps: int = Field(10, ge=1)

    def build(self, estimator: Any, epsilon: float, *, seed: int, drop: bool) -> Any:  # noqa: ARG002
        """On scores only."""
        from tinyrobust.attacks.zoo import ZeroOrder

        return ZeroOrder(estimator, norm=self.norm, steps=self.steps, seed=seed, drop=drop)


Attack = Annotated[
    Fgsm
    | Pgd
    | Apgd
    | ApgdT
    | Fab
    | CarliniWagner
    | DeepFool
    | Square
    | Noise
    | Boundary
    | HopSkipJump
    | Zoo
    | Universal
    | Shift,
    Field(discriminator="kind"),
]
