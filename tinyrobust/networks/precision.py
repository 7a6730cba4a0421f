"""Turns the ordered `[[precision.rule]]` rules of a recipe into layers: which layer gets which quantizers."""

import zlib

import keras

from tinyrobust.errors import RecipeError
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tinyrobust.quantizers.norm import FusedBatchNormalization
from tinyrobust.recipe.precision import Precision, PrecisionRule

# One number for both axes, or (rows, columns).
Pair = int | tuple[int, int]

CHANNEL_AXES = (-1,)
DEPTHWISE_AXES = (-2, -1)


class LayerFactory:
    """Makes named layers with the precision that the first matching rule gives them.

    A norm and an activation are named after the layer with weights that they belong to, whether they come behind it or before.

    Args:
        precision: The recipe's rules, in order. Weights that are still to be chosen to fit a budget stay in float.
        seed: Every stochastic layer draws from a stream of its own, derived from this seed and the layer's name.
    """

    def __init__(self, precision: Precision, seed: int) -> None:
        self._precision = precision
        self._seed = seed
        self._layers: list[str] = []
        self._roles: dict[str, str] = {}
        self._used: set[int] = set()

    def answers_to(self, name: str, role: str) -> None:
        """Lets rules that match `role` match layer `name` too, in a network whose first and last layers have other names."""
        self._roles[name] = role

    def conv(
        self,
        name: str,
        filters: int,
        size: Pair,
        strides: Pair = 1,
        *,
        padding: str = "same",
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> keras.Layer:
        """A convolution, [n, h, w, c] -> [n, h', w', filters].

        Args:
            name: Of the layer: what rules match.
            filters: Channels of the output.
            size: Of the window.
            strides: From one window to the next; with padding "same", h' is h / strides, rounded up.
            padding: "same" or "valid".
            dilation: From one tap of the window to the next.
            groups: Into how many parts the channels are split; each part of the filters reads one.
            bias: Whether it has one.
        """
        return self._with_role(
            QuantConv2D(
                filters,
                size,
                strides=strides,
                padding=padding,
                dilation_rate=dilation,
                groups=groups,
                use_bias=bias,
                kernel_quantizer=self._quantizer(name, CHANNEL_AXES),
                name=name,
            )
        )

    def depthwise(
        self,
        name: str,
        size: Pair,
        strides: Pair = 1,
        *,
        padding: str = "same",
        dilation: Pair = 1,
        multiplier: int = 1,
        bias: bool = False,
    ) -> keras.Layer:
        """A depthwise convolution, [n, h, w, c] -> [n, h', w', c * multiplier]; see `conv`."""
        return self._with_role(
            QuantDepthwiseConv2D(
                size,
                strides=strides,
                padding=padding,
                dilation_rate=dilation,
                depth_multiplier=multiplier,
                use_bias=bias,
                depthwise_quantizer=self._quantizer(name, DEPTHWISE_AXES),
                name=name,
            )
        )

    def dense(self, name: str, units: int, *, bias: bool = False) -> keras.Layer:
        """A dense layer, [n, features] -> [n, units]."""
        quantizer = self._quantizer(name, CHANNEL_AXES)
        return self._with_role(QuantDense(units, use_bias=bias, kernel_quantizer=quantizer, name=name))

    def relu(self, name: str, called: str | None = None) -> keras.Layer:
        """The activation of layer `name`, called `<name>-relu` where it has no other name."""
        return self.rule(name).activations.build(called or f"{name}-relu")

    def norm(self, name: str, called: str | None = None, epsilon: float = 1e-3, *, trained: bool = False) -> keras.Layer:
        """The batch norm of layer `name`, called `<name>-bn` where it has no other name; `epsilon` is added to variances.

        Where weights have levels that do not lie evenly about zero, such as -2 to 1, its scales are kept from going below zero.
        Folded into the weights, a negative one turns a channel around, and a tensor of both kinds of channels has a level more
        than fit into its bits. Nothing is lost: the latent weights can change their sign instead. Scales of a network that
        comes `trained` are left as they are.
        """
        constraint = keras.constraints.NonNeg() if self._precision.one_sided and not trained else None
        own = called or f"{name}-bn"
        return FusedBatchNormalization(momentum=0.9, epsilon=epsilon, gamma_constraint=constraint, name=own)

    def check_every_rule_is_used(self) -> None:
        """Raises RecipeError when a rule gave no layer its precision: misspelt, or earlier rules take all it matches."""
        for index, rule in enumerate(self._precision.rules):
            if index in self._used:
                continue
            shadowed = any(rule.matches(name, self._roles.get(name)) for name in self._layers)
            problem = "is never reached: earlier rules match all its layers" if shadowed else "matches no layer"
            layers = (f"{name} (or {self._roles[name]})" if name in self._roles else name for name in self._layers)
            raise RecipeError(
                f"Precision rule {index + 1} (layers = {rule.layers!r}) {problem}.",
                hint=f"Layers: {', '.join(layers)}. The expression must match a whole name; the first match wins.",
            )

    def rule(self, name: str) -> PrecisionRule:
        """The first rule that matches layer `name`.

        Raises:
            RecipeError: None does.
        """
        if name not in self._layers:
            self._layers.append(name)
        index = self._precision.match(name, self._roles.get(name))
        if index is not None:
            self._used.add(index)
            return self._precision.rules[index]
        raise RecipeError(
            f"No precision rule matches layer {name!r}.",
            hint='End the list with a rule for all that is left: [[precision.rule]] layers = ".*".',
        )

    def _with_role(self, layer: keras.Layer) -> keras.Layer:
        layer.role = self._roles.get(layer.name)
        return layer

    def _quantizer(self, name: str, channel_axes: tuple[int, ...]) -> object:
        self.rule(name)
        weights = self._precision.weights(name, self._roles.get(name))
        if weights is None:  # until a search has chosen
            return None
        # crc32, not hash(): the same in every process.
        return weights.build(channel_axes, zlib.crc32(f"{self._seed}/{name}".encode()) % 2**31)
