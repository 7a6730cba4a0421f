"""Weight quantizers with closed forms: ternary, stochastic ternary, binary, fixed point.

Each returns exactly the levels it names, for every output channel or for the layer, and passes gradients straight through.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import keras
from keras import ops

from tinyrobust import formats
from tinyrobust.quantizers.base import (
    TINY,
    AddWeight,
    Group,
    GroupedQuantizer,
    Schedule,
    State,
    Tensor,
    WeightQuantizer,
    reduced,
)

Selection: TypeAlias = Literal["constant", "linear", "softmax", "sigmoid"]


def twn(latent: Tensor, channel_axes: tuple[int, ...] = (-1,)) -> Tensor:
    """Ternary weights per channel (Li et al. 2016, arXiv 1605.04711, eqs. 5 and 6).

    forward: `q = a * sign(w) * [|w| > 0.7 mean|w|]`, with `a` the mean of `|w|` above the threshold.

    Args:
        latent: Latent weights of any shape.
        channel_axes: Axes that are not reduced: threshold and scale are per channel; empty: of the whole tensor.
    """
    axes = reduced(latent, channel_axes)
    magnitude = ops.abs(latent)
    above = ops.cast(magnitude > 0.7 * ops.mean(magnitude, axes, keepdims=True), latent.dtype)
    kept = ops.maximum(ops.sum(above, axes, keepdims=True), 1)
    scale = ops.sum(magnitude * above, axes, keepdims=True) / kept
    return scale * above * ops.sign(latent)


def relative_error(latent: Tensor, quantized: Tensor, channel_axes: tuple[int, ...] = (-1,)) -> Tensor:
    """`e_i = |W_i - Q_i|_1 / |W_i|_1` of every channel, flat (Dong et al. 2017, eq. 4); 0 where the channel is all zero."""
    axes = reduced(latent, channel_axes)
    distance = ops.sum(ops.abs(latent - quantized), axes)
    return ops.reshape(distance / ops.maximum(ops.sum(ops.abs(latent), axes), TINY), (-1,))


def signs(latent: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Two levels (Rastegari et al. 2016, arXiv 1603.05279, eq. 6): `mean|w| * (+1 if w >= 0 else -1)`, the mean over `axes`."""
    scale = ops.mean(ops.abs(latent), axes, keepdims=True)
    return ops.where(latent >= 0, scale, -scale)


@keras.saving.register_keras_serializable("tinyrobust")
class Ternary(GroupedQuantizer):
    """Plain ternary weight networks (Li et al. 2016, arXiv 1605.04711): `twn` of every channel, or of the layer, at every step.

    gradient: straight through, dq/dw = 1.

    Args:
        channel_axes: See `WeightQuantizer`.
        group: What has a threshold and a scale of its own; the paper's equations are of a layer.
    """

    bits = 2
    storage = formats.TERNARY

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """See `twn`."""
        del training
        return twn(latent, self.scale_axes)


@keras.saving.register_keras_serializable("tinyrobust")
class StochasticTernary(Ternary):
    """Stochastic quantization of channels (Dong et al., BMVC 2017, arXiv 1708.01001, section 3) over `twn`.

    In training a fraction r of the channels is quantized and the others stay in full precision. Channels are drawn without
    replacement by a roulette; with f_i = 1 / e_i of the error e_i (`relative_error`; section 3.3), channel i has probability

    - constant: 1 / m, of m channels;
    - linear: f_i / sum f;
    - softmax: exp(f_i) / sum exp(f);
    - sigmoid: 1 / (1 + exp(-f_i)), over the sum of these, which the paper leaves out.

    The draw is a Gumbel-top-k (Kool et al. 2019, arXiv 1903.06059), which equals the sequential roulette. At inference every
    channel is quantized. gradient: straight through, dq/dw = 1.

    The draws come from a seed generator that the layer owns: so its state is saved with the layer, and compiled graphs of
    TensorFlow and JAX see new noise at every step.

    Args:
        channel_axes: See `WeightQuantizer`.
        seed: Of the draws.
        fractions: The fraction r of each phase of training, each in [0, 1].
        starts: Where each phase starts, as a share of all steps.
        group: What has a threshold and a scale of its own. The errors are of channels either way.
        selection: The rule of the roulette.
        unit: What is drawn: "channel", round(r m) of them; "layer", all or none of them, with probability r (one unit has no
            rivals: there is no rule to choose).
    """

    # Errors below this are equal: a channel that is exactly ternary must not swallow the whole probability.
    smallest_error = 1e-3

    def __init__(
        self,
        channel_axes: tuple[int, ...] = (-1,),
        seed: int = 0,
        fractions: tuple[float, ...] = (1.0,),
        starts: tuple[float, ...] = (0.0,),
        group: Group = "channel",
        selection: Selection = "linear",
        unit: Group = "channel",
    ) -> None:
        super().__init__(channel_axes, group)
        self.seed, self.fractions, self.starts = seed, tuple(fractions), tuple(starts)
        self.selection, self.unit = selection, unit
        self.schedule = Schedule("quantized_fraction", self.starts, self.fractions)

    def create(self, add_weight: AddWeight, shape: tuple[int, ...]) -> Mapping[str, State]:
        """The random state, and the fraction of channels that are quantized in training."""
        del shape
        return {
            "seed_state": keras.random.SeedGenerator(self.seed),
            "quantized_fraction": add_weight(shape=(), initializer="ones", trainable=False, name="quantized_fraction"),
        }

    def chosen(self, errors: Tensor) -> Tensor:
        """A fresh draw: True for each of the round(r * channels) channels that are quantized in this step. Shape [channels]."""
        channels = errors.shape[0]
        uniform = keras.random.uniform((channels,), minval=1e-9, maxval=1.0, seed=self.state["seed_state"])
        gumbel = -ops.log(-ops.log(uniform))
        keys = gumbel + self.log_weights(errors)
        rank = ops.argsort(ops.argsort(-keys))
        return ops.cast(rank, "float32") < ops.round(self.state["quantized_fraction"] * channels)

    def log_weights(self, errors: Tensor) -> Tensor:
        """The logarithms of the channels' probabilities in the first draw, up to a constant. Shape [channels]."""
        errors = ops.maximum(errors, self.smallest_error)
        if self.selection == "linear":
            return -ops.log(errors)
        if self.selection == "softmax":
            return 1 / errors
        return ops.log_sigmoid(1 / errors) if self.selection == "sigmoid" else ops.zeros_like(errors)

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """`twn`; in training, only in the channels of this step's draw."""
        quantized = super().levels(latent, training)
        if not training or not self.state:
            return quantized
        if self.unit == "layer":
            drawn = keras.random.uniform((), seed=self.state["seed_state"]) < self.state["quantized_fraction"]
            return ops.where(drawn, quantized, latent)
        # The draw is no function of the weights as far as gradients go: argsort has none.
        errors = ops.stop_gradient(relative_error(latent, quantized, self.channel_axes))
        within = self.reduced(latent)
        shape = tuple(1 if axis in within else size for axis, size in enumerate(latent.shape))
        return ops.where(ops.reshape(self.chosen(errors), shape), quantized, latent)

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        phases = {"fractions": list(self.fractions), "starts": list(self.starts)}
        return {**super().get_config(), "seed": self.seed, **phases, "selection": self.selection, "unit": self.unit}


@keras.saving.register_keras_serializable("tinyrobust")
class Binary(GroupedQuantizer):
    """Two levels (XNOR-Net, Rastegari et al. 2016, arXiv 1603.05279, eq. 6).

    forward: `q = mean|w| * (+1 if w >= 0 else -1)`, the mean over the channel or the layer. gradient: straight through,
    dq/dw = 1; the paper stops it where |w| > 1, but latent weights are not clipped here, and would not come back.

    Args:
        channel_axes: See `WeightQuantizer`.
        group: What has a scale of its own.
    """

    bits = 1
    storage = formats.BINARY

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        del training
        return signs(latent, self.pooled(latent))


@keras.saving.register_keras_serializable("tinyrobust")
class FixedPoint(WeightQuantizer):
    """Symmetric fixed-point weights with a per-channel scale: at 8 bits exactly the grid of TensorFlow Lite's int8 kernels.

    forward: `q = s * round(w / s)`, `s = max|w| / (2^(bits-1) - 1)` (TensorFlow Lite 8-bit quantization specification).
    gradient: straight through, dq/dw = 1.

    Args:
        bits: Of one weight, from 2 to 8; of one bit is `Binary`.
        channel_axes: See `WeightQuantizer`.
    """

    def __init__(self, bits: int = 8, channel_axes: tuple[int, ...] = (-1,)) -> None:
        super().__init__(channel_axes)
        self.bits = bits
        self.storage = formats.fixed_point(bits)

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        del training
        largest = ops.max(ops.abs(latent), self.reduced(latent), keepdims=True)
        scale = ops.maximum(largest, TINY) / (2 ** (self.bits - 1) - 1)
        return scale * ops.round(latent / scale)

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {"bits": self.bits, **super().get_config()}
