"""Weights that are each drawn anew at every step of training, with probabilities that latent weights give (QKeras).

QKeras' own never sample in a Keras 3 graph: see `layers`. These draw from a seed generator that the layer owns.
"""

from collections.abc import Mapping

import keras
from keras import ops

from tinyrobust import formats
from tinyrobust.quantizers.base import AddWeight, Group, GroupedQuantizer, State, Tensor
from tinyrobust.quantizers.weights import signs

# Of a group's standard deviation and of the magnitudes that its scale is a mean of, as in QKeras: a group may be all zero.
_EPSILON = 1e-7
# QKeras' default: how often threshold and scale are found from each other.
_UNROLLS = 5


class _Sampled(GroupedQuantizer):
    """What both have: a temperature, draws, and the straight-through gradient.

    Args:
        channel_axes: See `WeightQuantizer`.
        seed: Of the draws.
        temperature: The higher, the less is left to chance.
        group: What has a scale, a threshold and a standard deviation of its own.
    """

    def __init__(
        self, channel_axes: tuple[int, ...] = (-1,), seed: int = 0, temperature: float = 6.0, group: Group = "channel"
    ) -> None:
        super().__init__(channel_axes, group)
        self.seed, self.temperature = seed, temperature

    def create(self, add_weight: AddWeight, shape: tuple[int, ...]) -> Mapping[str, State]:
        """The random state."""
        del add_weight, shape
        return {"seed_state": keras.random.SeedGenerator(self.seed)}

    def drawn(self, scores: Tensor) -> Tensor:
        """True with probability `sigmoid(temperature * score)`, each for itself; of the shape of `scores`."""
        uniform = keras.random.uniform(scores.shape, seed=self.state["seed_state"])
        return ops.sigmoid(self.temperature * scores) >= uniform

    def normalised(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """`w / std(w)` of every group, and the standard deviations."""
        deviation = ops.std(latent, self.pooled(latent), keepdims=True) + _EPSILON
        return latent / deviation, deviation

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {**super().get_config(), "seed": self.seed, "temperature": self.temperature}


@keras.saving.register_keras_serializable("tinyrobust")
class StochasticBinary(_Sampled):
    """Stochastic binary weights by the rule of QKeras' `stochastic_binary`.

    forward in training: `q = a * (+1 with probability sigmoid(temperature * w / std(w)), else -1)` with `a = mean|w|`, every
    weight drawn for itself; at inference `q = a * (+1 if w >= 0 else -1)`, as `Binary`. gradient: straight through, dq/dw = 1.

    Args: see `_Sampled`; QKeras' temperature is 6. Source: qkeras 1.2.1, `quantizers.py`, with alpha="auto" and the real
    sigmoid; the idea is that of BinaryConnect (Courbariaux et al. 2015, arXiv 1511.00363, eq. 2).
    """

    bits = 1
    storage = formats.BINARY

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        axes = self.pooled(latent)
        if not training or not self.state:
            return signs(latent, axes)
        scale = ops.mean(ops.abs(latent), axes, keepdims=True)
        return ops.where(self.drawn(self.normalised(latent)[0]), scale, -scale)


@keras.saving.register_keras_serializable("tinyrobust")
class StochasticTernaryQKeras(_Sampled):
    """Ternary weights, drawn one by one by the rule of QKeras' `stochastic_ternary`.

    Threshold t and scale a of a group are found from each other, five times, from `a = 2/3 max|w|`: `t = a / 2`, then
    `a = mean of |w| where |w| >= t`. With `v = w / std(w)` and `u = a / (2 std(w))`

    forward in training: `q = a * (s(v - u) + s(v + u)) / 2`, where every `s(z)` is drawn for itself: +1 with probability
    `sigmoid(temperature * z)`, else -1. So a weight is +a with probability `sigmoid(temperature * (v - u)) *
    sigmoid(temperature * (v + u))`, and -a with that of the two opposites. At inference `q = a * sign(w) * [|w| >= t]`, with
    the t that the last a is from. gradient: straight through, dq/dw = 1.

    Args: see `_Sampled`; QKeras' temperature is 8. Source: qkeras 1.2.1, `quantizers.py`, with alpha="auto" and the real
    sigmoid.
    """

    bits = 2
    storage = formats.TERNARY

    def __init__(
        self, channel_axes: tuple[int, ...] = (-1,), seed: int = 0, temperature: float = 8.0, group: Group = "channel"
    ) -> None:
        super().__init__(channel_axes, seed, temperature, group)

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        scale, kept = self._fitted(latent)
        if not training or not self.state:
            return scale * kept * ops.sign(latent)
        scores, deviation = self.normalised(latent)
        threshold = scale / (2 * deviation)
        both = self.drawn(ops.stack([scores - threshold, scores + threshold]))
        return scale * (ops.sum(ops.cast(both, latent.dtype), 0) - 1)

    def _fitted(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """The scale of every group, and 1 where a weight is above the threshold that it is from, else 0."""
        axes, magnitude = self.pooled(latent), ops.abs(latent)
        scale = ops.max(magnitude, axes, keepdims=True) * (2 / 3)
        for _ in range(_UNROLLS):
            kept = ops.cast(magnitude >= scale / 2, latent.dtype)
            scale = ops.sum(magnitude * kept, axes, keepdims=True) / (ops.sum(kept, axes, keepdims=True) + _EPSILON)
        return scale, kept
