"""`[precision.search]`: how the formats are chosen that make a network's weights fit a budget."""

from typing import Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from tinyrobust.recipe.perturbation import Fgsm, Perturbation
from tinyrobust.recipe.table import Count, Table, with_tuples
from tinyrobust.recipe.weights import FixedPoint, Lsq, Ternary, Weights

_EIGHT_OF_255 = 8 / 255


class Search(Table):
    """A format for every layer, so that together they fit the budget and the measure suffers least.

    The float network is trained first. The sensitivity of a layer to a format is by how much the measure rises when only that
    layer's weights are in that format. Integer programming then chooses a format for each layer.
    """

    candidates: tuple[Weights, ...] = Field(
        (
            Ternary(kind="ternary"),
            Lsq(kind="lsq", bits=2),
            FixedPoint(kind="fixed-point", bits=4),
            FixedPoint(kind="fixed-point", bits=8),
        ),
        min_length=1,
        description="The formats to choose from, as in rules: kinds or tables.",
    )
    measure: Literal["loss", "adversarial-loss", "noise"] = Field(
        "loss",
        description="What shall rise least: the loss; the loss and that under attack; or the loss and the adversarial noise "
        "sensitivity of QUANOS (Panda 2020).",
    )
    perturbation: Perturbation | None = Field(
        None, description="The attack of the last two measures; FGSM at 8/255 where it is left out."
    )
    images: Count = Field(512, description="Training images, or features, that are measured on.")

    @field_validator("candidates", mode="before")
    @classmethod
    def _kinds_are_tables(cls, values: JsonValue) -> object:
        if not isinstance(values, list):
            return values
        return tuple({"kind": one} if isinstance(one, str) else with_tuples(one) for one in values)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.candidates)) < len(self.candidates):
            raise ValueError(f"Expected candidates that differ. Received: {', '.join(map(str, self.candidates))}")
        if self.perturbation and self.measure == "loss":
            raise ValueError("Expected a perturbation only beside measure = adversarial-loss or noise. Received: loss")
        if self.perturbation and self.perturbation.domain != "input":
            raise ValueError(f"Expected a perturbation of the network's input. Received: {self.perturbation.kind}")
        return self

    @property
    def attack(self) -> Perturbation:
        """The perturbation, given or not."""
        return self.perturbation or Fgsm(kind="fgsm", epsilon=_EIGHT_OF_255)
