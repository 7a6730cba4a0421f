"""Attacks that ask for scores or decisions only."""

from typing import ClassVar, Literal

from pydantic import Field

from tinyrobust.attacks.specs.base import BallNorm, ScoreSpec
from tinyrobust.attacks.target import Target


class Square(ScoreSpec):
    """Square Attack (Andriushchenko et al. 2020): random squares, kept when the margin of the scores falls; no gradients.

    On sound: windows in time instead of squares, tones instead of colours. On images in L-inf and L2 only.
    A first square of all pixels (`initial_share` 1) is allowed: the moves are defined for it.
    """

    implementation: ClassVar[str] = "tinyrobust.attacks.square:Square"
    kind: Literal["square"]
    norm: Literal["linf", "l2", "snr"] = "linf"
    iterations: int = Field(5000, ge=1, description="Squares tried per restart; AutoAttack's are 5,000.")
    restarts: int = Field(1, ge=1, description="Runs from other starts, for samples that still stand.")
    initial_share: float = Field(
        0.8, gt=0, le=1, description="Share of the pixels in the first squares; it shrinks by schedule."
    )

    def _implementation(self, estimator: Target) -> str:
        return "tinyrobust.attacks.sound:SquareInTime" if len(estimator.input_shape) == 1 else self.implementation


class Noise(ScoreSpec):
    """Random noise of the given radius, the best of some draws: what no attack may be weaker than.

    - "uniform": uniformly distributed in the ball.
    - "gaussian": a Gaussian direction, as long as the radius.
    - "salt": salt and pepper, denser with every draw: some values become the lowest or highest there is, then all are drawn
      towards the image until they are in the ball.
    """

    implementation: ClassVar[str] = "tinyrobust.attacks.noise:Noise"
    kind: Literal["noise"]
    norm: BallNorm = "linf"
    noise: Literal["uniform", "gaussian", "salt"] = "uniform"
    draws: int = Field(10, ge=1, description="Points tried.")


class NearestScoreSpec(ScoreSpec):
    """An attack for the nearest example, however far."""

    minimal: ClassVar[bool] = True
    targetable: ClassVar[bool] = False


class Boundary(NearestScoreSpec):
    """Boundary attack (Brendel et al. 2018): a walk along the boundary; only the named class is asked for.

    The norm decides which start is the nearest one; the walk itself shortens the L2 distance.
    """

    implementation: ClassVar[str] = "tinyrobust.attacks.boundary:Boundary"
    kind: Literal["boundary"]
    norm: Literal["linf", "l2"] = "l2"
    steps: int = Field(500, ge=1, description="Steps of the walk.")
    trials: int = Field(
        25, ge=1, description="Tries for the length of each of the two parts of a step; without success the walk ends."
    )
    directions: int = Field(20, ge=1, description="Directions tried per trial.")
    draws: int = Field(100, ge=1, description="Random starts tried.")


class HopSkipJump(NearestScoreSpec):
    """HopSkipJump (Chen et al. 2020): estimates the boundary's normal from decisions. The norm is what it shortens."""

    implementation: ClassVar[str] = "tinyrobust.attacks.hopskipjump:HopSkipJump"
    kind: Literal["hopskipjump"]
    norm: Literal["linf", "l2"] = "l2"
    steps: int = Field(20, ge=1)
    queries: int = Field(1000, ge=1, description="The most decisions for one normal.")
    first_queries: int = Field(
        100, ge=1, description="Decisions for the first normal; in step t there are sqrt(t) times as many."
    )
    draws: int = Field(100, ge=1, description="Random starts tried.")


class Zoo(NearestScoreSpec):
    """ZOO (Chen et al. 2017): C&W with gradients estimated from scores.

    Ten steps a search by default, as the papers' protocol has it (and ART): each asks for 256 scores a sample.
    """

    implementation: ClassVar[str] = "tinyrobust.attacks.zoo:ZeroOrder"
    kind: Literal["zoo"]
    norm: Literal["l2"] = "l2"
    steps: int = Field(10, ge=1, description="Steps a search, each on `coordinates` values at two queries a value.")
    searches: int = Field(4, ge=1, description="Searches for the constant that weighs the margin.")
    coordinates: int = Field(128, ge=1, description="Values moved in a step, no more than there are.")
    difference: float = Field(
        0.01,
        gt=0,
        description="Of the finite differences; below half a step of the sensor's grid (0.002) an int8 file does not see them.",
    )
    learning_rate: float = Field(0.1, gt=0, description="Adam's step.")
    constant: float = Field(1.0, gt=0, description="The first one that weighs the margin.")


BlackBox = Square | Noise | Boundary | HopSkipJump | Zoo
