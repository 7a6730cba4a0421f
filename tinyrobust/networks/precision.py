"""Turns the ordered `[[precision.rule]]` rules of a recipe into layers: which layer gets which quantizers."""

import re
import zlib
from collections.abc import Callable
from typing import Any, Literal

import keras

from tinyrobust.errors import RecipeError
from tinyrobust.quantizers.activations import QuantizedReLU
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D
from tinyrobust.quantizers.norm import FusedBatchNormalization
from tinyrobust.quantizers.weights import Binary, FixedPoint, StochasticTernary, Ternary, WeightQuantizer
from tinyrobust.recipe.precision import Precision, PrecisionRule

DEPTHWISE_AXES = (-2, -1)

_WEIGHTS: dict[str, Callable[[Any, tuple[int, ...], int], WeightQuantizer | None]] = {
    "stochastic-ternary": lambda _table, axes, seed: StochasticTernary(axes, seed),
    "ternary": lambda _table, axes, _seed: Ternary(axes),
    "binary": lambda _table, axes, _seed: Binary(axes),
    "fixed-point": lambda table, axes, _seed: FixedPoint(table.bits, axes),
    "float": lambda _table, _axes, _seed: None,
}


class LayerFactory:
    """Makes named layers with the precision that the first matching rule gives them.

    Args:
        precision: The recipe's rules, in order.
        seed: Every stochastic layer draws from a stream of its own, derived from this seed and the layer's name.
    """

    def __init__(self, precision: Precision, seed: int) -> None:
        self._rules = precision.rules
        self._seed = seed
        self._layers: list[str] = []
        self._used: set[int] = set()

    def conv(
        self, name: str, filters: int, size: int | tuple[int, int], strides: int = 1, *, bias: bool = False
    ) -> keras.Layer:
        """A convolution, same padding, [n, h, w, c] -> [n, h/strides, w/strides, filters]."""
        return QuantConv2D(
            filters,
            size,
            strides=strides,
            padding="same",
            use_bias=bias,
            kernel_quantizer=self._quantizer(name),
            name=name,
        )

    def depthwise(self, name: str, size: int, strides: int = 1, *, bias: bool = False) -> keras.Layer:
        """A depthwise convolution, same padding."""
        quantizer = self._quantizer(name, DEPTHWISE_AXES)
        return QuantDepthwiseConv2D(
            size, strides=strides, padding="same", use_bias=bias, depthwise_quantizer=quantizer, name=name
        )

    def dense(self, name: str, units: int, *, bias: bool = False) -> keras.Layer:
        """A dense layer, [n, features] -> [n, units]."""
        return QuantDense(units, use_bias=bias, kernel_quantizer=self._quantizer(name), name=name)

    def relu(self, name: str) -> keras.Layer:
        """The activation that follows layer `name`, called `<name>-relu`."""
        rule = self._rule(name)
        bound: Literal["pact", "relu6"] = "pact" if rule.activations.kind == "pact" else "relu6"
        return QuantizedReLU(bound, rounding=rule.activations.kind != "float", name=f"{name}-relu")

    def norm(self, name: str) -> keras.Layer:
        """The batch norm that follows layer `name`, called `<name>-bn`."""
        return FusedBatchNormalization(momentum=0.9, name=f"{name}-bn")

    def check_every_rule_is_used(self) -> None:
        """Raises RecipeError when a rule gave no layer its precision: misspelt, or earlier rules take all it matches."""
        for index, rule in enumerate(self._rules):
            if index in self._used:
                continue
            shadowed = any(re.fullmatch(rule.layers, name) for name in self._layers)
            problem = "is never reached: earlier rules match all its layers" if shadowed else "matches no layer"
            raise RecipeError(
                f"Precision rule {index + 1} (layers = {rule.layers!r}) {problem}.",
                hint=f"Layers: {', '.join(self._layers)}. The expression must match a whole name; the first match wins.",
            )

    def _rule(self, name: str) -> PrecisionRule:
        if name not in self._layers:
            self._layers.append(name)
        for index, rule in enumerate(self._rules):
            if re.fullmatch(rule.layers, name):
                self._used.add(index)
                return rule
        raise RecipeError(
            f"No precision rule matches layer {name!r}.",
            hint='End the list with a rule for all that is left: [[precision.rule]] layers = ".*".',
        )

    def _quantizer(self, name: str, axes: tuple[int, ...] = (-1,)) -> Any:
        rule = self._rule(name)
        # crc32, not hash(): the same in every process.
        return _WEIGHTS[rule.weights.kind](rule.weights, axes, zlib.crc32(f"{self._seed}/{name}".encode()) % 2**31)
