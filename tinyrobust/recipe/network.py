"""`[network]`: what learns. A network is a table here, with its own keys, and a builder in `networks/`."""

import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator

from tinyrobust.errors import DataError
from tinyrobust.recipe.model_file import ModelFile
from tinyrobust.recipe.table import Count, Table, Width

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
        macs: Multiply-accumulates of convolutions and dense layers, those on padding among them.
    """

    input_shape: Shape
    classes: int
    parameters: int
    macs: int


class NetworkTable(Table):
    """What all networks have. Every key has a default.

    Attributes:
        builder: The function that builds the network, `module:function`, imported when one is built. It takes the table,
            input_shape, classes and layers as `build` does, and returns the model.
        size: Its parameters and MACs at one input shape, typical of the network; a file has its own.
        smallest: Pixels that either side of an image has at least.
        trained: Whether it comes with weights that were trained.
    """

    builder: ClassVar[str]
    size: ClassVar[Size]
    smallest: ClassVar[int] = 1
    trained: ClassVar[bool] = False

    def build(self, input_shape: Shape, classes: int, layers: object) -> "keras.Model":
        """The untrained network: functional, [n, *input_shape] in [0, 1] -> logits [n, classes].

        Args:
            input_shape: (height, width, channels).
            classes: Number of logits.
            layers: A `networks.precision.LayerFactory`, which makes the layers in the recipe's precision.

        Raises:
            DataError: The images are smaller than `smallest`.
        """
        if min(input_shape[:2]) < self.smallest:
            raise DataError(
                f"Expected images of at least {self.smallest}x{self.smallest} pixels for network.kind = "
                f"{self.model_dump()['kind']!r}. Received: {input_shape[0]}x{input_shape[1]}",
                hint="Choose another network, or larger images with data.size.",
            )
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
    size: ClassVar[Size] = Size((32, 32, 1), 10, 928_618, 52_500_416)
    smallest: ClassVar[int] = 2
    kind: Literal["stqnet"]


class Dscnn(ScalableNetwork):
    """The depthwise-separable keyword spotter of Zhang et al. (arXiv 1711.07128), in the size of MLPerf Tiny."""

    builder: ClassVar[str] = "tinyrobust.networks.dscnn:dscnn"
    # MLPerf Tiny's reference has 24,908, and a bias beside every batch norm: 9 layers x 64 channels more.
    size: ClassVar[Size] = Size((49, 10, 1), 12, 24_908 - 9 * 64, 2_656_768)
    kind: Literal["dscnn"]


class Resnet(ScalableNetwork):
    """Residual networks of He et al. (arXiv 1512.03385) for small images: 8 is MLPerf Tiny's image classifier."""

    builder: ClassVar[str] = "tinyrobust.networks.resnet:resnet"
    size: ClassVar[Size] = Size((32, 32, 3), 10, 273_754, 40_813_184)
    kind: Literal["resnet"]
    depth: Literal[8, 18, 20] = 20


class WideResnet(ScalableNetwork):
    """Wide residual networks of Zagoruyko & Komodakis (arXiv 1605.07146), pre-activation: WRN-depth-widen."""

    builder: ClassVar[str] = "tinyrobust.networks.wideresnet:wideresnet"
    size: ClassVar[Size] = Size((32, 32, 3), 10, 2_752_506, 392_612_352)
    kind: Literal["wide-resnet"]
    depth: int = Field(16, ge=10, le=100, description="6n + 4: three stages of n blocks of two convolutions.")
    widen: int = Field(4, ge=1, le=16, description="The paper's k: the stages have 16k, 32k and 64k channels; the stem has 16.")

    @field_validator("depth")
    @classmethod
    def _is_of_whole_blocks(cls, value: int) -> int:
        if value % 6 != 4:
            raise ValueError(f"Expected a depth of 6n + 4: 10, 16, 22, 28, 34, 40. Received: {value}")
        return value


class MobilenetV2(ScalableNetwork):
    """MobileNetV2 (Sandler et al., arXiv 1801.04381), for images of any size."""

    builder: ClassVar[str] = "tinyrobust.networks.mobilenetv2:mobilenetv2"
    size: ClassVar[Size] = Size((96, 96, 3), 10, 2_270_794, 55_021_952)
    kind: Literal["mobilenet-v2"]
    head: Count = Field(1280, description="Channels of the last convolution at widths up to 1; in proportion above.")
    last_map: Count = Field(
        3, description="Pixels a side that the last maps keep at least: on small images the first strides of 2 are left out."
    )

    def channels(self, count: int) -> int:
        """A multiple of eight, at least eight, and not below nine tenths of what was asked for: as the authors' code rounds."""
        wanted = count * self.width
        nearest = max(8, int(wanted + 4) // 8 * 8)
        return nearest + 8 if nearest < 0.9 * wanted else nearest


class Lenet5(ScalableNetwork):
    """LeNet-5 (LeCun et al. 1998) as it is built today: rectifiers, and every map of the second convolution reads all six."""

    builder: ClassVar[str] = "tinyrobust.networks.lenet5:lenet5"
    size: ClassVar[Size] = Size((28, 28, 1), 10, 61_706, 416_520)
    smallest: ClassVar[int] = 12
    kind: Literal["lenet5"]
    pooling: Literal["max", "average"] = Field(
        "max", description="The original averages. A maximum of levels is a level, an average is rounded to one in the file."
    )

    def channels(self, count: int) -> int:
        """The number nearest to `count * width`, at least 1: the network is small, and 6 and 10 are no multiples of four."""
        return max(1, round(count * self.width))


class Vgg16(ScalableNetwork):
    """VGG-16 (Simonyan & Zisserman, arXiv 1409.1556, configuration D) for small images: batch norm, one dense layer."""

    builder: ClassVar[str] = "tinyrobust.networks.vgg16:vgg16"
    size: ClassVar[Size] = Size((32, 32, 3), 10, 14_732_490, 313_201_664)
    kind: Literal["vgg16"]


class Conv1d(ScalableNetwork):
    """Three convolutions along time for windows of sensor values (Wang et al., arXiv 1611.06455)."""

    builder: ClassVar[str] = "tinyrobust.networks.conv1d:conv1d"
    size: ClassVar[Size] = Size((128, 3, 1), 6, 39_078, 4_866_336)
    kind: Literal["conv1d"]


class KerasFile(NetworkTable, ModelFile):
    """Somebody's Keras model: its layers in the recipe's precision, its weights as those that training starts from."""

    builder: ClassVar[str] = "tinyrobust.networks.imported:imported"
    trained: ClassVar[bool] = True
    kind: Literal["keras-file"]
    input_range: tuple[float, float] | None = Field(
        None,
        description="What the pixel values 0 and 255 are in the file's input units, such as [-1, 1]. "
        "Needed where the file does not begin with a Rescaling or Normalization layer that says it.",
    )

    @property
    def in_words(self) -> str:
        """The file's name, and the beginning of its hash."""
        return f"{Path(self.path).name} (SHA-256 {(self.sha256 or '')[:12]})"

    @field_validator("input_range")
    @classmethod
    def _rises(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError(f"Expected input_range = [low, high], low below high. Received: {list(value)}")
        return value


Network = Annotated[
    Stqnet | Dscnn | Resnet | WideResnet | MobilenetV2 | Lenet5 | Vgg16 | Conv1d | KerasFile, Field(discriminator="kind")
]
