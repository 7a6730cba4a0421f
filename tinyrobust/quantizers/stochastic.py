"""Quantizers that draw: every value becomes one of K learned bins at random, in training and at inference."""

from collections.abc import Mapping, MutableMapping
from typing import Literal, Self

import keras
from keras import ops

from tinyrobust.quantizers.activations import Shape
from tinyrobust.quantizers.base import Tensor, straight_through

# A uniform number is at least this: its logarithm is finite. Below it, a distance of bins counts as none.
_TINY = 1e-7


@keras.saving.register_keras_serializable("tinyrobust")
class Rising(keras.constraints.Constraint):
    """Numbers in rising order along the last axis: after a step of the optimizer, bins are sorted again."""

    def __call__(self, variable: Tensor) -> Tensor:
        """Shape in, shape out."""
        return ops.sort(variable, axis=-1)


def _masses(scores: Tensor) -> Tensor:
    """`exp(scores)` [K, ...], the largest of each value scaled to 1: probabilities, but for their sum."""
    return ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=0)))


class BinPenalty(keras.regularizers.Regularizer):
    """What is added to the loss for bins, the mean over groups of both terms.

    With the distances d_k of neighbouring bins and their mean s:

    - spacing: `weight * mean_k (d_k / s - 1)^2`, 0 where bins are evenly spaced; bins that collapse have d_k = 0;
    - Lipschitz: `weight * (alpha max_k d_k / (2 s))^2`. `alpha d_k / (2 s)` is the slope of the expected output halfway between
      two bins where the others have no share: so much is noise amplified there. Evenly spaced bins have `alpha / 2`, the least.

    Args:
        spacing: Weight of the first.
        lipschitz: Weight of the second.
        alpha: See `StochasticQuantizer`.
    """

    def __init__(self, spacing: float, lipschitz: float, alpha: float) -> None:
        self.spacing, self.lipschitz, self.alpha = spacing, lipschitz, alpha

    def __call__(self, bins: Tensor) -> Tensor:
        """Bins [..., K] to a scalar."""
        shares = relative_distances(ops.convert_to_tensor(bins))
        uneven = ops.mean(ops.square(shares - 1))
        steepest = self.alpha / 2 * ops.max(shares, axis=-1)
        return self.spacing * uneven + self.lipschitz * ops.mean(ops.square(steepest))


def relative_distances(bins: Tensor) -> Tensor:
    """The distances of neighbouring bins over their mean, [..., K] -> [..., K - 1]: 1 where they are evenly spaced."""
    distances = bins[..., 1:] - bins[..., :-1]
    return distances / ops.maximum(ops.mean(distances, axis=-1, keepdims=True), _TINY)


@keras.saving.register_keras_serializable("tinyrobust")
class StochasticQuantizer(keras.layers.Layer):
    """K learned bins, one of which is drawn for every value (Farkya, Raghavan & Ziskind 2023, arXiv 2312.00105).

    With bins `b_1 < ... < b_K` and their mean distance s, the bin k of a value x has the probability

        p_k(x) = softmax_k(-alpha |x - b_k| / s).

    forward, always: one bin, drawn for every value by itself; exactly K values come out. gradient in training: that of the
    relaxed draw `sum_k b_k softmax_k((log p_k + g_k) / temperature)`, whose Gumbel noise g is that of the draw (Jang et al.
    2017, arXiv 1611.01144, section 2.2, straight-through). gradient at inference: that of the expected output
    `sum_k b_k p_k(x)`, which is the mean of an attacker's gradients over all draws of this layer. It is zero beyond the outer
    bins, where p does not depend on x. With `open`, it is the identity instead: what an attack that is not to be stopped
    there goes by.

    Args:
        bins: K, at least 2.
        alpha: How sure a draw is, above 0; halfway between two bins both have the same probability, whatever it is.
        low: The lowest bin before training.
        high: The highest; the others are evenly spaced between them.
        group: "tensor": all values share the bins; "channel": every channel (the last axis) has its own.
        start: The temperature that training starts with; `end` is the one that it ends with.
        end: See `start`: training lowers the temperature geometrically, step by step.
        spacing: Weight of a penalty; see `BinPenalty`.
        lipschitz: Weight of another.
        seed: Of the draws; their state is saved with the layer.
        open: See above.
    """

    def __init__(
        self,
        bins: int = 8,
        alpha: float = 4.0,
        low: float = 0.0,
        high: float = 1.0,
        group: Literal["tensor", "channel"] = "tensor",
        start: float = 1.0,
        end: float = 0.2,
        spacing: float = 0.0,
        lipschitz: float = 0.0,
        seed: int = 0,
        open: bool = False,  # noqa: A002 - as `OnGrid` has it
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        if bins < 2 or not alpha > 0 or not low < high:
            raise ValueError(f"Expected bins >= 2, alpha > 0 and low < high. Received: {bins}, {alpha}, {low} and {high}")
        self.count, self.alpha, self.low, self.high, self.group = bins, alpha, low, high, group
        self.start, self.end, self.spacing, self.lipschitz = start, end, spacing, lipschitz
        self.seed, self.open = seed, open
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        """Creates the bins and the temperature."""
        groups = () if self.group == "tensor" else (input_shape[-1],)
        even = [self.low + (self.high - self.low) * k / (self.count - 1) for k in range(self.count)]
        self.bins = self.add_weight(
            shape=(*groups, self.count),
            initializer=lambda shape, dtype=None: ops.broadcast_to(ops.convert_to_tensor(even, dtype), shape),
            regularizer=BinPenalty(self.spacing, self.lipschitz, self.alpha),
            constraint=Rising(),
            name="bins",
        )
        initial = keras.initializers.Constant(self.start)
        self.temperature = self.add_weight(shape=(), initializer=initial, trainable=False, name="temperature")

    def scores(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithms of the probabilities but for a constant, `-alpha |x - b_k| / s`, [K, ...], and the bins beside them.

        Bins go first: sums over them are then sums of whole tensors.
        """
        bins = ops.convert_to_tensor(self.bins)
        spacing = ops.maximum(ops.mean(bins[..., 1:] - bins[..., :-1], axis=-1), _TINY)
        ones = (1,) * (len(inputs.shape) - len(bins.shape) + 1)
        bins = ops.reshape(ops.moveaxis(bins, -1, 0), (self.count, *ones, *bins.shape[:-1]))
        return ops.abs(ops.expand_dims(inputs, 0) - bins) * (-self.alpha / spacing), bins

    def probabilities(self, inputs: Tensor) -> Tensor:
        """`p_k(x)`, [K, ...]."""
        masses = _masses(self.scores(inputs)[0])
        return masses / ops.sum(masses, axis=0)

    def upper(self, inputs: Tensor) -> Tensor:
        """The probability that one of the upper half of the bins is drawn, shape in, shape out: values made binary.

        Of an odd number of bins, the middle one belongs to the lower half.
        """
        return ops.sum(self.probabilities(inputs)[self.count - self.count // 2 :], axis=0)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Shape in, shape out."""
        scores, bins = self.scores(inputs)
        if training:
            uniform = keras.random.uniform(ops.shape(scores), minval=_TINY, seed=self.generator)
            noisy = scores - ops.log(-ops.log(uniform))
            index, masses = ops.argmax(noisy, axis=0), _masses(noisy / self.temperature)
        else:  # a draw by the inverse of the distribution function: one random number, where Gumbel noise takes K
            masses = _masses(scores)
            reached = ops.cumsum(masses, axis=0)
            uniform = keras.random.uniform(ops.shape(inputs), seed=self.generator)
            index = ops.sum(ops.cast(uniform * reached[-1] >= reached[:-1], "int32"), axis=0)
        drawn = self._of(index, bins)
        if self.open and not training:
            return straight_through(inputs, drawn)
        return straight_through(ops.sum(masses * bins, axis=0) / ops.sum(masses, axis=0), drawn)

    def _of(self, index: Tensor, bins: Tensor) -> Tensor:
        """The bins that were drawn."""
        if self.group == "tensor":
            return ops.take(ops.reshape(bins, (-1,)), index)
        return ops.sum(ops.one_hot(index, self.count, axis=0, dtype=bins.dtype) * bins, axis=0)

    def opened(self) -> Self:
        """A new layer of the same settings whose gradient at inference is the identity; weights are copied by the caller."""
        layer: Self = type(self).from_config({**self.get_config(), "open": True})
        return layer

    def own_variables(self) -> dict[str, keras.Variable]:
        """Bins, temperature and the state of the draws, by the names under which they are saved."""
        return {"bins": self.bins, "temperature": self.temperature, "seed_state": self.generator.state}

    def save_own_variables(self, store: MutableMapping[str, Tensor]) -> None:
        """Keras' own version does not store the state of the draws."""
        for name, variable in self.own_variables().items():
            store[name] = variable

    def load_own_variables(self, store: Mapping[str, Tensor]) -> None:
        """The inverse of `save_own_variables`."""
        for name, variable in self.own_variables().items():
            variable.assign(store[name])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Shape in, shape out."""
        return input_shape

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        names = ("alpha", "low", "high", "group", "start", "end", "spacing", "lipschitz", "seed", "open")
        return {**super().get_config(), "bins": self.count, **{name: getattr(self, name) for name in names}}


def stochastic_layers(network: keras.Model) -> list[StochasticQuantizer]:
    """The layers of a network that draw, in order."""
    return [layer for layer in network.layers if isinstance(layer, StochasticQuantizer)]


def binary_entropy(probabilities: Tensor) -> Tensor:
    """`-p ln p - (1 - p) ln(1 - p)` in nats, shape in, shape out: 0 to ln 2."""
    p = ops.clip(probabilities, _TINY, 1 - _TINY)
    return -p * ops.log(p) - (1 - p) * ops.log(1 - p)


def mutual_information(probabilities: Tensor) -> Tensor:
    """How much a binary feature says about which member of an ensemble made it: mean over the features, in nats.

    forward: `MI = H(mean_m p_m) - mean_m H(p_m)`, H the entropy of a binary variable (Farkya et al. 2023, arXiv 2312.00105;
    summaries of the paper print the sign reversed). It is that of the feature and of the member, drawn with equal
    probability; so it is at least 0, and at most ln 2 and ln M.

    Args:
        probabilities: p, that features are 1: [members, n, features].

    Returns:
        [n].
    """
    together = binary_entropy(ops.mean(probabilities, axis=0))
    return ops.mean(together - ops.mean(binary_entropy(probabilities), axis=0), axis=-1)
