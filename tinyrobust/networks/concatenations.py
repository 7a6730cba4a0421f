"""What is joined in a file has one grid: whether a network's activations can have it, found out before it is trained."""

from collections.abc import Iterator
from pathlib import Path

import keras

from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.operators import SAME_GRID_LAYERS
from tinyrobust.graphs.topology import writer
from tinyrobust.quantizers.activations import ActivationQuantizer


def check_concatenations(network: keras.Model, path: Path) -> None:
    """Refuses a network that joins tensors whose grids will differ.

    Grids that are measured at export are made equal there; those of training cannot be changed any more.

    Raises:
        ModelFileError: Naming the layers.
    """
    for layer in network.layers:
        if not isinstance(layer, keras.layers.Concatenate):
            continue
        sources = list({one.name: one for tensor in layer.input for one in _sources(tensor)}.values())
        grids = {_grid(one) for one in sources}
        if len(sources) > 1 and len(grids) > 1:
            raise ModelFileError(
                f"{path}: expected activations of one range before {layer.name!r}, which joins them: the int8 operator copies "
                f"values. Received: different ones, or learned ones, of {', '.join(one.name for one in sources)}",
                hint="Give the layers before it rectifiers of one fixed range (activations = 'relu6'), or leave all of them in "
                "float (activations = 'float'): their range is measured at export.",
            )


def _sources(tensor: keras.KerasTensor) -> Iterator[keras.Operation]:
    """The layers that a tensor has its values, and its grid, from."""
    layer = writer(tensor)
    if type(layer) in SAME_GRID_LAYERS:
        for one in keras.tree.flatten(layer.input):
            yield from _sources(one)
    else:
        yield layer


def _grid(layer: keras.Operation) -> object:
    """What tells a layer's grid from others."""
    if isinstance(layer, keras.layers.InputLayer):
        return layer.name
    if not isinstance(layer, ActivationQuantizer) or not layer.on_grid:
        return None
    return layer.name if layer.trainable_weights else (layer.upper, layer.bits)
