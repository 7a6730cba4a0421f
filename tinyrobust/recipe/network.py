"""`[network]`: what learns. A network is a table here, with its own keys, and a builder in `networks/`."""

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from tinyrobust.files import sha256
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
        size: The number of parameters at one input shape, typical of the network; a file has its own.
        trained: Whether it comes with weights that were trained.
    """

    builder: ClassVar[str]
    size: ClassVar[Size]
    trained: ClassVar[bool] = False

    def build(self, input_shape: Shape, classes: int, layers: object) -> "keras.Model":
        """The untrained network: functional, [n, *input_shape] in [0, 1] -> logits [n, classes].

        Args:
            input_shape: (height, width, channels).
            classes: Number of logits.
            layers: A `networks.precision.LayerFactory`, which makes the layers in the recipe's precision.
        """
        return pkgutil.resolve_name(self.builder)(self, input_shape, classes, layers)

    @property
    def in_words(self) -> str:
        """Kind and keys, for reports: `resnet, width 1.0, depth 20`."""
        kind, keys = self.model_dump()["kind"], self.model_dump(exclude={"kind"})
        return ", ".join([kind, *(f"{key} {value}" for key, value in keys.items())])

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


class KerasFile(NetworkTable):
    """Somebody's Keras model: its layers in the recipe's precision, its weights as those that training starts from."""

    builder: ClassVar[str] = "tinyrobust.networks.imported:imported"
    trained: ClassVar[bool] = True
    kind: Literal["keras-file"]
    path: str = Field(description="Of a .keras file, as Keras 3 saves it.")
    sha256: str | None = Field(
        None,
        validate_default=True,
        description="Of the file, in hex: another file is refused. When absent, that of the file as it is.",
    )
    input_range: tuple[float, float] | None = Field(
        None,
        description="What the pixel values 0 and 255 are in the file's input units, such as [-1, 1]. "
        "Needed where the file does not begin with a Rescaling or Normalization layer that says it.",
    )

    @property
    def in_words(self) -> str:
        """The file's name, and the beginning of its hash."""
        return f"{Path(self.path).name} (SHA-256 {(self.sha256 or '')[:12]})"

    @field_validator("sha256")
    @classmethod
    def _of_the_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        """The recipe's hash is that of what is learned, so it covers what the file says."""
        if value is not None or "path" not in info.data:
            return value
        path = Path(info.data["path"]).expanduser()
        if not path.is_file():
            raise ValueError(f"Expected the path of a .keras file. Received: {str(path)!r}: there is no such file")
        return sha256(path)

    @field_validator("input_range")
    @classmethod
    def _rises(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"Expected input_range = [low, high], low below high. Received: {list(value)}")
        return value


Network = Annotated[Stqnet | Dscnn | Resnet | KerasFile, Field(discriminator="kind")]
