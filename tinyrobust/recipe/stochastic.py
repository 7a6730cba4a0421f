"""`[[stochastic]]`: quantizers that draw the level of every value, at inference too, and where they stand in the network."""

import pkgutil
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.objective_table import ObjectiveTable
from tinyrobust.recipe.table import Expression, Table

Place = Literal["input", "blocks", "features"]
# Where a quantizer starts when its table does not say it: pixels are in [0, 1], ReLU6 puts out [0, 6].
_HIGH = {"input": 1.0, "blocks": 6.0, "features": 6.0}


class StochasticQuantizer(Table):
    """Bins that are learned, one of which is drawn for every value (Farkya et al. 2023, arXiv 2312.00105).

    Attributes:
        layer: The class of the layer, `module:class`, imported when a layer is built.
    """

    layer: ClassVar[str] = "tinyrobust.quantizers.stochastic:StochasticQuantizer"
    place: Place = Field(
        description="Before the first layer; behind activations, between the blocks; before the layer that makes the logits."
    )
    layers: Expression = Field(".*", description="Of blocks: the activation layers behind which one stands, by whole names.")
    bins: int = Field(8, ge=2, le=64, description="Levels to draw from.")
    alpha: float = Field(
        4.0, gt=0, le=100, description="How sure a draw is: the log-probability falls by so much per mean distance of two bins."
    )
    group: Literal["tensor", "channel"] = Field("tensor", description="What has bins of its own.")
    low: float = Field(0.0, description="The lowest bin before training.")
    high: float | None = Field(None, description="The highest; when absent, 1 at the input and 6 elsewhere.")
    temperature: tuple[float, float] = Field(
        (1.0, 0.2), description="Of the relaxed draw that gradients are of: at the start of training, and at its end."
    )
    spacing: float = Field(
        0.01, ge=0, description="Weight of the penalty on bins that are unevenly spaced: it keeps them from collapsing."
    )
    lipschitz: float = Field(
        0.0, ge=0, description="Weight of the penalty on the steepest slope of the expected output: it amplifies noise."
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not self.low < self.top:
            raise ValueError(f"Expected low below high. Received: low = {self.low:g}, high = {self.top:g}")
        if not all(0 < one <= 100 for one in self.temperature):
            raise ValueError(f"Expected temperatures above 0 and up to 100. Received: {list(self.temperature)}")
        if self.place != "blocks" and self.layers != ".*":
            raise ValueError(f"Expected layers beside place = 'blocks' only. Received: place = {self.place!r}")
        return self

    @property
    def top(self) -> float:
        """The highest bin before training."""
        return _HIGH[self.place] if self.high is None else self.high

    def build(self, name: str, seed: int) -> object:
        """The layer, a `quantizers.stochastic.StochasticQuantizer` of that name."""
        settings = self.model_dump(exclude={"place", "layers", "high", "temperature"})
        made: object = pkgutil.resolve_name(self.layer)(
            name=name, seed=seed, high=self.top, start=self.temperature[0], end=self.temperature[1], **settings
        )
        return made


def check_places(quantizers: Sequence[StochasticQuantizer]) -> None:
    """Refuses two quantizers in one place.

    Raises:
        ValueError: There are such.
    """
    places = [one.place for one in quantizers]
    if len(set(places)) < len(places):
        raise ValueError(f"Expected one [[stochastic]] for a place: input, blocks, features. Received: {', '.join(places)}")


def check_sampled(quantizers: Sequence[StochasticQuantizer], objectives: Sequence[ObjectiveTable]) -> None:
    """What objectives that sample the network need of it.

    Raises:
        ValueError: Nothing is drawn, or no final features are, or nothing before them.
    """
    places = {one.place for one in quantizers}
    for objective in objectives:
        if not objective.samples:
            continue
        kind = objective.model_dump()["kind"]
        if not places:
            raise ValueError(
                f"Expected [[stochastic]] beside the objective {kind!r}: members of its ensemble are draws of one network. "
                "Received: none. Add one, such as place = 'input'"
            )
        if objective.reads_features and "features" not in places:
            raise ValueError(
                f"Expected a [[stochastic]] with place = 'features' beside the objective {kind!r}: mutual information is that "
                f"of the final features, which it makes binary. Received: {', '.join(sorted(places))}"
            )
        if objective.reads_features and places == {"features"}:
            raise ValueError(
                f"Expected a [[stochastic]] at the input or between the blocks beside the objective {kind!r}: otherwise all "
                "members have the same features, and their mutual information is zero. Received: features alone"
            )
