"""A network as it is deployed, for training: batch norm folded into quantized weights, and what layers read within reach."""

from collections.abc import Callable, Mapping, Sequence

import keras
from keras import ops

from tinyrobust.gradients import Tensor, value_and_gradient
from tinyrobust.graphs.folding import WEIGHT_LAYERS, deployed, foldable
from tinyrobust.graphs.topology import writer
from tinyrobust.quantizers.activations import ActivationQuantizer

_RECTIFIERS = (ActivationQuantizer, keras.layers.ReLU)


class DeployedPass:
    """The forward pass of a network at inference, made for gradients of gradients.

    Weight layers compute with folded weights (`folding.deployed`). Rectifiers have the slopes that they have where they are
    called, as constants: their second derivative, which is zero, costs a pass back through the network otherwise. All other
    layers are called as they are. Not to be called inside another layer's call.

    Args:
        network: A functional or sequential model with one input and one output.

    Attributes:
        reads: By the names of the weight layers: the name of the layer that puts out what each reads.
        image: The name of the network's input.
    """

    def __init__(self, network: keras.Model) -> None:
        self._graph = keras.Model(network.input, network.output)
        folds = foldable(network)
        self._norms = {name: network.get_layer(norm) for name, norm in folds.items()}
        self._folded = frozenset(folds.values())
        self._shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in network.layers}
        self.reads = {one.name: writer(one.input).name for one in network.layers if isinstance(one, WEIGHT_LAYERS)}
        self.image = writer(network.input).name

    def products(self, inputs: Tensor, directions: Tensor, tensors: Sequence[str]) -> list[Tensor]:
        """`v_i^T dz_i/da_i` of every sample i, where z are the logits: of the shape of a, for every a that is asked for.

        Zeros are added to what the layers put out: the gradient with respect to them is that with respect to a, under every
        backend. All products come from one pass back.

        Args:
            inputs: Of the network, [n, ...].
            directions: v, [n, classes].
            tensors: The names of the layers that put out what is asked for, each once; the network's input by its name too.
        """
        names = [name for name in tensors if name != self.image]
        zeros = [ops.zeros((ops.shape(inputs)[0], *self._shapes[name])) for name in names]

        def along(parts: list[Tensor]) -> Tensor:
            return ops.sum(directions * self(parts[0], dict(zip(names, parts[1:], strict=True))))

        to_inputs, *products = value_and_gradient(along, [ops.convert_to_tensor(inputs), *zeros])[1]
        found = {self.image: to_inputs, **dict(zip(names, products, strict=True))}
        return [found[name] for name in tensors]

    def __call__(self, inputs: Tensor, taps: Mapping[str, Tensor]) -> Tensor:
        """The network's outputs [n, classes] where `taps`, by layer name, are added to what these layers put out."""

        def tapped(operation: keras.Operation) -> Callable[..., Tensor]:
            run, tap = self._run(operation), taps.get(operation.name)
            return run if tap is None else lambda *args, **kwargs: run(*args, **kwargs) + tap

        return self._graph._run_through_graph([inputs], operation_fn=tapped)

    def _run(self, operation: keras.Operation) -> Callable[..., Tensor]:
        """What computes the operation here."""
        if operation.name in self._folded:
            return lambda x, **_: x
        if isinstance(operation, _RECTIFIERS):
            return lambda x, **_: _linear(operation, x)
        if operation.name in self._norms:
            return lambda x, **_: _weighted(operation, x, *deployed(operation, self._norms[operation.name]))
        called: Callable[..., Tensor] = operation
        return called


def _weighted(layer: keras.Layer, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """What a convolution or dense layer computes with other weights than it holds."""
    if isinstance(layer, keras.layers.Dense):
        return ops.matmul(x, kernel) + bias
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        settings = {"strides": layer.strides, "padding": layer.padding, "dilation_rate": layer.dilation_rate}
        return ops.depthwise_conv(x, kernel, **settings) + bias
    return layer.convolution_op(x, kernel) + bias


def _linear(rectifier: keras.Layer, x: Tensor) -> Tensor:
    """The rectifier's value at x, and its slope there as a constant."""
    fixed = ops.stop_gradient(x)
    _, slope = value_and_gradient(lambda at: ops.sum(rectifier(at)), fixed)
    slope = ops.stop_gradient(slope)
    return ops.stop_gradient(rectifier(fixed) - slope * fixed) + slope * x
