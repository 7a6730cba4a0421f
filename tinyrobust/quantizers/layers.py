"""QKeras layers that own what their quantizer declares: they create, train, save and load it, and say whether they train.

QKeras' own stochastic quantizers never sample in a Keras 3 graph: the layers do not pass `training` on, and noise drawn outside
a `SeedGenerator` is frozen when the graph is traced.
"""

import pkgutil
from collections.abc import MutableMapping
from typing import ClassVar, Self

import keras
import numpy as np
import numpy.typing as npt
import qkeras

from tinyrobust.choices import members
from tinyrobust.quantizers import norm as norm
from tinyrobust.quantizers import stochastic as stochastic
from tinyrobust.quantizers.base import State, Tensor, WeightQuantizer
from tinyrobust.recipe.activations import ActivationFormat, Activations
from tinyrobust.recipe.weights import WeightFormat, Weights

# Keras can load a stored network when what is in and between its layers was imported: norm, quantizers that draw, and the
# formats' classes.
for _table in members(Weights).values():
    if issubclass(_table, WeightFormat) and _table.quantizer:
        pkgutil.resolve_name(_table.quantizer)
for _table in members(Activations).values():
    if issubclass(_table, ActivationFormat):
        pkgutil.resolve_name(_table.layer)

_Store = MutableMapping[str, keras.Variable]


class _OwnsQuantizer:
    """Mixin before a QKeras layer. `_prefix` begins the names under which QKeras keeps kernel, quantizer and constraint.

    Attributes:
        quantizer_state: What the quantizer declared, by name; empty until the layer is built.
        role: Another name that precision rules matched when the layer was made; not saved.
    """

    _prefix: ClassVar[str]
    _kernel_name: ClassVar[str]
    bias: keras.Variable | None
    name: str
    role: str | None = None

    def __init__(self, *args: object, **kwargs: object) -> None:
        # Without a constraint QKeras clips the latent weights to [-1, 1] at every step; the base class changes nothing.
        constraint = f"{self._prefix}_constraint"
        super().__init__(*args, **{**kwargs, constraint: kwargs.get(constraint) or keras.constraints.Constraint()})
        self.quantizer_state: dict[str, State] = {}

    @property
    def weight_quantizer(self) -> WeightQuantizer | None:
        """The quantizer of the kernel; None for float weights."""
        quantizer: WeightQuantizer | None = getattr(self, f"{self._prefix}_quantizer_internal")
        return quantizer

    @property
    def latent_weights(self) -> keras.Variable:
        """The kernel that the optimizer holds."""
        return getattr(self, self._kernel_name)

    def deployed_weights(self) -> Tensor:
        """The kernel that the layer computes with at inference, with the quantizer's gradients to the latent weights."""
        quantizer = self.weight_quantizer
        latent = keras.ops.convert_to_tensor(self.latent_weights)
        return latent if quantizer is None else quantizer.quantize(latent, training=False)

    def quantized_weights(self) -> npt.NDArray[np.float32]:
        """The kernel that the layer computes with at inference."""
        return np.asarray(keras.ops.convert_to_numpy(self.deployed_weights()))

    def unquantized(self, **changes: object) -> Self:
        """A new layer like this one that computes with its kernel as it is; `changes` are other constructor arguments."""
        config = {**self.get_config(), f"{self._prefix}_quantizer": None, **changes}  # type: ignore[attr-defined]
        layer: Self = type(self).from_config(config)  # type: ignore[attr-defined]
        return layer

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates kernel and bias, then what the quantizer declares.

        Raises:
            ValueError: The quantizer belongs to another layer, or declares something under a name that the layer itself uses.
        """
        super().build(input_shape)  # type: ignore[misc]
        quantizer = self.weight_quantizer
        if quantizer is None:
            return
        if quantizer.state:
            raise ValueError(f"Expected a quantizer of its own for layer {self.name!r}. Received: one that another layer has.")
        # Keras tracks what a layer's attributes hold: the variables already, from here on the seed generators too.
        self.quantizer_state = dict(quantizer.create(self.add_weight, tuple(self.latent_weights.shape)))  # type: ignore[attr-defined]
        if taken := {self._kernel_name, "bias"} & set(self.quantizer_state):
            raise ValueError(f"Expected a quantizer that declares no {self._kernel_name} and no bias. Received: {taken}")
        quantizer.state = self.quantizer_state

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Computes with quantized weights, and tells the quantizer whether in training."""
        quantizer = self.weight_quantizer
        if quantizer is None:
            return super().call(inputs)  # type: ignore[misc]
        quantizer.training = bool(training)
        try:
            return super().call(inputs)  # type: ignore[misc]
        finally:
            quantizer.training = False

    def own_variables(self) -> dict[str, keras.Variable]:
        """Kernel, bias and all that the quantizer declares, by the names under which they are saved."""
        weights = {name: getattr(self, name, None) for name in (self._kernel_name, "bias")}
        generators = keras.random.SeedGenerator
        declared = {n: one.state if isinstance(one, generators) else one for n, one in self.quantizer_state.items()}
        return {name: variable for name, variable in weights.items() if variable is not None} | declared

    def save_own_variables(self, store: _Store) -> None:
        """Keras' own version stores kernel and bias only: a resumed run would draw other channels."""
        for name, variable in self.own_variables().items():
            store[name] = variable

    def load_own_variables(self, store: _Store) -> None:
        """The inverse of `save_own_variables`."""
        for name, variable in self.own_variables().items():
            variable.assign(store[name])


@keras.saving.register_keras_serializable("tinyrobust")
class QuantConv2D(_OwnsQuantizer, qkeras.QConv2D):
    """`qkeras.QConv2D` with latent weights that are not clipped, and a quantizer that may have variables."""

    _prefix = "kernel"
    _kernel_name = "kernel"


@keras.saving.register_keras_serializable("tinyrobust")
class QuantDense(_OwnsQuantizer, qkeras.QDense):
    """`qkeras.QDense` with latent weights that are not clipped, and a quantizer that may have variables."""

    _prefix = "kernel"
    _kernel_name = "kernel"


@keras.saving.register_keras_serializable("tinyrobust")
class QuantDepthwiseConv2D(_OwnsQuantizer, qkeras.QDepthwiseConv2D):
    """`qkeras.QDepthwiseConv2D` with latent weights that are not clipped, and a quantizer that may have variables."""

    _prefix = "depthwise"
    _kernel_name = "depthwise_kernel"


def weight_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of `model` that hold latent weights, in order."""
    return [layer for layer in model.layers if isinstance(layer, _OwnsQuantizer)]


def set_declared(model: keras.Model, name: str, value: float) -> None:
    """Sets the variable that quantizers declare as `name`, in every layer whose quantizer does."""
    for layer in weight_layers(model):
        if name in layer.quantizer_state:
            layer.quantizer_state[name].assign(value)
