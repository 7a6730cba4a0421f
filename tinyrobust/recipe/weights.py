"""The weight formats that a precision rule names: a format is a table here and a class in `quantizers/`."""

import abc
import pkgutil
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tinyrobust import formats
from tinyrobust.formats import Format
from tinyrobust.recipe.table import Share, Table


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


class StochasticTernary(WeightFormat):
    """Three levels per channel; in training a growing share of the channels is quantized (Dong et al., BMVC 2017)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:StochasticTernary"
    kind: Literal["stochastic-ternary"]
    fractions: tuple[Share, ...] = Field(
        (0.5, 0.75, 0.875, 1.0), description="Share of the channels that is quantized in each phase of training."
    )
    starts: tuple[Share, ...] = Field((0.0, 0.25, 0.5, 0.75), description="Where each phase starts, as a share of all steps.")

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if len(self.fractions) != len(self.starts):
            raise ValueError(f"Expected as many starts as fractions. Received: {self.starts} and {self.fractions}")
        if not self.starts or self.starts[0] != 0 or list(self.starts) != sorted(set(self.starts)):
            raise ValueError(f"Expected starts that rise from 0. Received: {self.starts}")
        if list(self.fractions) != sorted(self.fractions) or self.fractions[-1] != 1:
            raise ValueError(f"Expected fractions that rise to 1. Received: {self.fractions}")
        return self

    @property
    def storage(self) -> Format:
        """Ternary: at inference every channel is quantized."""
        return formats.TERNARY

    @property
    def phases(self) -> tuple[tuple[float, float], ...]:
        """Starts and fractions."""
        return tuple(zip(self.starts, self.fractions, strict=True))

    def arguments(self, seed: int) -> dict[str, object]:
        """The phases and the seed of the draws."""
        return {**super().arguments(seed), "seed": seed}


class Ternary(WeightFormat):
    """Three levels per channel (Li et al. 2016)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:Ternary"
    kind: Literal["ternary"]

    @property
    def storage(self) -> Format:
        """Ternary."""
        return formats.TERNARY


class Binary(WeightFormat):
    """Two levels per channel (Rastegari et al. 2016)."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:Binary"
    kind: Literal["binary"]

    @property
    def storage(self) -> Format:
        """Binary."""
        return formats.BINARY


class FixedPoint(WeightFormat):
    """Integers times a per-channel scale."""

    quantizer: ClassVar[str | None] = "tinyrobust.quantizers.weights:FixedPoint"
    kind: Literal["fixed-point"]
    bits: int = Field(8, ge=2, le=8)

    @property
    def storage(self) -> Format:
        """By the bits."""
        return formats.fixed_point(self.bits)


class Float(WeightFormat):
    """Not quantized in training."""

    quantizer: ClassVar[str | None] = None
    kind: Literal["float"]

    @property
    def storage(self) -> Format:
        """int8: a file's weights have 8 bits however the network was trained."""
        return formats.INT8


Weights = Annotated[StochasticTernary | Ternary | Binary | FixedPoint | Float, Field(discriminator="kind")]
