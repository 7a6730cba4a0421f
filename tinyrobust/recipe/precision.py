"""`[precision]`: the ordered rules that give layers their quantizers.

A rule names a weight format by its kind (`weights = "ternary"`) or writes its table (`weights = { kind = "fixed-point",
bits = 4 }`); `bits` beside the kind of one that has them is short for the latter. An activation format is named the same ways.
The formats to choose from stand in `recipe/weights.py` and `recipe/activations.py`.
"""

import re

from pydantic import Field, JsonValue, field_validator, model_validator

from tinyrobust.choices import members
from tinyrobust.recipe.activations import Activations, FloatRelu6, Relu6
from tinyrobust.recipe.table import Table
from tinyrobust.recipe.weights import Float, Weights


def _with_tuples(table: JsonValue) -> object:
    """Lists as tuples: pydantic's strict mode takes the former for the latter from JSON only, not from a validator."""
    if not isinstance(table, dict):
        return table
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


class PrecisionRule(Table):
    """How the layers whose whole name matches the regular expression `layers` store weights and activations."""

    layers: str
    weights: Weights
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
        return {key: _with_tuples(value) for key, value in values.items()}

    @field_validator("layers")
    @classmethod
    def _is_a_regular_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"Expected a regular expression. Received: {value!r} ({error})") from error
        return value


class Precision(Table):
    """Which layer gets which quantizers: of the rules that match its name, the first counts."""

    rules: tuple[PrecisionRule, ...] = Field(alias="rule", min_length=1)

    @property
    def formats(self) -> tuple[str, ...]:
        """The kinds of weight formats that the rules name, each once."""
        return tuple(dict.fromkeys(rule.weights.kind for rule in self.rules))

    @property
    def phases(self) -> tuple[tuple[float, float], ...]:
        """Start (as a share of all steps) and value of every phase of training, of the first rule whose weights have phases."""
        return next((rule.weights.phases for rule in self.rules if rule.weights.phases), ())


FLOAT = Precision(rule=(PrecisionRule(layers=".*", weights=Float(kind="float"), activations=FloatRelu6(kind="float")),))
