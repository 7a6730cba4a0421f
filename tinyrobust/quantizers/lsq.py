"""Learned step size quantization (LSQ, Esser et al. 2020, arXiv 1902.08153): weights and activations.

The step s is not a variable itself: `s = s0 (1 + c)`, where s0 is what the paper starts from and c, from 0 on, is learned. The
gradient that c gets is the one that the paper gives to s, divided by s0: so a step of SGD moves s exactly as the paper's does,
and an adaptive optimizer, which is blind to the scale of gradients, moves it in proportion to its size, which is what the
paper's gradient scale is for. And s0 can be set in the first step of training, from the weights or the batch as they are then,
under JAX too, which takes no assignment to what is trained.
"""

import math
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from tinyrobust import formats
from tinyrobust.quantizers.activations import FreelyBounded, Shape
from tinyrobust.quantizers.base import TINY, AddWeight, Group, GroupedQuantizer, State, Tensor, straight_through

# A step stays above this share of what it started from; its gradient goes on beyond, so that it may come back.
_SMALLEST_SHARE = 1e-3


def _share(change: keras.Variable) -> Tensor:
    """What a step is now, times s0; no gradient."""
    return ops.maximum(1 + ops.stop_gradient(change), _SMALLEST_SHARE)


@keras.saving.register_keras_serializable("tinyrobust")
class Lsq(GroupedQuantizer):
    """Weights on integer multiples of a learned step.

    forward (eqs. 1 and 2): `q = s * round(clip(w / s, -Qn, Qp))`, `Qn = 2^(bits-1)`, `Qp = 2^(bits-1) - 1`; at 8 bits
    Qn = 127, the range of a file's int8. gradients: dq/dw = 1 where -Qn < w/s < Qp, else 0 (eq. 5); dq/ds = round(w/s) - w/s
    there, -Qn below, Qp above (eq. 3), times g = 1 / sqrt(N Qp), with the N weights of the group (section 2.2). s starts at
    2 mean|w| / sqrt(Qp), of the weights at the first step of training; until then inference computes with it as well.

    The paper begins at 2 bits. Of one bit the levels are here -s and s: the same formulas with Qn = Qp = 1, and the sign, +1
    for zero, instead of the rounding.

    Args:
        bits: Of one weight, from 1 to 8.
        channel_axes: See `WeightQuantizer`.
        group: What has a step of its own; in the paper the layer.
    """

    def __init__(self, bits: int = 8, channel_axes: tuple[int, ...] = (-1,), group: Group = "layer") -> None:
        super().__init__(channel_axes, group)
        if not 1 <= bits <= 8:
            raise ValueError(f"Expected bits from 1 to 8. Received: bits={bits}")
        self.bits = bits
        self.highest = max(2 ** (bits - 1) - 1, 1)
        self.lowest = -min(2 ** (bits - 1), 127)
        self.storage = formats.with_levels(2**bits)

    def create(self, add_weight: AddWeight, shape: tuple[int, ...]) -> Mapping[str, State]:
        """What the step started from, 0 before it did, and how far it has changed since, in shares of that."""
        kept = {axis % len(shape) for axis in self.scale_axes}
        groups = tuple(size if axis in kept else 1 for axis, size in enumerate(shape))
        return {
            "step_start": add_weight(shape=groups, initializer="zeros", trainable=False, name="step_start"),
            "step_change": add_weight(shape=groups, initializer="zeros", name="step_change"),
        }

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        step = self._start(latent, training) * self._share()
        return step * self._integers(latent / step)

    def quantize(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        start = self._start(latent, training)
        step = start * self._share()
        scaled = ops.stop_gradient(latent / step)
        integers = self._integers(scaled)
        inside = ops.cast((scaled > self.lowest) & (scaled < self.highest), latent.dtype)
        quantized = straight_through(inside * latent, step * integers)
        if not self.state:
            return quantized
        change = ops.convert_to_tensor(self.state["step_change"])
        weights = math.prod(latent.shape) / math.prod(change.shape)
        slope = (integers - inside * scaled) / (start * math.sqrt(weights * self.highest))
        return quantized + slope * (change - ops.stop_gradient(change))

    def _start(self, latent: Tensor, training: bool) -> Tensor:
        """s0 of every group, [1 or size, ...]: set in the first step of training."""
        initial = ops.mean(ops.abs(latent), self.pooled(latent), keepdims=True) * (2 / math.sqrt(self.highest))
        start = ops.stop_gradient(initial)
        if self.state:
            known = ops.stop_gradient(self.state["step_start"])
            start = ops.where(known > 0, known, start)
            if training:
                self.state["step_start"].assign(start)
        return ops.maximum(start, TINY)

    def _share(self) -> Tensor | float:
        return _share(self.state["step_change"]) if self.state else 1.0

    def _integers(self, scaled: Tensor) -> Tensor:
        if self.bits == 1:
            return ops.where(scaled >= 0, 1.0, -1.0)
        return ops.round(ops.clip(scaled, self.lowest, self.highest))

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {"bits": self.bits, **super().get_config()}


@keras.saving.register_keras_serializable("tinyrobust")
class LsqActivation(FreelyBounded):
    """Activations on integer multiples of a learned step.

    forward (eqs. 1 and 2): `y = s * round(clip(x / s, 0, Qp))`, `Qp = 2^bits - 1`. gradients: dy/dx = 1 where 0 < x/s < Qp,
    else 0 (eq. 5); dy/ds = round(x/s) - x/s there, 0 below, Qp above (eq. 3), times g = 1 / sqrt(N Qp), with the N activations
    that one sample has here (section 2.2, "features in a layer"). s starts at 2 mean(max(x, 0)) / sqrt(Qp), of the first batch
    in training.

    Args:
        bits: Of one activation, from 1 to 8.
        rounding: See `ActivationQuantizer`.
        start: The bound s Qp before training.
    """

    def __init__(self, bits: int = 8, rounding: bool = True, start: float = 6.0, **kwargs: object) -> None:
        super().__init__(bits, rounding, **kwargs)
        self.start = start

    def build(self, input_shape: Shape) -> None:
        """Creates what the step starts from, 0 before training, and the learned change."""
        del input_shape
        self.step_start = self.add_weight(shape=(), initializer="zeros", trainable=False, name="step_start")
        self.step_change = self.add_weight(shape=(), initializer="zeros", name="step_change")

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {**super().get_config(), "start": self.start}

    @property
    def upper(self) -> float:
        """The largest level, Qp steps."""
        return float(ops.convert_to_numpy(self.bound()))

    def bound(self) -> Tensor | float:
        """The largest level, Qp steps; no gradient."""
        known = ops.stop_gradient(self.step_start)
        start = ops.where(known > 0, known, self.start / self.steps)
        return self.steps * start * _share(self.step_change)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Shape in, shape out; in training, the step has its gradient."""
        if not training:
            return super().call(inputs, training=False)
        latent = ops.stop_gradient(inputs)
        known = ops.stop_gradient(self.step_start)
        # One look at the batch, in the first step; a batch without anything above zero sets nothing.
        start = ops.cond(known > 0, lambda: known, lambda: self._initial(latent))
        self.step_start.assign(start)
        features = ops.cast(ops.prod(ops.shape(inputs)[1:]), inputs.dtype)
        # By what the change's gradient is multiplied: g, and one over s0.
        factor = 1 / (ops.maximum(start, TINY) * ops.sqrt(features * self.steps))
        if self.rounding and keras.backend.backend() == "tensorflow":
            return self._learning(inputs, factor)
        outputs = super().call(inputs, training=False)
        bound = self.bound()
        inside = ops.where((latent > 0) & (latent < bound), latent, 0)
        slope = (ops.stop_gradient(outputs) - inside) * (self.steps / bound) * factor
        change = ops.convert_to_tensor(self.step_change)
        return outputs + slope * (change - ops.stop_gradient(change))

    def _initial(self, inputs: Tensor) -> Tensor:
        return ops.mean(ops.relu(inputs)) * (2 / math.sqrt(self.steps))

    def _learning(self, inputs: Tensor, factor: Tensor) -> Tensor:
        """The same in TensorFlow's kernels, and three passes over the activations for the gradient of the step."""
        import tensorflow as tf  # here: training under JAX runs without TensorFlow

        bound = ops.convert_to_tensor(self.bound())

        @tf.custom_gradient
        def rounded(x: Tensor, change: Tensor) -> tuple[Tensor, Any]:
            del change
            y = self._rounded(x, bound)

            def gradients(upstream: Tensor) -> tuple[Tensor, Tensor]:
                to_x, above = self._slopes(upstream, x, bound)
                inside = tf.reduce_sum(to_x * tf.stop_gradient(y - x)) * (self.steps / bound)
                return to_x, factor * (inside + self.steps * above)

            return y, gradients

        return rounded(inputs, ops.convert_to_tensor(self.step_change))
