"""What a layer of somebody's Keras model becomes: one or two of ours, with its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import keras
import numpy as np

from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.clone import same
from tinyrobust.graphs.folding import Doubles, numbers, over_channels
from tinyrobust.graphs.operators import OPERATORS
from tinyrobust.networks.affine import Affine
from tinyrobust.networks.keras_file import OPERATION
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.activations import FloatRelu6

WEIGHTED = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D, keras.layers.Dense)
_RECTIFIERS = {keras.activations.relu: None, keras.activations.relu6: 6.0}
_SUM, _RELU, _RELU6 = (f"{OPERATION}{name}" for name in ("Add", "Relu", "Relu6"))


@dataclass(frozen=True, slots=True)
class Value:
    """What a tensor of the file is here.

    Attributes:
        tensor: A tensor of the new network.
        affine: What makes the file's values of it.
        owner: The layer with weights that it comes from; None: the input.
        scores: The softmax that was left out behind it.
    """

    tensor: keras.KerasTensor
    affine: Affine | None = None
    owner: str | None = None
    scores: str | None = None


class Turner:
    """Calls layers of ours for layers of a file.

    Args:
        path: Of the file.
        layers: Makes the layers in the recipe's precision.
        names: What each layer of the file is called here, by its id.
    """

    def __init__(self, path: Path, layers: LayerFactory, names: Mapping[int, str]) -> None:
        self._path, self._layers, self._names = path, layers, names
        self._computed: dict[tuple[int, str], keras.KerasTensor] = {}

    def refuse(self, expected: str, received: str, hint: str) -> NoReturn:
        """Raises ModelFileError."""
        raise ModelFileError(f"{self._path}: expected {expected}. Received: {received}", hint=hint)

    def turn(self, layer: keras.Operation, values: list[Value]) -> Value:
        """What a layer makes of the values that it reads.

        Raises:
            ModelFileError: It does something that no int8 operator does; the message names it.
        """
        for value in values:
            if value.scores and not isinstance(layer, keras.layers.Flatten | keras.layers.Reshape):
                hint = "Leave it out: classes are compared by their logits."
                self.refuse("a softmax at the end only", f"layer {value.scores!r}, which {layer.name!r} reads", hint)
        kind = type(layer)
        name = kind.__name__ if isinstance(layer, keras.layers.Layer) else f"{OPERATION}{kind.__name__}"
        if turned := _TURNED.get(kind) or _OPERATIONS.get(name):
            return turned(self, layer, values)
        if kind not in OPERATORS:  # where the configuration has called it otherwise
            self.refuse(f"layers of {', '.join(sorted(known_layers()))}", f"{layer.name!r} ({name})", "Replace it.")
        return self._copied(layer, values)

    def plain(self, value: Value) -> Value:
        """A value that is what it is in the file, without anything kept back."""
        if value.affine is None or value.affine.is_identity:
            return replace(value, affine=None)
        place = (id(value.tensor), value.affine.name)
        if place not in self._computed:
            self._computed[place] = value.affine.layer(value.tensor.shape)(value.tensor)
        return replace(value, tensor=self._computed[place], affine=None)

    # What becomes of each kind of layer. All take the file's layer and the values that it reads.

    def _copied(self, layer: keras.Layer, values: list[Value]) -> Value:
        """A layer that stays as it is."""
        first = values[0]
        if len(values) == 1 and first.affine and _lets_through(layer, first.affine):
            return replace(first, tensor=same(layer, name=self._names[id(layer)])(first.tensor))
        plain = [self.plain(value) for value in values]
        new = same(layer, name=self._names[id(layer)])
        made = new([value.tensor for value in plain] if isinstance(layer.input, list) else plain[0].tensor)
        return replace(first, tensor=made, affine=None)

    def _conv(self, layer: keras.layers.Conv2D, values: list[Value]) -> Value:
        name = self._names[id(layer)]
        value = self._readable(values[0], layer.padding == "valid" or layer.kernel_size == (1, 1), grouped=layer.groups > 1)
        kernel, bias = _folded(value.affine, numbers(layer.kernel), _bias(layer, layer.filters))
        new = self._layers.conv(
            name, layer.filters, layer.kernel_size, layer.strides,
            padding=layer.padding, dilation=layer.dilation_rate, groups=layer.groups, bias=layer.use_bias or bool(bias.any()),
        )  # fmt: skip
        return self._activated(layer, name, _called(new, value.tensor, kernel, bias))

    def _depthwise(self, layer: keras.layers.DepthwiseConv2D, values: list[Value]) -> Value:
        name, kernel = self._names[id(layer)], numbers(layer.kernel)
        bias = _bias(layer, kernel.shape[2] * kernel.shape[3])
        return self._activated(layer, name, self._taps(layer, name, values[0], kernel, bias))

    def _separable(self, layer: keras.layers.SeparableConv2D, values: list[Value]) -> Value:
        """A depthwise and a 1x1 convolution."""
        name, kernel = self._names[id(layer)], numbers(layer.depthwise_kernel)
        inner = self._taps(layer, f"{name}-depthwise", values[0], kernel, np.zeros(kernel.shape[2] * kernel.shape[3]))
        new = self._layers.conv(f"{name}-pointwise", layer.filters, 1, bias=layer.use_bias)
        made = _called(new, inner, numbers(layer.pointwise_kernel), _bias(layer, layer.filters))
        return self._activated(layer, f"{name}-pointwise", made)

    def _taps(self, layer: keras.Layer, name: str, value: Value, kernel: Doubles, bias: Doubles) -> keras.KerasTensor:
        """A depthwise convolution that is a layer of the file or a part of one."""
        value = self._readable(value, layer.padding == "valid" or layer.kernel_size == (1, 1))
        kernel, bias = _folded(value.affine, kernel, bias, depthwise=True)
        has_bias = bool(bias.any()) or (isinstance(layer, keras.layers.DepthwiseConv2D) and layer.use_bias)
        new = self._layers.depthwise(
            name, layer.kernel_size, layer.strides,
            padding=layer.padding, dilation=layer.dilation_rate, multiplier=layer.depth_multiplier, bias=has_bias,
        )  # fmt: skip
        return _called(new, value.tensor, kernel, bias)

    def _dense(self, layer: keras.layers.Dense, values: list[Value]) -> Value:
        name, value = self._names[id(layer)], values[0]
        if len(value.tensor.shape) != 2:
            self.refuse("dense layers behind Flatten or a pooling over all places", f"{name!r} on {value.tensor.shape}",
                         "Use a Conv2D of 1x1 there: it computes the same.")  # fmt: skip
        kernel, bias = _folded(value.affine, numbers(layer.kernel), _bias(layer, layer.units))
        new = self._layers.dense(name, layer.units, bias=layer.use_bias or bool(bias.any()))
        return self._activated(layer, name, _called(new, value.tensor, kernel, bias))

    def _norm(self, layer: keras.layers.BatchNormalization, values: list[Value]) -> Value:
        """A batch norm that learns scale and shift, whether or not the file's does."""
        if not over_channels(layer):
            self.refuse("batch norm over the channels, the last axis", f"{layer.name!r}, axis={layer.axis}",
                         "Scales in an int8 file are per channel.")  # fmt: skip
        value = self.plain(values[0])
        name = self._names[id(layer)]
        new = self._layers.norm(value.owner or name, called=name, epsilon=layer.epsilon, trained=True)
        made = new(value.tensor)
        mean, variance = numbers(layer.moving_mean), numbers(layer.moving_variance)
        gamma = numbers(layer.gamma) if layer.scale else np.ones_like(mean)
        new.set_weights([gamma, numbers(layer.beta) if layer.center else np.zeros_like(mean), mean, variance])
        return replace(value, tensor=made)

    def _relu(self, layer: keras.layers.ReLU, values: list[Value]) -> Value:
        if layer.negative_slope or layer.threshold or layer.max_value not in (None, 6):
            said = f"max_value={layer.max_value}, negative_slope={layer.negative_slope}, threshold={layer.threshold}"
            self.refuse("rectifiers from 0, without bound or up to 6", f"{layer.name!r} with {said}",
                         "Use ReLU() or ReLU(6), and train on with Keras for an epoch or two.")  # fmt: skip
        return self._rectified(self._names[id(layer)], layer.max_value, self.plain(values[0]))

    def _activation(self, layer: keras.layers.Activation, values: list[Value]) -> Value:
        return self._with_function(layer, layer.activation, self._names[id(layer)], values[0])

    def _softmax(self, layer: keras.layers.Softmax, values: list[Value]) -> Value:
        return self._with_function(layer, keras.activations.softmax, layer.name, values[0])

    def _scaled(self, layer: keras.layers.Layer, values: list[Value]) -> Value:
        """A scale and a shift: kept back for what reads them."""
        own = replace(Affine.of(layer), name=self._names[id(layer)])
        return replace(values[0], affine=values[0].affine.then(own) if values[0].affine else own)

    def _sum(self, layer: keras.Operation, values: list[Value]) -> Value:
        """A sum, of two at a time: as the operator of the file."""
        if len(values) < 2:
            self.refuse("sums of tensors", f"{layer.name!r}, of one and a number", "Put the number into a bias.")
        plain, name = [self.plain(value) for value in values], self._names[id(layer)]
        total = plain[0].tensor
        for number, value in enumerate(plain[1:], start=2):
            last = number == len(plain)
            total = keras.layers.Add(name=name if last else f"{name}-{number}")([total, value.tensor])
        return replace(plain[0], tensor=total)

    def _bounded(self, layer: keras.Operation, values: list[Value]) -> Value:
        """A rectifier that is a function of `keras.ops`."""
        bound = 6.0 if type(layer).__name__ == "Relu6" else None
        return self._rectified(self._names[id(layer)], bound, self.plain(values[0]))

    # Parts of these.

    def _activated(self, layer: keras.Layer, owner: str, made: keras.KerasTensor) -> Value:
        """What a layer with weights puts out, behind the activation that it has in the file."""
        return self._with_function(layer, layer.activation, f"{owner}-relu", Value(made, owner=owner))

    def _with_function(self, layer: keras.Layer, function: object, name: str, value: Value) -> Value:
        if function in (None, keras.activations.linear):
            return value
        if function is keras.activations.softmax:
            return replace(self.plain(value), scores=layer.name)
        if function not in _RECTIFIERS:
            said = getattr(function, "__name__", None) or type(function).__name__
            self.refuse("relu, relu6 and, at the end, softmax as activations", f"layer {layer.name!r} with {said}",
                         "Use relu, and train on with Keras for an epoch or two.")  # fmt: skip
        return self._rectified(name, _RECTIFIERS[function], self.plain(value))

    def _rectified(self, name: str, bound: float | None, value: Value) -> Value:
        owner = value.owner or name
        if isinstance(self._layers.rule(owner).activations, FloatRelu6):
            return replace(value, tensor=keras.layers.ReLU(bound, name=name)(value.tensor))
        return replace(value, tensor=self._layers.relu(owner, called=name)(value.tensor))

    def _readable(self, value: Value, without_padding: bool, *, grouped: bool = False) -> Value:
        """A value whose affine the convolution that reads it can compute."""
        exact = value.affine is None or ((without_padding or not value.affine.shift.any()) and not grouped)
        return value if exact else self.plain(value)


_Turn = Callable[[Turner, keras.Layer, list[Value]], Value]
# Layers of a file that others stand for; the rest of those with an operator stay as they are.
_TURNED: Mapping[type, _Turn] = {
    keras.layers.Conv2D: Turner._conv,
    keras.layers.DepthwiseConv2D: Turner._depthwise,
    keras.layers.SeparableConv2D: Turner._separable,
    keras.layers.Dense: Turner._dense,
    keras.layers.BatchNormalization: Turner._norm,
    keras.layers.ReLU: Turner._relu,
    keras.layers.Activation: Turner._activation,
    keras.layers.Softmax: Turner._softmax,
    keras.layers.Rescaling: Turner._scaled,
    keras.layers.Normalization: Turner._scaled,
    keras.layers.Add: Turner._sum,
}
_OPERATIONS: Mapping[str, _Turn] = {_SUM: Turner._sum, _RELU: Turner._bounded, _RELU6: Turner._bounded}


def known_layers() -> set[str]:
    """The names of the layer classes that a file may have: those with an operator, and those that are turned into such."""
    return {kind.__name__ for kind in (keras.layers.InputLayer, *OPERATORS, *_TURNED)} | set(_OPERATIONS)


def _lets_through(layer: keras.Layer, affine: Affine) -> bool:
    """Whether a layer does the same before and after a scale and shift."""
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return not affine.shift.any()
    by_channel = affine.scale.ndim > 0 or affine.shift.ndim > 0
    return isinstance(layer, keras.layers.Dropout) or (
        isinstance(layer, keras.layers.Flatten | keras.layers.Reshape) and not by_channel
    )


def _bias(layer: keras.Layer, count: int) -> Doubles:
    return numbers(layer.bias) if layer.use_bias else np.zeros(count)


def _folded(affine: Affine | None, kernel: Doubles, bias: Doubles, *, depthwise: bool = False) -> tuple[Doubles, Doubles]:
    return affine.before(kernel, bias, depthwise=depthwise) if affine else (kernel, bias)


def _called(layer: keras.Layer, tensor: keras.KerasTensor, kernel: Doubles, bias: Doubles) -> keras.KerasTensor:
    """The output of a new layer with weights, which gets these."""
    made = layer(tensor)
    layer.latent_weights.assign(kernel)
    if layer.use_bias:
        layer.bias.assign(bias)
    return made
