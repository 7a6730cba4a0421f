"""Protocols: named lists of attacks with all their parameters, one TOML file each in `models/protocols/`.

An attack is one class here: its parameters, and how ART's attack is made from them. A new attack is a new class in `Attack`.
"""

import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinyrobust import assets, toml
from tinyrobust.errors import RecipeError

TargetName = Literal["keras", "int8"]
# Samples that ART attacks side by side. The targets cut their own batches, so this bounds only ART's arrays.
_BATCH = 1024


class _Attack(BaseModel):
    """What every attack states.

    `on` is the target whose gradients or scores make the examples; they are also tried on every target in `transfer_to`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    transfer_to: tuple[TargetName, ...] = ()

    def fitted(self, input_shape: tuple[int, ...]) -> Self:  # noqa: ARG002
        """The parameters as they are used on inputs of this shape [h, w, c]: these, unless an attack must adapt."""
        return self

    def parameters(self) -> dict[str, float | int | str | bool]:
        """Everything that decides what the attack does, for the record."""
        return self.model_dump(exclude={"name", "on", "transfer_to"})


class Fgsm(_Attack):
    """Fast gradient sign method (Goodfellow et al. 2015): one step of size epsilon along the sign of the gradient."""

    kind: Literal["fgsm"]
    on: Literal["keras"] = "keras"

    def build(self, estimator: Any, epsilon: float) -> Any:
        """ART's attack at one epsilon."""
        from art.attacks.evasion import FastGradientMethod

        return FastGradientMethod(estimator, norm=math.inf, eps=epsilon, batch_size=_BATCH)


class Pgd(_Attack):
    """Projected gradient descent (Madry et al. 2018): steps along the sign of the gradient, projected into the ball."""

    kind: Literal["pgd"]
    on: Literal["keras"] = "keras"
    steps: int = Field(ge=1)
    relative_step: float = Field(gt=0, le=1, description="Step size as a share of epsilon.")
    random_starts: int = Field(ge=0, description="Runs from random points of the ball; 0: one run from the image itself.")

    def build(self, estimator: Any, epsilon: float) -> Any:
        """ART's attack at one epsilon; its NumPy loop is the fastest around compiled gradients."""
        from art.attacks.evasion.projected_gradient_descent import projected_gradient_descent_numpy as numpy_loop

        return numpy_loop.ProjectedGradientDescentNumpy(
            estimator,
            norm=math.inf,
            eps=epsilon,
            eps_step=self.relative_step * epsilon,
            max_iter=self.steps,
            num_random_init=self.random_starts,
            batch_size=_BATCH,
            verbose=False,
        )


class Square(_Attack):
    """Square Attack (Andriushchenko et al. 2020): random squares, kept when the margin of the scores falls; no gradients."""

    kind: Literal["square"]
    on: TargetName
    iterations: int = Field(ge=1)
    restarts: int = Field(ge=1)
    initial_share: float = Field(gt=0, lt=1, description="Share of the pixels in the first squares; it shrinks by schedule.")

    def fitted(self, input_shape: tuple[int, ...]) -> Self:
        """ART needs every square to be smaller than the image: lowers `initial_share` on very small or oblong inputs."""
        height, width = input_shape[:2]
        largest = min(height, width) - 1
        if round(math.sqrt(self.initial_share * height * width)) <= largest:
            return self
        return self.model_copy(update={"initial_share": largest**2 / (height * width)})

    def build(self, estimator: Any, epsilon: float) -> Any:
        """ART's attack at one epsilon."""
        from art.attacks.evasion import SquareAttack

        return SquareAttack(
            estimator,
            norm=math.inf,
            eps=epsilon,
            max_iter=self.iterations,
            nb_restarts=self.restarts,
            p_init=self.initial_share,
            batch_size=_BATCH,
            verbose=False,
        )


Attack = Annotated[Fgsm | Pgd | Square, Field(discriminator="kind")]


class Protocol(BaseModel):
    """A protocol; `name` is its file's name. The file's key for the attacks is `[[attack]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    description: str
    attacks: tuple[Attack, ...] = Field(alias="attack", min_length=1)

    @model_validator(mode="after")
    def _attacks_fit_together(self) -> Self:
        names = [attack.name for attack in self.attacks]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected a name of its own for every attack. Received: {names}")
        for attack in self.attacks:
            if attack.on in attack.transfer_to:
                raise ValueError(f"Expected other targets in transfer_to. Received: {attack.name!r} is made on {attack.on!r}")
        return self


def load(source: str | Path) -> Protocol:
    """Reads a protocol.

    Args:
        source: A name from `models/protocols/`, or the path of a TOML file.

    Raises:
        RecipeError: There is none, or a key or value does not fit; the nearest valid name is given.
    """
    known = assets.protocols()
    path = known.get(str(source), Path(source))
    if not path.is_file():
        close = difflib.get_close_matches(str(source), known, n=1, cutoff=0.4)
        raise RecipeError(
            f"There is no protocol {str(source)!r}: expected one of {', '.join(known)}, or the path of a TOML file.",
            hint=f"Did you mean {close[0]!r}?" if close else None,
        )
    return toml.named(path, Protocol, RecipeError)
