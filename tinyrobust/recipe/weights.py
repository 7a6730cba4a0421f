"""The weight formats that a precision rule names: a format is a table here and a class in `quantizers/`."""

import abc
import pkgutil
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tinyrobust import formats
from tinyrobust.formats import Format
from tinyrobust.recipe.table import Share, Table

Group = Literal["channel", "layer"]
_THRESHOLD_AND_SCALE = "Whether every output channel has a threshold and a scale of its own, or the layer."


class WeightFormat(Table, abc.ABC):
    """What all weight formats have; all keys but the kind are arguments of the quantizer's constructor.

    Attributes:
        quantizer: The class of the quantizer, `module:class`, imported when a layer is built; None: weights stay in float.
    """

    quantizer: ClassVar[str | None]

    @property
    @abc.abstractmethod
    def storage(self) -> Format:
        """The format that the weights end in, in the file and on flash."""

    @property
    def one_sided(self) -> bool:
        """Whether zero has a level more on one side, and the C packs the levels: then no channel may be turned around."""
        return False

    @property
    def phases(self) -> tuple[tuple[float, float], ...]:
        """Start (as a share of all steps) and value of every phase of training; none where nothing changes in its course."""
        return ()

    def arguments(self, seed: int) -> dict[str, object]:
        """What the constructor of the quantizer gets beside the channel axes; `seed` only where it draws."""
        del seed
        return self.model_dump(exclude={"kind"})

    def build(self, channel_axes: tuple[int, ...], seed: int) -> object:
        """The quantizer of one layer.

        Args:
            channel_axes: Axes of the kernel that stay apart: scales are per channel.
            seed: Of this layer, for quantizers that draw.

        Returns:
            A `quantizers.base.WeightQuantizer`; None where weights stay in float.
        """
        if self.quantizer is None:
            return None
        made: object = pkgutil.resolve_name(self.quantizer)(channel_axes=channel_axes, **self.arguments(seed))
        return made


class _Sampled(WeightFormat):
    """What formats have that draw at random in training."""

    def arguments(self, seed: int) -> dict[str, object]:
        """The keys and the seed of the draws."""
        return {**super().arguments(seed), "seed": seed}


class StochasticTernary(_Sampled):
    """Three levels per channel; in training a growing share of the channels is quantized (Dong et al., BMVC 2017)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:StochasticTernary"
    kind: Literal["stochastic-ternary"]
    fractions: tuple[Share, ...] = Field(
        (0.5, 0.75, 0.875, 1.0), description="Share of the channels that is quantized in each phase of training."
    )
    starts: tuple[Share, ...] = Field((0.0, 0.25, 0.5, 0.75), description="Where each phase starts, as a share of all steps.")
    selection: Literal["constant", "linear", "softmax", "sigmoid"] = Field(
        "linear", description="How the probability to be drawn falls with a channel's error: the four rules of the paper."
    )
    unit: Group = Field("channel", description="What is drawn: a share of the channels, or the layer with that probability.")
    group: Group = Field("channel", description=_THRESHOLD_AND_SCALE)

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if len(self.fractions) != len(self.starts):
            raise ValueError(f"Expected as many starts as fractions. Received: {self.starts} and {self.fractions}")
        if not self.starts or self.starts[0] != 0 or list(self.starts) != sorted(set(self.starts)):
            raise ValueError(f"Expected starts that rise from 0. Received: {self.starts}")
        if list(self.fractions) != sorted(self.fractions) or self.fractions[-1] != 1:
            raise ValueError(f"Expected fractions that rise to 1. Received: {self.fractions}")
        return self

    @model_validator(mode="after")
    def _a_layer_has_no_rivals(self) -> Self:
        if self.unit == "layer" and self.selection != "linear":
            raise ValueError(
                f"Expected no selection beside unit = 'layer': there is nothing to select. Received: {self.selection!r}"
            )
        return self

    @property
    def storage(self) -> Format:
        """Ternary: at inference every channel is quantized."""
        return formats.TERNARY

    @property
    def phases(self) -> tuple[tuple[float, float], ...]:
        """Starts and fractions."""
        return tuple(zip(self.starts, self.fractions, strict=True))


class Ternary(WeightFormat):
    """Three levels (Li et al. 2016)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:Ternary"
    kind: Literal["ternary"]
    group: Group = Field("channel", description=_THRESHOLD_AND_SCALE)

    @property
    def storage(self) -> Format:
        """Ternary."""
        return formats.TERNARY


class Binary(WeightFormat):
    """Two levels (Rastegari et al. 2016)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:Binary"
    kind: Literal["binary"]
    group: Group = Field("channel", description="Whether every output channel has a scale of its own, or the layer.")

    @property
    def storage(self) -> Format:
        """Binary."""
        return formats.BINARY


class FixedPoint(WeightFormat):
    """Integers times a per-channel scale."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:FixedPoint"
    kind: Literal["fixed-point"]
    bits: int = Field(8, ge=2, le=8)

    @field_validator("bits", mode="before")
    @classmethod
    def _one_bit_is_binary(cls, value: object) -> object:
        if value == 1:
            raise ValueError('Expected bits from 2 to 8. Received: bits=1; weights of one bit are weights = "binary"')
        return value

    @property
    def storage(self) -> Format:
        """By the bits."""
        return formats.fixed_point(self.bits)


class StochasticBinary(_Sampled):
    """Two levels, in training drawn weight by weight (QKeras)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.sampled:StochasticBinary"
    kind: Literal["stochastic-binary"]
    temperature: float = Field(6.0, gt=0, description="The higher, the less is left to chance.")
    group: Group = Field("channel", description="Whether every output channel has a scale of its own, or the layer.")

    @property
    def storage(self) -> Format:
        """Binary."""
        return formats.BINARY


class StochasticTernaryQKeras(_Sampled):
    """Three levels, in training drawn weight by weight (QKeras)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.sampled:StochasticTernaryQKeras"
    kind: Literal["qkeras-ternary"]
    temperature: float = Field(8.0, gt=0, description="The higher, the less is left to chance.")
    group: Group = Field("channel", description=_THRESHOLD_AND_SCALE)

    @property
    def storage(self) -> Format:
        """Ternary."""
        return formats.TERNARY


class Dorefa(WeightFormat):
    """Weights from -1 to 1, through a hyperbolic tangent (Zhou et al. 2016)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.dorefa:Dorefa"
    kind: Literal["dorefa"]
    bits: int = Field(8, ge=1, le=8)
    group: Group = Field("layer", description="Whether every output channel has a range of its own, or the layer.")

    @property
    def storage(self) -> Format:
        """By the number of levels: 2^bits, at 8 bits 255."""
        return formats.with_levels(2**self.bits)


class Lsq(WeightFormat):
    """Integers times a step that is learned (Esser et al. 2020)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.lsq:Lsq"
    kind: Literal["lsq"]
    bits: int = Field(8, ge=1, le=8)
    group: Group = Field("layer", description="Whether every output channel has a step of its own, or the layer.")

    @property
    def storage(self) -> Format:
        """By the number of levels: 2^bits, at 8 bits 255."""
        return formats.with_levels(2**self.bits)

    @property
    def one_sided(self) -> bool:
        """From -2^(bits-1) to one less on the other side."""
        return self.bits > 1 and self.storage is not formats.INT8


class Float(WeightFormat):
    """Not quantized in training."""

    quantizer: ClassVar[str | None] = None
    kind: Literal["float"]

    @property
    def storage(self) -> Format:
        """int8: a file's weights have 8 bits however the network was trained."""
        return formats.INT8


class Uniform(WeightFormat):
    """Integers times a scale whose range is chosen after training: the largest weights may be clipped for finer steps."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.post_training:Uniform"
    kind: Literal["uniform"]
    bits: int = Field(8, ge=2, le=8)
    range: Literal["min-max", "percentile", "mse"] = Field(
        "min-max",
        description="What the largest integer is: the largest weight, a percentile of them, or the least squared error.",
    )
    percentile: float = Field(99.9, gt=0, le=100, description="Of the magnitudes, where the range is a percentile.")
    group: Group = Field("channel", description="Whether every output channel has a range of its own, or the layer.")

    @property
    def storage(self) -> Format:
        """By the bits."""
        return formats.fixed_point(self.bits)


class Pwlq(WeightFormat):
    """Small weights in fine steps, large ones in coarse steps: piecewise linear quantization (Fang et al. 2020)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.pwlq:Pwlq"
    kind: Literal["pwlq"]
    bits: int = Field(4, ge=2, le=8)
    overlapping: bool = Field(False, description="Coarse steps from 0 on instead of from the breakpoint on.")
    breakpoint: Literal["gaussian", "laplace", "search"] = Field(
        "search", description="Between fine and coarse: by a formula for that distribution, or the least squared error."
    )

    @property
    def storage(self) -> Format:
        """int8: a file's tensor has one scale a channel, so two of them are approximated by its 255 levels."""
        return formats.INT8


Weights = Annotated[
    StochasticTernary
    | StochasticTernaryQKeras
    | Ternary
    | StochasticBinary
    | Binary
    | FixedPoint
    | Dorefa
    | Lsq
    | Float
    | Uniform
    | Pwlq,
    Field(discriminator="kind"),
]
