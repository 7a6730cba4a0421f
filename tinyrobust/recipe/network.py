"""`[network]`: what learns. A network is a table here, with its own keys, and a builder in `networks/`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tinyrobust.recipe.table import Table, Width


class ScalableNetwork(Table):
    """What all networks have.

    Attributes:
        builder: Where the network is built: `module:function`, imported when a network is built.
    """

    builder: ClassVar[str]
    width: Width = Field(1.0, description="Multiplies the number of channels of every layer.")


class Stqnet(ScalableNetwork):
    """The family of the STQ paper (arXiv 2503.08973): plain, separable and depthwise blocks, some residual."""

    builder: ClassVar[str] = "tinyrobust.networks.stqnet:stqnet"
    kind: Literal["stqnet"]


class Dscnn(ScalableNetwork):
    """The depthwise-separable keyword spotter of Zhang et al. (arXiv 1711.07128), in the size of MLPerf Tiny."""

    builder: ClassVar[str] = "tinyrobust.networks.dscnn:dscnn"
    kind: Literal["dscnn"]


Network = Annotated[Stqnet | Dscnn, Field(discriminator="kind")]
