"""Activations on the deployed grids: rectifiers whose outputs are rounded to the levels of a grid, and any grid of a file."""

import abc
from collections.abc import Callable

import keras
from keras import ops

from tinyrobust.quantizers.base import Tensor, straight_through

Shape = tuple[int | None, ...]

# A learned bound stays above this: a range of zero has no scale.
_SMALLEST_BOUND = 1e-3


class ActivationQuantizer(keras.layers.Layer, abc.ABC):
    """`clip(x, 0, a)`, rounded to multiples of a / (2^bits - 1): 2^bits levels, of which the lowest is zero.

    Rounding passes gradients straight through. The base: a subclass writes `upper`, `bound`, `clip` and `plain`, and registers
    itself with Keras; `FreelyBounded` has the latter two for bounds that no operator of the converter has.

    Args:
        bits: Of one activation, from 1 to 8.
        rounding: False leaves the values between the levels: float networks, and comparisons with the twin.

    Attributes:
        steps: The largest level, in steps of the grid: 255 at 8 bits.
    """

    def __init__(self, bits: int = 8, rounding: bool = True, **kwargs: object) -> None:
        super().__init__(**kwargs)
        if not 1 <= bits <= 8:
            raise ValueError(f"Expected bits from 1 to 8. Received: bits={bits}")
        self.bits = bits
        self.steps = 2**bits - 1
        self.rounding = rounding

    @property
    @abc.abstractmethod
    def upper(self) -> float:
        """The bound `a` as a number: the largest value this layer puts out."""

    @abc.abstractmethod
    def bound(self) -> Tensor | float:
        """The bound `a` as the layer computes with it."""

    @abc.abstractmethod
    def clip(self, inputs: Tensor) -> Tensor:
        """`clip(x, 0, a)`, with its gradients."""

    @property
    def on_grid(self) -> bool:
        """Whether a file must have this layer's grid for its outputs: they are rounded to it."""
        return self.rounding

    @abc.abstractmethod
    def plain(self, bounded: bool = True) -> keras.Layer:
        """The layer in plain Keras, without rounding, of the same name: what the twin has in its place.

        Args:
            bounded: False leaves out a bound that the largest level of the file's grid enforces.
        """

    def unrounded(self) -> keras.Layer:
        """A new layer of the same settings that leaves the values between the levels; weights are copied by the caller."""
        return type(self).from_config({**self.get_config(), "rounding": False})

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Shape in, shape out."""
        if training and self.rounding and keras.backend.backend() == "tensorflow":
            return self._fused(inputs)
        clipped = self.clip(inputs)
        if not self.rounding:
            return clipped
        scale = ops.stop_gradient(ops.convert_to_tensor(self.bound(), dtype=clipped.dtype)) / self.steps
        return straight_through(clipped, scale * ops.round(clipped / scale))

    def _fused(self, inputs: Tensor) -> Tensor:
        """The same in one kernel, with the same gradients: to x within the bounds, to `a` where x is beyond it.

        Clipping and rounding in operations of their own take a third of a training step of ResNet-20.
        """
        import tensorflow as tf  # here: training under JAX runs without TensorFlow

        @tf.custom_gradient
        def rounded(x: Tensor, bound: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
            return self._rounded(x, bound), lambda upstream: self._slopes(upstream, x, bound)

        return rounded(inputs, ops.convert_to_tensor(self.bound(), dtype=inputs.dtype))

    def _rounded(self, inputs: Tensor, bound: Tensor) -> Tensor:
        """The levels, by TensorFlow's kernel; gradients are `_slopes`."""
        import tensorflow as tf

        if self.bits == 1:  # of the levels -a, 0 and a, the upper two: less than half the time of a comparison and a choice
            return tf.nn.relu(tf.quantization.fake_quant_with_min_max_vars(inputs, -bound, bound, 2, narrow_range=True))
        return tf.quantization.fake_quant_with_min_max_vars(inputs, 0.0, bound, num_bits=self.bits)

    def _slopes(self, upstream: Tensor, inputs: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
        """`upstream` where inputs are within the bounds, 0 elsewhere; and its sum where they are above.

        Has gradients itself, for objectives that look at gradients; TensorFlow takes the kernel's for zero without a word.
        """
        import tensorflow as tf

        @tf.custom_gradient
        def slopes(upstream: Tensor) -> tuple[tuple[Tensor, Tensor], Callable[[Tensor, Tensor], Tensor]]:
            to_inputs, _, above = tf.raw_ops.FakeQuantWithMinMaxVarsGradient(
                gradients=upstream, inputs=inputs, min=0.0, max=bound, num_bits=max(self.bits, 2)
            )

            def again(within: Tensor, beyond: Tensor) -> Tensor:
                return tf.where(inputs > bound, beyond, tf.where(inputs >= 0, within, 0.0))

            return (to_inputs, above), again

        found: tuple[Tensor, Tensor] = slopes(upstream)
        return found

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Shape in, shape out."""
        return input_shape

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {**super().get_config(), "bits": self.bits, "rounding": self.rounding}


@keras.saving.register_keras_serializable("tinyrobust")
class QuantizedReLU6(ActivationQuantizer):
    """The range of ReLU6: a = 6 (Howard et al. 2017, arXiv 1704.04861).

    forward: `y = s round(clip(x, 0, 6) / s)`, `s = 6 / (2^bits - 1)`. gradient: dy/dx = 1 where 0 < x < 6, else 0. At 1 to 5
    bits these are the activations of Defensive Quantization (Lin et al. 2019, arXiv 1904.08444).
    """

    @property
    def upper(self) -> float:
        """6."""
        return 6.0

    def bound(self) -> Tensor | float:
        """6."""
        return 6.0

    def clip(self, inputs: Tensor) -> Tensor:
        """`min(max(x, 0), 6)`."""
        return ops.relu6(inputs)

    def plain(self, bounded: bool = True) -> keras.Layer:
        """ReLU6, an operator of the converter, bounded or not."""
        del bounded
        return keras.layers.ReLU(self.upper, name=self.name)


class FreelyBounded(ActivationQuantizer):
    """What activations have whose bound is not 6: in the file the grid's largest level is the bound.

    The base: a subclass writes `upper` and `bound`, and registers itself with Keras.
    """

    def clip(self, inputs: Tensor) -> Tensor:
        """`min(max(x, 0), a)`."""
        return ops.minimum(ops.relu(inputs), self.bound())

    @property
    def on_grid(self) -> bool:
        """Always: in the file the bound is the grid's largest value, whether the layer rounds or not."""
        return True

    def plain(self, bounded: bool = True) -> keras.Layer:
        """A rectifier; the converter has no operator for another bound than 6."""
        return keras.layers.ReLU(self.upper if bounded else None, name=self.name)


@keras.saving.register_keras_serializable("tinyrobust")
class Pact(FreelyBounded):
    """A learned range (PACT, Choi et al. 2018, arXiv 1805.06085).

    forward (eqs. 1 and 2): `y = s round(clip(x, 0, a) / s)`, `s = a / (2^bits - 1)`. gradients: dy/dx = 1 where 0 < x < a, else
    0; dy/da = 1 where x > a, else 0 (eq. 3; at x = a, where the paper has 1, it depends on the backend), and 2 decay a from the
    penalty, which pulls a down (section 3). The paper leaves start and decay to its experiments; here a starts from the bound
    of ReLU6.

    Args:
        bits: Of one activation, from 1 to 8.
        rounding: See `ActivationQuantizer`.
        start: The bound before training.
        decay: Weight of the penalty `decay * a^2`.
    """

    def __init__(self, bits: int = 8, rounding: bool = True, start: float = 6.0, decay: float = 1e-4, **kwargs: object) -> None:
        super().__init__(bits, rounding, **kwargs)
        self.start, self.decay = start, decay

    def build(self, input_shape: Shape) -> None:
        """Creates the learned bound."""
        del input_shape
        self.alpha = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.start),
            regularizer=keras.regularizers.L2(self.decay),
            name="alpha",
        )

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {**super().get_config(), "start": self.start, "decay": self.decay}

    @property
    def upper(self) -> float:
        """The learned bound, at least a thousandth."""
        return max(float(ops.convert_to_numpy(self.alpha)), _SMALLEST_BOUND)

    def bound(self) -> Tensor | float:
        """The learned bound, at least a thousandth."""
        return ops.maximum(self.alpha, _SMALLEST_BOUND)


@keras.saving.register_keras_serializable("tinyrobust")
class OnGrid(keras.layers.Layer):
    """`clip(x, low, high)`, rounded to multiples of `scale`: what a tensor of a quantized file can hold.

    Rounding passes gradients straight through; beyond the bounds they are zero, unless it is `open`.

    Args:
        scale: The distance of two levels.
        low: The lowest level, a multiple of `scale`.
        high: The highest level, a multiple of `scale`.
        open: Pass gradients straight through beyond the bounds too. For an input: black that lies a hair below the lowest level
            can be made brighter, and an attack must see that.
    """

    def __init__(self, scale: float, low: float, high: float, *, open: bool = False, **kwargs: object) -> None:  # noqa: A002
        super().__init__(**kwargs)
        self.open = open
        if not (scale > 0 and low < high):
            raise ValueError(f"Expected scale > 0 and low < high. Received: scale={scale}, low={low}, high={high}")
        self.scale, self.low, self.high = scale, low, high

    def call(self, inputs: Tensor) -> Tensor:
        """Shape in, shape out."""
        clipped = ops.clip(inputs, self.low, self.high)
        return straight_through(inputs if self.open else clipped, self.scale * ops.round(clipped / self.scale))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Shape in, shape out."""
        return input_shape

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "low": self.low, "high": self.high, "open": self.open}
