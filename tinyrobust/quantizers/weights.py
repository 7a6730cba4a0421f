"""Weight quantizers: what a layer computes with, given the latent weights the optimizer holds.

Every quantizer works per output channel, returns exactly the levels it names, and passes gradients straight through
(dq/dw = 1, Bengio et al. 2013). They plug into QKeras layers: `bits`, a textual `alpha`, `max`, `min` and `get_config` are what
QKeras asks of a quantizer object.

The straight-through form is `stop(q) + (w - stop(w))`: the bracket is exactly zero in floating point, so a ternary channel has
exactly three values in training too (`w + stop(q - w)` rounds).
"""

import abc
from typing import Any, ClassVar

import keras
from keras import ops

Tensor = Any

# Below this, a channel's mean magnitude counts as zero: it keeps divisions finite for channels that are all zero.
_TINY = 1e-12


def straight_through(latent: Tensor, quantized: Tensor) -> Tensor:
    """`quantized` in value, `latent` in gradient."""
    return ops.stop_gradient(quantized) + (latent - ops.stop_gradient(latent))


def twn(latent: Tensor, channel_axes: tuple[int, ...] = (-1,)) -> Tensor:
    """Ternary weights per channel (Li et al. 2016, arXiv 1605.04711, eqs. 5 and 6).

    forward: `q = a * sign(w) * [|w| > 0.7 mean|w|]`, with `a` the mean of `|w|` above the threshold.

    Args:
        latent: Latent weights of any shape.
        channel_axes: Axes that are not reduced: threshold and scale are per channel.
    """
    axes = _reduced(latent, channel_axes)
    magnitude = ops.abs(latent)
    above = ops.cast(magnitude > 0.7 * ops.mean(magnitude, axes, keepdims=True), latent.dtype)
    kept = ops.maximum(ops.sum(above, axes, keepdims=True), 1)
    scale = ops.sum(magnitude * above, axes, keepdims=True) / kept
    return scale * above * ops.sign(latent)


def relative_error(latent: Tensor, quantized: Tensor, channel_axes: tuple[int, ...] = (-1,)) -> Tensor:
    """`e_i = |W_i - Q_i|_1 / |W_i|_1` of every channel, flat (Dong et al. 2017, eq. 4); 0 where the channel is all zero."""
    axes = _reduced(latent, channel_axes)
    distance = ops.sum(ops.abs(latent - quantized), axes)
    return ops.reshape(distance / ops.maximum(ops.sum(ops.abs(latent), axes), _TINY), (-1,))


def _reduced(latent: Tensor, channel_axes: tuple[int, ...]) -> tuple[int, ...]:
    rank = len(latent.shape)
    kept = {axis % rank for axis in channel_axes}
    return tuple(axis for axis in range(rank) if axis not in kept)


class WeightQuantizer(abc.ABC):
    """The base: deterministic, straight-through, per channel. A subclass writes `levels`.

    Args:
        channel_axes: Axes of the kernel that stay apart: (-1,) for convolutions and dense layers, (-2, -1) for depthwise ones.
    """

    format: ClassVar[str]
    bits: int
    # QKeras leaves the layer's initializer alone when alpha is text, and replaces it otherwise.
    alpha = "per-channel"

    def __init__(self, channel_axes: tuple[int, ...] = (-1,)) -> None:
        self.channel_axes = tuple(channel_axes)

    @abc.abstractmethod
    def levels(self, latent: Tensor) -> Tensor:
        """The quantized weights, without a gradient of their own."""

    def __call__(self, latent: Tensor) -> Tensor:
        """`levels` in value, the identity in gradient."""
        # QKeras hands over the variable itself, which JAX does not take for an array inside a traced function.
        latent = ops.convert_to_tensor(latent)
        return straight_through(latent, self.levels(latent))

    def max(self) -> float:
        """Largest magnitude QKeras may assume (it is not used: alpha is text)."""
        return 1.0

    def min(self) -> float:
        """Smallest value QKeras may assume."""
        return -1.0

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"channel_axes": list(self.channel_axes)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WeightQuantizer":
        """The inverse of `get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable("tinyrobust")
class Ternary(WeightQuantizer):
    """Plain ternary weight networks: `twn` of every channel, at every step."""

    format = "ternary"
    bits = 2

    def levels(self, latent: Tensor) -> Tensor:
        """See `twn`."""
        return twn(latent, self.channel_axes)


@keras.saving.register_keras_serializable("tinyrobust")
class StochasticTernary(Ternary):
    """Stochastic quantization of channels (Dong et al., BMVC 2017, arXiv 1708.01001, section 3) over `twn`.

    In training a fraction r of the channels is quantized and the others stay in full precision. Channels are drawn without
    replacement with probability falling with their error, `p_i ~ 1 / e_i`; the draw is a Gumbel-top-k (Kool et al. 2019), which
    equals the sequential roulette of the paper. At inference every channel is quantized.

    The *layer* owns the random state and the fraction and lends them through `attach`: so they are saved with the layer, and
    compiled graphs of TensorFlow and JAX see new noise at every step.
    """

    format = "stochastic-ternary"
    # Errors below this are equal: a channel that is exactly ternary must not swallow the whole probability.
    smallest_error = 1e-3

    def __init__(self, channel_axes: tuple[int, ...] = (-1,), seed: int = 0) -> None:
        super().__init__(channel_axes)
        self.seed = seed
        self.training = False
        self._generator: Any = None
        self._fraction: Any = None

    def attach(self, generator: Any, fraction: Any) -> None:
        """Lends the layer's `SeedGenerator` and its scalar variable `quantized_fraction` in [0, 1]."""
        self._generator, self._fraction = generator, fraction

    def chosen(self, errors: Tensor) -> Tensor:
        """A fresh draw: True for each of the round(r * channels) channels that are quantized in this step. Shape [channels]."""
        channels = errors.shape[0]
        uniform = keras.random.uniform((channels,), minval=1e-9, maxval=1.0, seed=self._generator)
        gumbel = -ops.log(-ops.log(uniform))
        keys = gumbel - ops.log(ops.maximum(errors, self.smallest_error))
        rank = ops.argsort(ops.argsort(-keys))
        return ops.cast(rank, "float32") < ops.round(self._fraction * channels)

    def levels(self, latent: Tensor) -> Tensor:
        """`twn`; in training, only in the channels of this step's draw."""
        quantized = super().levels(latent)
        if not self.training or self._generator is None:
            return quantized
        # The draw is no function of the weights as far as gradients go: argsort has none.
        errors = ops.stop_gradient(relative_error(latent, quantized, self.channel_axes))
        rank = len(latent.shape)
        kept = {axis % rank for axis in self.channel_axes}
        shape = tuple(size if axis in kept else 1 for axis, size in enumerate(latent.shape))
        return ops.where(ops.reshape(self.chosen(errors), shape), quantized, latent)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("tinyrobust")
class Binary(WeightQuantizer):
    """Two levels per channel (XNOR-Net, Rastegari et al. 2016, eq. 6).

    forward: `q = mean|w| * (+1 if w >= 0 else -1)`.
    """

    format = "binary"
    bits = 1

    def levels(self, latent: Tensor) -> Tensor:
        """See the class."""
        scale = ops.mean(ops.abs(latent), _reduced(latent, self.channel_axes), keepdims=True)
        return ops.where(latent >= 0, scale, -scale)


@keras.saving.register_keras_serializable("tinyrobust")
class FixedPoint(WeightQuantizer):
    """Symmetric fixed-point weights with a per-channel scale: at 8 bits exactly the grid of TensorFlow Lite's int8 kernels.

    forward: `q = s * round(w / s)`, `s = max|w| / (2^(bits-1) - 1)` (TensorFlow Lite 8-bit quantization specification).
    """

    format = "fixed-point"

    def __init__(self, bits: int = 8, channel_axes: tuple[int, ...] = (-1,)) -> None:
        super().__init__(channel_axes)
        self.bits = bits

    def levels(self, latent: Tensor) -> Tensor:
        """See the class."""
        largest = ops.max(ops.abs(latent), _reduced(latent, self.channel_axes), keepdims=True)
        scale = ops.maximum(largest, _TINY) / (2 ** (self.bits - 1) - 1)
        return scale * ops.round(latent / scale)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"bits": self.bits, **super().get_config()}
