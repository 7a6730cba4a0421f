"""One operator with its tensors at hand, and the checks that every lowering shares."""

import math
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy import micro
from tinyrobust.deploy.artefact import Artefact, Operator, Tensor
from tinyrobust.deploy.cgen.layers import Shape, Window
from tinyrobust.deploy.slicing import MisfitError, axis_of
from tinyrobust.errors import ModelFileError

_Option = TypeVar("_Option")

_LARGEST = 2**16 - 1  # tr_shape counts in 16 bits
_LARGEST_WINDOW = 2**8 - 1  # and tr_window in 8


@dataclass(frozen=True, eq=False, slots=True)
class Operands:
    """An operator of an artefact, and which of its outputs is computed."""

    artefact: Artefact
    operator: Operator
    place: int = 0

    @property
    def output(self) -> Tensor:
        """That output."""
        return self.artefact.tensors[self.operator.outputs[self.place]]

    @property
    def count(self) -> int:
        """How many inputs it names, those left out included."""
        return len(self.operator.inputs)

    def given(self, position: int) -> Tensor | None:
        """Input `position`; None where it is left out."""
        index = self.operator.inputs[position] if position < self.count else -1
        return self.artefact.tensors[index] if index >= 0 else None

    def input(self, position: int) -> Tensor:
        """Input `position`.

        Raises:
            ModelFileError: There is none.
        """
        tensor = self.given(position)
        return tensor if tensor is not None else self.refuse(f"an input {position}", "none")

    def activation(self, position: int) -> Tensor:
        """Input `position`, int8 with one scale."""
        return self.int8(self.input(position))

    def int8(self, tensor: Tensor) -> Tensor:
        """The tensor, which is int8 with one scale.

        Raises:
            ModelFileError: It is not.
        """
        if tensor.dtype != "int8" or tensor.scales.size != 1 or tensor.scales[0] <= 0:
            self.refuse(f"tensor {tensor.name!r} to be int8 with one scale", f"{tensor.dtype} with {tensor.scales.size} scales")
        return tensor

    def byte(self, tensor: Tensor) -> Tensor:
        """The tensor, which is int8 or uint8 with one scale.

        Raises:
            ModelFileError: It is not.
        """
        one = tensor.scales.size == 1 and tensor.scales[0] > 0
        return tensor if tensor.dtype == "uint8" and one else self.int8(tensor)

    def axis(self, value: int, size: int) -> int:
        """A place among `size`, counted from the end where it is negative.

        Raises:
            ModelFileError: There is no such place.
        """
        try:
            return axis_of(value, size)
        except MisfitError as error:
            return self.refuse(error.expected, error.received)

    def integers(self, position: int) -> list[int]:
        """The values of input `position`, which is constant and counts something."""
        values = self.constant(position)
        if values.dtype.kind not in "iu":
            self.refuse(f"integers as input {position}", values.dtype)
        return [int(value) for value in values.reshape(-1)]

    def constant(self, position: int) -> NDArray[Any]:
        """The values of input `position`.

        Raises:
            ModelFileError: They are not in the file.
        """
        tensor = self.input(position)
        if tensor.data is None:
            return self.refuse(f"tensor {tensor.name!r} to be constant", "a tensor that is computed")
        return tensor.data

    def option(self, name: str, default: _Option) -> _Option:
        """An option, or what the schema takes where it is left out."""
        option: _Option = self.operator.options.get(name, default)
        return option

    def clamp(self, tensor: Tensor) -> tuple[int, int]:
        """The smallest and largest int8 value that the fused activation leaves of `tensor`."""
        activation = self.option("fused_activation_function", "NONE")
        limits = {"NONE": (None, None), "RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}
        if activation not in limits:
            self.refuse(f"a fused activation out of {sorted(limits)}", activation)
        low, high = (None if limit is None else quantized(limit, tensor) for limit in limits[activation])
        return max(-128, -128 if low is None else low), min(127, 127 if high is None else high)

    def window(self, source: tuple[int, ...], height: int, width: int) -> Window:
        """The window of `height` by `width` that moves over a batch of one.

        Raises:
            ModelFileError: There is another batch, or a size that the kernels do not count.
        """
        out = self.output.shape
        if len(source) != 4 or len(out) != 4 or source[0] != 1 or out[0] != 1:
            self.refuse("images of shape [1, height, width, channels]", f"{list(source)} to {list(out)}")
        strides = self.option("stride_h", 1), self.option("stride_w", 1)
        dilations = self.option("dilation_h_factor", 1), self.option("dilation_w_factor", 1)
        small = (height, width, *strides, *dilations)
        if not all(0 < n <= _LARGEST_WINDOW for n in small) or not all(0 < n <= _LARGEST for n in (*source, *out)):
            self.refuse(
                f"windows, strides and dilations from 1 to {_LARGEST_WINDOW}, sizes from 1 to {_LARGEST}",
                f"{small} on {list(source)} to {list(out)}",
            )
        pads = [
            self._pad(source[1 + axis], out[1 + axis], (height, width)[axis], strides[axis], dilations[axis]) for axis in (0, 1)
        ]
        return Window(Shape(*source[1:]), Shape(*out[1:]), height, width, *strides, *dilations, *pads).lying

    def refuse(self, expected: str, received: object) -> NoReturn:
        """Raises a `ModelFileError` that names the operator and its output."""
        which = f"operator {self.operator.index} ({self.operator.name})"
        which += f", which writes {self.output.name!r}" if self.operator.outputs else ""
        raise ModelFileError(
            f"{self.artefact.path}: {which}: Expected {expected}. Received: {received}.",
            hint=elsewhere(self.artefact),
        )

    def _pad(self, source: int, out: int, size: int, stride: int, dilation: int) -> int:
        reach = (size - 1) * dilation + 1
        same = self.option("padding", "SAME") == "SAME"
        fits = -(-source // stride) if same else (source - reach + stride) // stride
        if out != fits:
            self.refuse(f"an output of {fits} rows or columns", out)
        pad = max((out - 1) * stride + reach - source, 0) // 2 if same else 0
        if pad > _LARGEST_WINDOW:
            self.refuse(f"at most {_LARGEST_WINDOW} rows or columns of padding", pad)
        return pad


def elsewhere(artefact: Artefact) -> str:
    """What TensorFlow Lite Micro does with a file that there is no C for, and what can be done."""
    refused = micro.refused(artefact)
    if refused:
        return f"TensorFlow Lite Micro does not run the file either: {refused}."
    return "TensorFlow Lite Micro runs the file as it is: export it with `--format array`. Or convert the model without this."


def scale(tensor: Tensor) -> float:
    """The scale of a tensor that has one: the float32 of the file, as TensorFlow Lite computes with it."""
    return float(tensor.scales[0])


def zero(tensor: Tensor) -> int:
    """The zero point of a tensor that has one."""
    return int(tensor.zero_points[0])


def quantized(value: float, tensor: Tensor) -> int:
    """A real number on the tensor's grid, halves away from zero; not clamped, unless it is far outside of any int8 range."""
    with np.errstate(over="ignore"):  # of a scale that hardly is a number
        quotient = float(np.clip(np.float32(value) / np.float32(tensor.scales[0]), -(2**24), 2**24))
    return zero(tensor) + int(math.copysign(math.floor(abs(quotient) + 0.5), quotient))
