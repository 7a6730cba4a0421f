"""`[precision]`: the ordered rules that give layers their quantizers.

A rule names a weight format by its kind (`weights = "ternary"`) or writes its table (`weights = { kind = "fixed-point",
bits = 4 }`); `bits` beside the kind of one that has them is short for the latter. An activation format is named the same ways.
The formats to choose from stand in `recipe/weights.py` and `recipe/activations.py`.

With a `budget`, rules may leave the weights out: a search chooses a format for every layer that such a rule matches, so that
packed weights and tables of the whole network fit (`recipe/search.py`).
"""

import re
from collections.abc import Mapping
from typing import Self

from pydantic import Field, JsonValue, field_validator, model_validator

from tinyrobust import sizes
from tinyrobust.choices import members
from tinyrobust.recipe.activations import Activations, FloatRelu6, Relu6
from tinyrobust.recipe.search import Search
from tinyrobust.recipe.table import Count, Expression, Table, with_tuples
from tinyrobust.recipe.weights import Float, WeightFormat, Weights


class PrecisionRule(Table):
    """How the layers whose whole name matches the regular expression `layers` store weights and activations."""

    layers: Expression
    weights: Weights | None = Field(None, description="A format; left out, the search of the budget chooses for each layer.")
    activations: Activations = Relu6(kind="relu6")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: JsonValue) -> object:
        """Kinds written as text become tables."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if isinstance(kind := values.get("weights"), str):
            table: dict[str, JsonValue] = {"kind": kind}
            known = members(Weights)
            if "bits" in values and kind in known:
                if "bits" not in known[kind].model_fields:
                    able = ", ".join(name for name, one in known.items() if "bits" in one.model_fields)
                    raise ValueError(f"Expected bits only beside {able}. Received: bits beside {kind}, which has its own")
                table["bits"] = values.pop("bits")
            values["weights"] = table
        if isinstance(kind := values.get("activations"), str):
            values["activations"] = {"kind": kind}
        return {key: with_tuples(value) for key, value in values.items()}

    def matches(self, name: str, role: str | None = None) -> bool:
        """Whether the whole name of a layer, or the other name that it answers to, matches."""
        return any(re.fullmatch(self.layers, one) for one in (name, role) if one)


class Precision(Table):
    """Which layer gets which quantizers: of the rules that match its name, the first counts."""

    rules: tuple[PrecisionRule, ...] = Field((PrecisionRule(layers=".*"),), alias="rule", min_length=1)
    budget: Count | None = Field(
        None,
        description='Bytes for packed weights and tables, or text such as "128 KiB"; left out, every rule names its weights.',
    )
    search: Search = Search()

    @field_validator("budget", mode="before")
    @classmethod
    def _is_a_size(cls, value: object) -> object:
        return sizes.parsed(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _leaves_something_to_choose(self) -> Self:
        unsaid = [rule.layers for rule in self.rules if rule.weights is None]
        if unsaid and self.budget is None:
            raise ValueError(f"Expected weights in every [[precision.rule]], or a budget. Received: none for {unsaid[0]!r}")
        if self.budget is not None and not unsaid:
            raise ValueError(
                "Expected a [[precision.rule]] without weights beside a budget: those are chosen to fit. "
                "Received: rules that all name theirs"
            )
        if self.budget is None and self.search != Search():
            raise ValueError("Expected a budget beside [precision.search]. Received: none")
        return self

    @property
    def formats(self) -> tuple[str, ...]:
        """The kinds of weight formats that the rules name, each once."""
        return tuple(dict.fromkeys(one.model_dump()["kind"] for one in self._named))

    @property
    def phases(self) -> tuple[tuple[float, float], ...]:
        """Start (as a share of all steps) and value of every phase of training, of the first rule whose weights have phases."""
        return next((one.phases for one in self._named if one.phases), ())

    @property
    def one_sided(self) -> bool:
        """Whether any weights have levels that a batch norm of negative scale would turn around; see `WeightFormat`."""
        return any(one.one_sided for one in self._named)

    @property
    def _named(self) -> tuple[WeightFormat, ...]:
        return tuple(rule.weights for rule in self.rules if rule.weights is not None)

    def match(self, name: str, role: str | None = None) -> int | None:
        """The number of the rule that gives layer `name` its precision; None where none does.

        Args:
            name: Of the layer.
            role: Another name that rules may match: `stem` or `logits`, where the layer is called otherwise.
        """
        return next((index for index, rule in enumerate(self.rules) if rule.matches(name, role)), None)

    def weights(self, name: str, role: str | None = None) -> Weights | None:
        """The weight format of layer `name`; None where it is still to be chosen, or where no rule matches; see `match`."""
        index = self.match(name, role)
        return None if index is None else self.rules[index].weights

    def choose(self, formats: Mapping[str, Weights]) -> "Precision":
        """The precision with a format for every layer that a rule leaves open, by the layers' names."""
        return ChosenPrecision(rule=self.rules, budget=self.budget, search=self.search, chosen=dict(formats))


class ChosenPrecision(Precision):
    """A precision whose open layers have formats. It is what a search comes to, and no part of a recipe's file or hash."""

    chosen: dict[str, Weights]

    @property
    def _named(self) -> tuple[WeightFormat, ...]:
        return (*super()._named, *self.chosen.values())

    def weights(self, name: str, role: str | None = None) -> Weights | None:
        """The weight format of layer `name`, named or chosen."""
        return super().weights(name, role) or self.chosen.get(name)


FLOAT = Precision(rule=(PrecisionRule(layers=".*", weights=Float(kind="float"), activations=FloatRelu6(kind="float")),))
