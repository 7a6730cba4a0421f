"""The activation formats that a precision rule names: a format is a table here and a layer in `quantizers/`."""

import pkgutil
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tinyrobust.recipe.table import Table


class ActivationFormat(Table):
    """What all activation formats have; all keys but the kind are arguments of the layer's constructor.

    Attributes:
        layer: The class of the layer, `module:class`, imported when a layer is built.
        settings: Further arguments.
        range_from: What sets the upper bound: nothing, training, or calibration images after training.
    """

    layer: ClassVar[str]
    settings: ClassVar[dict[str, bool]] = {}
    range_from: ClassVar[Literal["fixed", "training", "calibration"]] = "fixed"

    def build(self, name: str) -> object:
        """The activation layer, a `quantizers.activations.ActivationQuantizer` of that name."""
        made: object = pkgutil.resolve_name(self.layer)(name=name, **self.settings, **self.model_dump(exclude={"kind"}))
        return made


class QuantizedActivations(ActivationFormat):
    """What the formats have whose activations are rounded."""

    bits: int = Field(8, ge=1, le=8, description="Of one activation: 2^bits levels, from 0 to the range's upper end.")


class Relu6(QuantizedActivations):
    """Activations in [0, 6]."""

    layer: ClassVar[str] = "tinyrobust.quantizers.activations:QuantizedReLU6"
    kind: Literal["relu6"]


class Pact(QuantizedActivations):
    """Activations whose upper bound is learned (Choi et al. 2018)."""

    layer: ClassVar[str] = "tinyrobust.quantizers.activations:Pact"
    range_from = "training"
    kind: Literal["pact"]
    start: float = Field(6.0, gt=0, description="The bound before training.")
    decay: float = Field(1e-4, ge=0, description="Weight of the L2 penalty that pulls the bound down: decay * bound^2.")


class Dorefa(QuantizedActivations):
    """Activations in [0, 1] (Zhou et al. 2016)."""

    layer: ClassVar[str] = "tinyrobust.quantizers.dorefa:DorefaActivation"
    kind: Literal["dorefa"]


class Lsq(QuantizedActivations):
    """Activations whose step is learned (Esser et al. 2020)."""

    layer: ClassVar[str] = "tinyrobust.quantizers.lsq:LsqActivation"
    range_from = "training"
    kind: Literal["lsq"]
    start: float = Field(6.0, gt=0, description="The bound before training; the first batch of training sets another.")


class FloatRelu6(ActivationFormat):
    """ReLU6 left in float."""

    layer: ClassVar[str] = "tinyrobust.quantizers.activations:QuantizedReLU6"
    settings: ClassVar[dict[str, bool]] = {"rounding": False}
    kind: Literal["float"]


class Calibrated(QuantizedActivations):
    """Activations whose upper bound is set after training, from what the float network puts out on calibration images."""

    layer: ClassVar[str] = "tinyrobust.quantizers.post_training:Calibrated"
    range_from = "calibration"
    kind: Literal["calibrated"]
    range: Literal["min-max", "percentile", "mse"] = Field(
        "min-max", description="The bound: the largest activation, a percentile, or the least squared error of rounding."
    )
    percentile: float = Field(
        99.99, gt=0, le=100, description="Of all activations, zeros too, where the range is a percentile."
    )


Activations = Annotated[Relu6 | Pact | Dorefa | Lsq | FloatRelu6 | Calibrated, Field(discriminator="kind")]
