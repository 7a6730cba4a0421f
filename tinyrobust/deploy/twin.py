"""The twin: the same network in plain Keras layers, batch norm folded and quantized weights written in.

Converting a QKeras graph directly leaves hundreds of operators; the twin converts to one operator a layer.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust.errors import ModelFileError
from tinyrobust.quantizers.activations import QuantizedReLU
from tinyrobust.quantizers.norm import FusedBatchNormalization

WEIGHT_LAYERS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)

_BATCH = 100
_KEPT = {
    keras.layers.Conv2D: ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups"),
    keras.layers.DepthwiseConv2D: ("depth_multiplier", "kernel_size", "strides", "padding", "dilation_rate"),
    keras.layers.Dense: ("units",),
}


def build_twin(model: keras.Model, batch_size: int | None = None, *, clip: bool = True) -> keras.Model:
    """The network in plain Keras layers, with the layers' names; batch norms vanish into the weight layer before them.

    Its outputs equal those of `quantizers.layers.without_rounding(model)` to float precision.

    Args:
        model: A functional or sequential model of our layers and plain Keras layers, with one input.
        batch_size: A fixed batch, 1 for conversion: a dynamic one leaves SHAPE, STRIDED_SLICE and PACK in the file.
        clip: False leaves out PACT's learned upper bound. The converter has no operator for it: in the file, the largest
            int8 value of the trained grid is the bound.

    Raises:
        ModelFileError: A batch norm has no weight layer of its own before it, a layer is used twice or nested, or is of a
            kind that has no plain twin.
    """
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelFileError(
            f"Expected a network with one input and one output. Received: {len(model.inputs)} and {len(model.outputs)}"
        )
    # A plain functional model, without the compilation settings, also of a sequential one.
    model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    folds = folded_norms(model)
    called: set[str] = set()

    def clone(layer: Any) -> Any:
        return _plain(layer, clip)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        if layer.name in called:
            raise ModelFileError(f"Expected layers that are used once. Received: {layer.name!r}, used several times.")
        called.add(layer.name)
        return args[0] if isinstance(layer, keras.layers.BatchNormalization) else layer(*args, **kwargs)

    source = model.inputs[0]
    inputs = keras.Input(source.shape[1:], batch_size=batch_size, dtype=source.dtype, name=writer(source).name)
    twin = keras.models.clone_model(model, input_tensors=inputs, clone_function=clone, call_function=call)
    for layer in twin.layers:
        original = model.get_layer(layer.name)
        if isinstance(layer, WEIGHT_LAYERS):
            norm = folds.get(layer.name)
            layer.set_weights(_folded(original, None if norm is None else model.get_layer(norm)))
        elif not isinstance(original, QuantizedReLU):
            layer.set_weights(original.get_weights())
    twin.trainable = False
    return twin


def folded_norms(model: keras.Model) -> dict[str, str]:
    """Which batch norm each weight layer swallows: names, weight layer -> batch norm.

    Raises:
        ModelFileError: A batch norm's input is not the output of a weight layer that nothing else reads.
    """
    read_by = readers(model)
    folds = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        before = writer(layer.input)
        if not isinstance(before, WEIGHT_LAYERS) or read_by[before.name] != [layer.name]:
            raise ModelFileError(
                f"Expected a convolution or dense layer that feeds only batch norm {layer.name!r}. "
                f"Received: {before.name!r} ({type(before).__name__}), which feeds {', '.join(read_by[before.name])}.",
                hint="Only a batch norm directly behind its own weight layer can be folded into it.",
            )
        folds[before.name] = layer.name
    return folds


def source_layers(model: keras.Model) -> dict[str, str]:
    """The layer of `model` that puts out what each of its twin's layers puts out: names, twin -> model."""
    folds = folded_norms(model)
    norms = set(folds.values())
    return {layer.name: folds.get(layer.name, layer.name) for layer in model.layers if layer.name not in norms}


def writer(tensor: Any) -> Any:
    """The layer that puts out a symbolic tensor."""
    return tensor._keras_history.operation


def readers(model: keras.Model) -> dict[str, list[str]]:
    """The names of the layers that read each layer's output; "the output" where the model puts it out."""
    read_by: dict[str, list[str]] = {layer.name: [] for layer in model.layers}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            for tensor in keras.tree.flatten(layer.input):
                read_by[writer(tensor).name].append(layer.name)
    for tensor in model.outputs:
        read_by[writer(tensor).name].append("the output")
    return read_by


def _plain(layer: Any, clip: bool) -> Any:
    for kind, kept in _KEPT.items():
        if isinstance(layer, kind):
            if layer.activation not in (None, keras.activations.linear):
                raise ModelFileError(
                    f"Expected layer {layer.name!r} without an activation of its own. Received: {layer.activation}",
                    hint="Give the activation a layer of its own, such as QuantizedReLU.",
                )
            config = layer.get_config()
            return kind(**{key: config[key] for key in kept}, use_bias=True, name=layer.name)
    if isinstance(layer, QuantizedReLU):
        learned = layer.bound == "pact"
        return keras.layers.ReLU(None if learned and not clip else layer.upper, name=layer.name)
    if isinstance(layer, FusedBatchNormalization):  # Keras' own, but for the way it trains
        return keras.layers.BatchNormalization.from_config(layer.get_config())
    if isinstance(layer, keras.Model) or not type(layer).__module__.startswith("keras."):
        raise ModelFileError(
            f"Layer {layer.name!r} has no plain Keras twin. Received: {type(layer).__module__}.{type(layer).__name__}",
            hint="Build the network from tinyrobust's and Keras' own layers, without nested models.",
        )
    return type(layer).from_config(layer.get_config())


def _folded(layer: Any, norm: Any) -> list[npt.NDArray[np.float32]]:
    """Kernel and bias of a weight layer's twin, computed in double precision."""
    quantized = hasattr(layer, "quantized_weights")
    kernel = layer.quantized_weights().astype(np.float64) if quantized else numbers(layer.kernel)
    channels = layer.output.shape[-1]
    bias = numbers(layer.bias) if layer.use_bias else np.zeros(channels)
    if norm is not None:
        scale = (numbers(norm.gamma) if norm.scale else 1.0) / np.sqrt(numbers(norm.moving_variance) + norm.epsilon)
        bias = (bias - numbers(norm.moving_mean)) * scale + (numbers(norm.beta) if norm.center else 0.0)
        # A depthwise kernel is [h, w, channels, multiplier]: its output channels run over the last two axes.
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        kernel = kernel * (scale.reshape(kernel.shape[-2:]) if depthwise else scale)
    return [kernel.astype(np.float32), bias.astype(np.float32)]


def outputs(model: keras.Model, images: npt.NDArray[np.float32]) -> Iterator[list[npt.NDArray[np.float32]]]:
    """The outputs of `model` at inference, as a list for each batch of images: memory stays small, and nothing is compiled."""
    for start in range(0, len(images), _BATCH):
        values = keras.tree.flatten(model(images[start : start + _BATCH], training=False))
        yield [keras.ops.convert_to_numpy(value) for value in values]


def numbers(variable: Any) -> npt.NDArray[np.float64]:
    """The value of a Keras variable in double precision."""
    return np.asarray(keras.ops.convert_to_numpy(variable), dtype=np.float64)
