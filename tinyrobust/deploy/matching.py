"""Finds each layer of the twin in the converted file.

Tensor names are no guide: the converter joins them, adds suffixes and shares constants. So the twin's graph and the file's are
walked side by side, from the input on; kernels decide where several operators read the same tensor.
"""

from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from tinyrobust.deploy.artefact import Artefact, Operator, Tensor
from tinyrobust.deploy.tensors import Values
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.folding import WEIGHT_LAYERS, numbers
from tinyrobust.graphs.operators import OPERATORS
from tinyrobust.graphs.topology import writer


@dataclass(frozen=True, slots=True)
class Match:
    """Where a layer of the twin is in the file.

    Attributes:
        layer: The twin's layer.
        operator: The operator that computes it; None for the input and for layers that leave no trace.
        tensor: Index of the tensor that holds its output.
        exact: False where an activation is fused in: then the tensor holds that later layer's output.
    """

    layer: keras.Layer
    operator: Operator | None
    tensor: int
    exact: bool


def match(twin: keras.Model, artefact: Artefact) -> dict[str, Match]:
    """Finds the layers of `twin` in the file that was converted from it, by name in the twin's order.

    Raises:
        ModelFileError: A layer is not found, or an operator belongs to no layer.
    """
    matches: dict[str, Match] = {}
    for layer in twin.layers:
        if isinstance(layer, keras.layers.InputLayer):
            matches[layer.name] = Match(layer, None, artefact.inputs[0], exact=True)
            continue
        sources = [matches[writer(t).name] for t in keras.tree.flatten(layer.input)]
        matches[layer.name] = _matched(layer, sources, artefact)
    ours = {place.operator.index for place in matches.values() if place.operator is not None}
    unmatched = [operator.name for operator in artefact.operators if operator.index not in ours]
    if unmatched:
        raise ModelFileError(f"Expected one operator a layer. Received besides: {', '.join(sorted(set(unmatched)))}.")
    return matches


def _matched(layer: keras.Layer, sources: list[Match], artefact: Artefact) -> Match:
    if type(layer) not in OPERATORS:
        known = ", ".join(sorted(kind.__name__ for kind in OPERATORS))
        raise ModelFileError(
            f"Layer {layer.name!r} cannot be exported. Received: {type(layer).__name__}. Expected one of: {known}."
        )
    first = sources[0]
    if isinstance(layer, keras.layers.ReLU) and not first.exact:
        return Match(layer, first.operator, first.tensor, exact=True)
    names = OPERATORS[type(layer)]
    read = {source.tensor for source in sources}
    candidates = [o for o in artefact.operators if o.name in names and set(_activations(o, artefact)) == read]
    if isinstance(layer, WEIGHT_LAYERS):
        candidates = [o for o in candidates if artefact.tensors[o.inputs[1]].shape == kernel(layer).shape]
        candidates.sort(key=lambda o: kernel_error(layer, artefact.tensors[o.inputs[1]]))
    if candidates:
        operator = candidates[0]
        if operator.name == "RESHAPE" and len(artefact.tensors[operator.outputs[0]].shape) == 1:
            raise ModelFileError(
                f"Expected a batch of 1 behind layer {layer.name!r}. Received: the converter dropped that axis.",
                hint="Add rows of features before their batch norm, or as maps of one pixel.",
            )
        fused = operator.options.get("fused_activation_function", "NONE") != "NONE"
        # What an operator before a RESHAPE was fused with lies behind both.
        return Match(layer, operator, operator.outputs[0], exact=not fused and (names != ("RESHAPE",) or first.exact))
    # Reshaping changes no value: the converter merges it with others, and drops it before FULLY_CONNECTED. Padding becomes
    # that of the window behind it, where both are the same.
    if not names or names in (("RESHAPE",), ("PAD",)):
        return Match(layer, None, first.tensor, first.exact)
    readers = sorted({o.name for o in artefact.operators if read & set(_activations(o, artefact))})
    raise ModelFileError(
        f"The converter made something else of layer {layer.name!r} ({type(layer).__name__}). Expected {' or '.join(names)}. "
        f"Received: {', '.join(readers) or 'no operator'}."
    )


def kernel_error(layer: keras.Layer, tensor: Tensor) -> float:
    """Largest distance between the twin's kernel and the one in the file, in steps of the channel's scale (rounding: 0.5)."""
    return float(kernel_distances(layer, tensor).max())


def kernel_distances(layer: keras.Layer, tensor: Tensor) -> npt.NDArray[np.float64]:
    """The distance of every weight of the twin's kernel from the one in the file, in steps of its channel's scale."""
    if tensor.data is None or not tensor.quantized:
        return np.full(kernel(layer).shape, np.inf)
    scales = along_channels(tensor.scales.astype(np.float64), tensor)
    distances: npt.NDArray[np.float64] = np.abs(kernel(layer) / scales - tensor.data)
    return distances


def kernel(layer: keras.Layer) -> npt.NDArray[np.float64]:
    """The kernel of a weight layer of the twin in TensorFlow Lite's order of axes: channels first, last for depthwise ones."""
    values = numbers(layer.kernel)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return values.reshape(1, *values.shape[:2], -1)
    return values.T if isinstance(layer, keras.layers.Dense) else values.transpose(3, 0, 1, 2)


def bias(layer: keras.Layer) -> npt.NDArray[np.float64]:
    """The bias of a weight layer of the twin."""
    return numbers(layer.bias)


def along_channels(values: Values, tensor: Tensor) -> Values:
    """One value a channel, in a shape that broadcasts against the kernel `tensor`."""
    return values.reshape([-1 if axis == tensor.quantized_dimension else 1 for axis in range(len(tensor.shape))])


def _activations(operator: Operator, artefact: Artefact) -> list[int]:
    return [index for index in operator.inputs if index >= 0 and artefact.tensors[index].data is None]
