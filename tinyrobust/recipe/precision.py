"""`[precision]`: the ordered rules that give layers their quantizers, and the weight and activation formats to choose from.

A format is a table here and a class in `quantizers/`. A rule names one by its kind (`weights = "ternary"`) or writes its table
(`weights = { kind = "fixed-point", bits = 4 }`); `bits` beside the kind of one that has them is short for the latter.
"""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from tinyrobust.choices import members
from tinyrobust.recipe.table import Table


class WeightFormat(Table):
    """What all weight formats have.

    Attributes:
        quantizer: The class of the quantizer, `module:class`, imported when a layer is built; None: weights stay in float.
    """

    quantizer: ClassVar[str | None]


class StochasticTernary(WeightFormat):
    """Three levels per channel; in training a growing share of the channels is quantized (Dong et al., BMVC 2017)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:StochasticTernary"
    kind: Literal["stochastic-ternary"]


class Ternary(WeightFormat):
    """Three levels per channel (Li et al. 2016)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:Ternary"
    kind: Literal["ternary"]


class Binary(WeightFormat):
    """Two levels per channel (Rastegari et al. 2016)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:Binary"
    kind: Literal["binary"]


class FixedPoint(WeightFormat):
    """Integers times a per-channel scale."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:FixedPoint"
    kind: Literal["fixed-point"]
    bits: int = Field(8, ge=2, le=8)


class Float(WeightFormat):
    """Not quantized in training."""

    quantizer: ClassVar[str | None] = None
    kind: Literal["float"]


Weights = Annotated[StochasticTernary | Ternary | Binary | FixedPoint | Float, Field(discriminator="kind")]


class Relu6(Table):
    """8-bit activations in [0, 6]."""

    kind: Literal["relu6"]


class Pact(Table):
    """8-bit activations whose upper bound is learned (Choi et al. 2018)."""

    kind: Literal["pact"]


class FloatRelu6(Table):
    """ReLU6 left in float."""

    kind: Literal["float"]


Activations = Annotated[Relu6 | Pact | FloatRelu6, Field(discriminator="kind")]


class PrecisionRule(Table):
    """How the layers whose whole name matches the regular expression `layers` store weights and activations."""

    layers: str
    weights: Weights
    activations: Activations = Relu6(kind="relu6")

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: JsonValue) -> JsonValue:
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
        return values

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


FLOAT = Precision(rule=(PrecisionRule(layers=".*", weights=Float(kind="float"), activations=FloatRelu6(kind="float")),))
