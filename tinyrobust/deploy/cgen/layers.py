"""The layers that a model is made of once TensorFlow Lite's words are gone."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.cgen.fixedpoint import Integers

MOVE_RANK = 5  # TR_MOVE_RANK of tr_runtime.h
Kind = Literal["add", "sub", "mul", "minimum", "maximum", "prelu"]  # the kernel is called tr_<kind>


@dataclass(frozen=True, slots=True)
class Shape:
    """Height, width and channels of an image."""

    height: int
    width: int
    channels: int

    @property
    def count(self) -> int:
        """Bytes of an int8 image."""
        return self.height * self.width * self.channels


@dataclass(frozen=True, slots=True)
class Window:
    """A window that moves over an image: the fields of `tr_window`."""

    source: Shape
    out: Shape
    height: int
    width: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int

    @property
    def taps(self) -> int:
        """Positions of the window."""
        return self.height * self.width

    @property
    def pointwise(self) -> bool:
        """Whether output pixel p reads input pixel p and nothing else."""
        single = self.taps == 1 and (self.stride_h, self.stride_w, self.pad_top, self.pad_left) == (1, 1, 0, 0)
        return single and (self.source.height, self.source.width) == (self.out.height, self.out.width)

    @property
    def lying(self) -> "Window":
        """The same over the same bytes with rows instead of columns of one pixel: what lies side by side is read at once."""
        if (self.source.width, self.out.width, self.width, self.pad_left) != (1, 1, 1, 0):
            return self
        source, out = (Shape(1, shape.height, shape.channels) for shape in (self.source, self.out))
        return Window(source, out, 1, self.height, 1, self.stride_h, 1, self.dilation_h, 0, self.pad_top)

    def first_row(self, y: int) -> int:
        """The first row of the input that row `y` of the output reads."""
        return min(max(y * self.stride_h - self.pad_top, 0), self.source.height)


@dataclass(frozen=True, eq=False, slots=True)
class Conv:
    """A convolution, depthwise convolution or fully connected layer.

    Attributes:
        window: A fully connected layer has a window of 1x1 over one pixel.
        weights: int8, a row per output channel, taps and input channels in the order in which the kernels read them.
        bias: Per output channel, as in the file.
        multipliers: Per output channel.
        shifts: Per output channel.
        depthwise: Whether a channel of the output sees one channel of the input.
        groups: Parts that input and output channels are split into; 1 for a depthwise convolution.
        source_zero: The input's zero point.
        zero: The output's zero point.
        low: The smallest output.
        high: The largest output.
    """

    window: Window
    weights: NDArray[np.int8]
    bias: Integers
    multipliers: Integers
    shifts: Integers
    depthwise: bool
    groups: int
    source_zero: int
    zero: int
    low: int
    high: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those on padding included."""
        return self.window.out.height * self.window.out.width * self.weights.size


@dataclass(frozen=True, slots=True)
class Pool:
    """An average or maximum over a window."""

    window: Window
    average: bool
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over the middle of [outer][count][inner]."""

    outer: int
    count: int
    inner: int
    source_zero: int
    multiplier: int
    shift: int
    zero: int


@dataclass(frozen=True, slots=True)
class Binary:
    """What is computed of two values; the smaller is repeated.

    Attributes:
        kind: What is done. `prelu` multiplies the first by the second where the first is negative.
        counts: Bytes of the output and of both inputs.
        offsets: Minus the inputs' zero points.
        scalings: Multiplier and shift of both inputs and of the result. A product has only the last; `prelu` has the first for
            what is not negative, the last for what is; the smaller and the larger have none.
        zero: The output's zero point.
        low: The smallest output.
        high: The largest output.
    """

    kind: Kind
    counts: tuple[int, int, int]
    offsets: tuple[int, int]
    scalings: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    zero: int
    low: int
    high: int


@dataclass(frozen=True, eq=False, slots=True)
class Lookup:
    """One output for each of the 256 inputs, -128 first."""

    table: Integers
    count: int


@dataclass(frozen=True, eq=False, slots=True)
class Softmax:
    """A softmax over rows; exponentials by distance from the row's maximum, trailing zeros left out."""

    exponentials: Integers
    rows: int
    width: int


@dataclass(frozen=True, slots=True)
class Concatenation:
    """Rows of each input side by side: `outer` rows, of `widths` bytes."""

    outer: int
    widths: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """Bytes in another order, or some of them: the fields of `tr_move_layer`.

    Attributes:
        shape: Of the output, neighbouring dimensions joined where their bytes are neighbours too.
        strides: Bytes of the input from one place to the next along each.
        start: The first byte that is read.
        source: Bytes of the input.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    source: int

    @property
    def nothing(self) -> bool:
        """Whether every byte stays where it is."""
        return self.shape == (self.source,) and self.strides == (1,) and self.start == 0


@dataclass(frozen=True, eq=False, slots=True)
class Resize:
    """An image of other rows and columns, each a copy of one of the input's."""

    rows: Integers
    columns: Integers
    width: int
    channels: int


@dataclass(frozen=True, slots=True)
class Pad:
    """Zero points around up to four dimensions."""

    source: tuple[int, int, int, int]
    before: tuple[int, int, int, int]
    out: tuple[int, int, int, int]
    value: int


Layer = Conv | Pool | Mean | Binary | Lookup | Softmax | Concatenation | Pad | Move | Resize
