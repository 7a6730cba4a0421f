"""QKeras layers that own what a stochastic quantizer needs: its random state and the fraction of channels quantized.

QKeras' own stochastic quantizers never sample in a Keras 3 graph: the layers do not pass `training` on, and noise drawn outside
a `SeedGenerator` is frozen when the graph is traced. Here the layer's `build` makes both variables, `call` tells the quantizer
whether it trains, and both are saved with the layer.
"""

from typing import Any, ClassVar, Self

import keras
import numpy as np
import qkeras

# They register the activations and the batch norm that stored networks have between these layers.
from tinyrobust.quantizers import activations as activations
from tinyrobust.quantizers import norm as norm
from tinyrobust.quantizers.weights import StochasticTernary, Tensor, WeightQuantizer


class _OwnsQuantizer:
    """Mixin before a QKeras layer. `_prefix` begins the names under which QKeras keeps kernel, quantizer and constraint."""

    _prefix: ClassVar[str]
    _kernel_name: ClassVar[str]
    bias: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Without a constraint QKeras clips the latent weights to [-1, 1] at every step; the base class changes nothing.
        constraint = f"{self._prefix}_constraint"
        super().__init__(*args, **{**kwargs, constraint: kwargs.get(constraint) or keras.constraints.Constraint()})

    @property
    def weight_quantizer(self) -> WeightQuantizer | None:
        """The quantizer of the kernel; None for float weights."""
        quantizer: WeightQuantizer | None = getattr(self, f"{self._prefix}_quantizer_internal")
        return quantizer

    @property
    def latent_weights(self) -> keras.Variable:
        """The kernel that the optimizer holds."""
        return getattr(self, self._kernel_name)

    def quantized_weights(self) -> np.ndarray:
        """The kernel that the layer computes with at inference."""
        quantizer = self.weight_quantizer
        latent = keras.ops.convert_to_tensor(self.latent_weights)
        return np.asarray(keras.ops.convert_to_numpy(latent if quantizer is None else quantizer.levels(latent)))

    def unquantized(self, **changes: object) -> Self:
        """A new layer like this one that computes with its kernel as it is; `changes` are other constructor arguments."""
        config = {**self.get_config(), f"{self._prefix}_quantizer": None, **changes}  # type: ignore[attr-defined]
        layer: Self = type(self).from_config(config)  # type: ignore[attr-defined]
        return layer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Adds the random state and the fraction, where the quantizer is stochastic."""
        super().build(input_shape)  # type: ignore[misc]
        quantizer = self.weight_quantizer
        if isinstance(quantizer, StochasticTernary):
            self.seed_generator = keras.random.SeedGenerator(quantizer.seed)
            self.quantized_fraction = self.add_weight(  # type: ignore[attr-defined]
                shape=(), initializer="ones", trainable=False, name="quantized_fraction"
            )
            quantizer.attach(self.seed_generator, self.quantized_fraction)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Computes with quantized weights; a stochastic quantizer draws anew when `training`."""
        quantizer = self.weight_quantizer
        if not isinstance(quantizer, StochasticTernary):
            return super().call(inputs)  # type: ignore[misc]
        quantizer.training = bool(training)
        try:
            return super().call(inputs)  # type: ignore[misc]
        finally:
            quantizer.training = False

    def _own(self) -> dict[str, Any]:
        names = (self._kernel_name, "bias", "quantized_fraction")
        own = {name: getattr(self, name) for name in names if getattr(self, name, None) is not None}
        return own | ({"seed_state": self.seed_generator.state} if hasattr(self, "seed_generator") else {})

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Keras' own version stores kernel and bias only: a resumed run would draw other channels."""
        for name, variable in self._own().items():
            store[name] = variable  # noqa: PERF403 - the store has item assignment only

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """The inverse of `save_own_variables`."""
        for name, variable in self._own().items():
            variable.assign(store[name])


@keras.saving.register_keras_serializable("tinyrobust")
class QuantConv2D(_OwnsQuantizer, qkeras.QConv2D):
    """`qkeras.QConv2D` with latent weights that are not clipped, and a stochastic quantizer that samples."""

    _prefix = "kernel"
    _kernel_name = "kernel"


@keras.saving.register_keras_serializable("tinyrobust")
class QuantDense(_OwnsQuantizer, qkeras.QDense):
    """`qkeras.QDense` with latent weights that are not clipped, and a stochastic quantizer that samples."""

    _prefix = "kernel"
    _kernel_name = "kernel"


@keras.saving.register_keras_serializable("tinyrobust")
class QuantDepthwiseConv2D(_OwnsQuantizer, qkeras.QDepthwiseConv2D):
    """`qkeras.QDepthwiseConv2D` with latent weights that are not clipped, and a stochastic quantizer that samples."""

    _prefix = "depthwise"
    _kernel_name = "depthwise_kernel"


def weight_layers(model: keras.Model) -> list[Any]:
    """The layers of `model` that hold latent weights, in order."""
    return [layer for layer in model.layers if isinstance(layer, _OwnsQuantizer)]


def set_fraction(model: keras.Model, fraction: float) -> None:
    """Sets the fraction of channels that stochastic quantizers quantize in training, in [0, 1]."""
    for layer in weight_layers(model):
        if hasattr(layer, "quantized_fraction"):
            layer.quantized_fraction.assign(fraction)
