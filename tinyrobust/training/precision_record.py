"""precision.json: which format every layer was given to fit a budget, and what that choice was made from."""

from typing import ClassVar

from pydantic import Field

from tinyrobust.recipe import Recipe
from tinyrobust.recipe.weights import Weights
from tinyrobust.records import Part, Record

PRECISION = "precision.json"


class LayerPrecision(Part):
    """One layer with weights.

    Attributes:
        layer: Its name.
        weight_count: How many weights it has.
        table_bytes: Bytes of its bias and scales.
        format: The format of its weights: chosen, or named by a rule.
        weight_bytes: Bytes of its weights in that format.
        candidate_bytes: Bytes of its weights in each of the candidates, in their order; empty where there was no choice.
        sensitivities: By how much the measure rises when only this layer's weights are in the candidate's format; negative
            where it falls. Likewise.
    """

    layer: str
    weight_count: int
    table_bytes: int
    format: Weights
    weight_bytes: int
    candidate_bytes: tuple[int, ...] = ()
    sensitivities: tuple[float, ...] = ()


class PrecisionRecord(Record):
    """The choice of formats. No times in here: what trains in the chosen precision is trained again when this file changes.

    Attributes:
        budget: Bytes that were given.
        smallest: Bytes of the network with every layer that is free in its smallest candidate.
        largest: Likewise, in its largest.
        measure: What was measured, as the recipe names it.
        images: On how many training images.
        value: The measure of the float network.
        candidates: The formats that there were to choose from.
        layers: Every layer with weights, in the network's order; then the batch norms that none swallows, which become
            convolutions with a weight a channel.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.precision/1"
    budget: int
    smallest: int
    largest: int
    measure: str
    images: int
    value: float
    candidates: tuple[Weights, ...] = Field(min_length=1)
    layers: tuple[LayerPrecision, ...]

    @property
    def weight_bytes(self) -> int:
        """Packed weights: `weights_packed` in the footprint of the file."""
        return sum(one.weight_bytes for one in self.layers)

    @property
    def total(self) -> int:
        """Packed weights and tables: what the budget is for."""
        return self.weight_bytes + sum(one.table_bytes for one in self.layers)

    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe with the chosen formats for the layers that its rules leave open."""
        chosen = {one.layer: one.format for one in self.layers if one.candidate_bytes}
        return recipe.model_copy(update={"precision": recipe.precision.choose(chosen)})
