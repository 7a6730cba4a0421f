"""Activations on the deployed grids: a rectifier whose outputs are rounded to 256 levels, and any grid of a file."""

from typing import Any, Literal

import keras
from keras import ops

from tinyrobust.quantizers.weights import Tensor, straight_through

LEVELS = 255

# A learned bound stays above this: a range of zero has no scale.
_SMALLEST_BOUND = 1e-3


@keras.saving.register_keras_serializable("tinyrobust")
class QuantizedReLU(keras.layers.Layer):
    """`clip(x, 0, a)`, rounded to the grid of scale a / 255 and zero point -128.

    The range is ReLU6's (a = 6, Howard et al. 2017) or learned (PACT, Choi et al. 2018, arXiv 1805.06085, eq. 1: the gradient
    to `a` is 1 where x >= a, else 0, with an L2 penalty that keeps it small). Rounding passes gradients straight through.

    Args:
        bound: "relu6" or "pact".
        rounding: False leaves the values between the levels: float networks, and comparisons with the twin.
    """

    def __init__(self, bound: Literal["relu6", "pact"] = "relu6", rounding: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if bound not in ("relu6", "pact"):
            raise ValueError(f"Expected bound 'relu6' or 'pact'. Received: bound={bound!r}")
        self.bound = bound
        self.rounding = rounding

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the learned bound of PACT."""
        del input_shape
        if self.bound == "pact":
            self.alpha = self.add_weight(
                shape=(),
                initializer=keras.initializers.Constant(6.0),
                regularizer=keras.regularizers.L2(1e-4),
                name="alpha",
            )

    @property
    def upper(self) -> float:
        """The bound `a` as a number: the largest value this layer puts out."""
        return max(float(ops.convert_to_numpy(self.alpha)), _SMALLEST_BOUND) if self.bound == "pact" else 6.0

    def call(self, inputs: Tensor) -> Tensor:
        """Shape in, shape out."""
        upper = ops.maximum(self.alpha, _SMALLEST_BOUND) if self.bound == "pact" else 6.0
        clipped = ops.minimum(ops.relu(inputs), upper) if self.bound == "pact" else ops.relu6(inputs)
        if not self.rounding:
            return clipped
        scale = ops.stop_gradient(ops.convert_to_tensor(upper, dtype=clipped.dtype)) / LEVELS
        return straight_through(clipped, scale * ops.round(clipped / scale))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape in, shape out."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "bound": self.bound, "rounding": self.rounding}


@keras.saving.register_keras_serializable("tinyrobust")
class OnGrid(keras.layers.Layer):
    """`clip(x, low, high)`, rounded to multiples of `scale`: what a tensor of a quantized file can hold.

    Rounding passes gradients straight through; beyond the bounds they are zero.

    Args:
        scale: The distance of two levels.
        low: The lowest level, a multiple of `scale`.
        high: The highest level, a multiple of `scale`.
    """

    def __init__(self, scale: float, low: float, high: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not (scale > 0 and low < high):
            raise ValueError(f"Expected scale > 0 and low < high. Received: scale={scale}, low={low}, high={high}")
        self.scale, self.low, self.high = scale, low, high

    def call(self, inputs: Tensor) -> Tensor:
        """Shape in, shape out."""
        clipped = ops.clip(inputs, self.low, self.high)
        return straight_through(clipped, self.scale * ops.round(clipped / self.scale))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape in, shape out."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "low": self.low, "high": self.high}
