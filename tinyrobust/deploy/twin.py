"""The twin: the same network in plain Keras layers, batch norm folded and quantized weights written in.

Converting a QKeras graph directly leaves hundreds of operators; the twin converts to one operator a layer.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust.errors import ModelFileError
from tinyrobust.quantizers.activations import ActivationQuantizer
from tinyrobust.quantizers.folding import WEIGHT_LAYERS, folded, readers, writer
from tinyrobust.quantizers.norm import FusedBatchNormalization

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
            layer.set_weights(folded(original, None if norm is None else model.get_layer(norm)))
        elif not isinstance(original, ActivationQuantizer):
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


def _plain(layer: Any, clip: bool) -> Any:
    for kind, kept in _KEPT.items():
        if isinstance(layer, kind):
            if layer.activation not in (None, keras.activations.linear):
                raise ModelFileError(
                    f"Expected layer {layer.name!r} without an activation of its own. Received: {layer.activation}",
                    hint="Give the activation a layer of its own, such as QuantizedReLU6.",
                )
            config = layer.get_config()
            return kind(**{key: config[key] for key in kept}, use_bias=True, name=layer.name)
    if isinstance(layer, ActivationQuantizer):
        return layer.plain(bounded=clip)
    if isinstance(layer, FusedBatchNormalization):  # Keras' own, but for the way it trains
        return keras.layers.BatchNormalization.from_config(layer.get_config())
    if isinstance(layer, keras.Model) or not type(layer).__module__.startswith("keras."):
        raise ModelFileError(
            f"Layer {layer.name!r} has no plain Keras twin. Received: {type(layer).__module__}.{type(layer).__name__}",
            hint="Build the network from tinyrobust's and Keras' own layers, without nested models.",
        )
    return type(layer).from_config(layer.get_config())


def outputs(model: keras.Model, images: npt.NDArray[np.float32]) -> Iterator[list[npt.NDArray[np.float32]]]:
    """The outputs of `model` at inference, as a list for each batch of images: memory stays small, and nothing is compiled."""
    for start in range(0, len(images), _BATCH):
        values = keras.tree.flatten(model(images[start : start + _BATCH], training=False))
        yield [keras.ops.convert_to_numpy(value) for value in values]
