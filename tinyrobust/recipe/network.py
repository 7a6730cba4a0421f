"""`[network]`: what learns. A network is a table here, with its own keys, and a builder in `networks/`."""

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field

from tinyrobust.recipe.table import Table, Width

if TYPE_CHECKING:
    import keras

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a network is, its keys at their defaults.

    Attributes:
        input_shape: (height, width, channels).
        classes: Number of logits.
        parameters: Weights, biases, and four numbers a channel of batch norm.
    """

    input_shape: Shape
    classes: int
    parameters: int


class NetworkTable(Table):
    """What all networks have. Every key has a default.

    Attributes:
        builder: The function that builds the network, `module:function`, imported when one is built. It takes the table,
            input_shape, classes and layers as `build` does, and returns the model.
        size: The number of parameters at one input shape, typical of the network.
    """

    builder: ClassVar[str]
    size: ClassVar[Size]

    def build(self, input_shape: Shape, classes: int, layers: object) -> "keras.Model":
        """The untrained network: functional, [n, *input_shape] in [0, 1] -> logits [n, classes].

        Args:
            input_shape: (height, width, channels).
            classes: Number of logits.
            layers: A `networks.precision.LayerFactory`, which makes the layers in the recipe's precision.
        """
        return pkgutil.resolve_name(self.builder)(self, input_shape, classes, layers)

    def scaled(self, width: float) -> Self:
        """The same network, of another width: a teacher's.

        Raises:
            ValueError: The network has no width.
        """
        keys = ", ".join(key for key in type(self).model_fields if key != "kind")
        raise ValueError(
            f"Expected a network that has a width, to make it {width:g} times as wide. "
            f"Received: kind = {self.model_dump()['kind']!r}, which has {keys or 'no keys of its own'}"
        )


class ScalableNetwork(NetworkTable):
    """What networks have whose layers can all be made wider."""

    width: Width = Field(1.0, description="Multiplies the number of channels of every layer.")

    def scaled(self, width: float) -> Self:
        """The same network, of another width: a teacher's."""
        return self.model_copy(update={"width": width})

    def channels(self, count: int) -> int:
        """How many channels a layer has that has `count` at width 1: a multiple of four, at least four."""
        return max(4, 4 * round(count * self.width / 4))


class Stqnet(ScalableNetwork):
    """The family of the STQ paper (arXiv 2503.08973): plain, separable and depthwise blocks, some residual."""

    builder: ClassVar[str] = "tinyrobust.networks.stqnet:stqnet"
    size: ClassVar[Size] = Size((32, 32, 1), 10, 928_618)
    kind: Literal["stqnet"]


class Dscnn(ScalableNetwork):
    """The depthwise-separable keyword spotter of Zhang et al. (arXiv 1711.07128), in the size of MLPerf Tiny."""

    builder: ClassVar[str] = "tinyrobust.networks.dscnn:dscnn"
    # MLPerf Tiny's reference has 24,908, and a bias beside every batch norm: 9 layers x 64 channels more.
    size: ClassVar[Size] = Size((49, 10, 1), 12, 24_908 - 9 * 64)
    kind: Literal["dscnn"]


class Resnet(ScalableNetwork):
    """Residual networks of He et al. (arXiv 1512.03385) for small images: 8 is MLPerf Tiny's image classifier."""

    builder: ClassVar[str] = "tinyrobust.networks.resnet:resnet"
    size: ClassVar[Size] = Size((32, 32, 3), 10, 273_754)
    kind: Literal["resnet"]
    depth: Literal[8, 18, 20] = 20


Network = Annotated[Stqnet | Dscnn | Resnet, Field(discriminator="kind")]
