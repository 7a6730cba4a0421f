"""Writes the grids of the activations into a converted file.

Training rounds an activation to the grid of scale a / (2^bits - 1) from zero up; the converter knows nothing of it and
calibrates another one, which costs agreement, and which has no place for PACT's bound at all, nor for fewer bits than 8. So the
scales of the activations are written after conversion, and every kernel and bias (whose scale is the product of those of input
and weights) is rounded anew from the twin: of the converter's work only the graph remains.

All of it is overwritten where it stands: nothing moves, so the buffers keep the alignment that microcontrollers need.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy import biases, levels
from tinyrobust.deploy.artefact import Artefact, Operator, Tensor
from tinyrobust.deploy.matching import Match, along_channels, bias, kernel
from tinyrobust.deploy.twin import outputs
from tinyrobust.errors import ModelFileError
from tinyrobust.formats import INT8
from tinyrobust.graphs.folding import WEIGHT_LAYERS
from tinyrobust.graphs.operators import SAME_GRID
from tinyrobust.graphs.topology import readers, writer
from tinyrobust.quantizers.activations import ActivationQuantizer

# The specification fixes the grid of these outputs.
_FIXED_GRID = {"SOFTMAX"}
# Steps from the smallest to the largest int8.
EIGHT_BITS = INT8.levels - 1
# The largest bias in int32 steps: leaves as much again for the sum of products.
_LARGEST_BIAS = 2**30


@dataclass(frozen=True, slots=True)
class Grid:
    """An int8 grid: value = scale * (integer - zero_point)."""

    scale: float
    zero_point: int

    @property
    def steps(self) -> int:
        """From zero to the largest int8."""
        return 127 - self.zero_point

    @classmethod
    def up_to(cls, upper: float, steps: int = EIGHT_BITS) -> "Grid":
        """The grid of [0, upper] in so many steps: `upper` is the largest int8 value, so that saturation keeps outputs at it.

        With a rectifier that keeps them at zero, exactly steps + 1 levels are left, whatever the bound: 255 steps have the zero
        point -128, fewer a larger one. (ReLU6's own clamp would keep the levels of [0, 6] alone.)
        """
        return cls(upper / steps, 127 - steps)

    @classmethod
    def around(cls, low: float, high: float) -> "Grid":
        """The grid of [low, high], widened to hold zero exactly, as the specification asks."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / EIGHT_BITS or 1.0 / EIGHT_BITS
        return cls(scale, int(np.clip(np.round(-128 - low / scale), -128, 127)))

    def coarser(self, scale: float) -> "Grid":
        """A grid of a scale that is no smaller, with the same range in its middle."""
        middle = self.scale * (-0.5 - self.zero_point)
        return Grid(scale, int(np.clip(np.round(-0.5 - middle / scale), -128, 127)))


# Pixels of 0 to 255, scaled to [0, 1]: the integer is the pixel - 128, exactly.
PIXELS = Grid.up_to(1.0)


def trained(model: keras.Model) -> dict[str, Grid]:
    """The grids that the network was trained with, by layer.

    A learned bound that is not rounded has one too: in the file the bound is the grid's largest value.
    """
    layers = (layer for layer in model.layers if isinstance(layer, ActivationQuantizer))
    return {
        layer.name: Grid.up_to(layer.upper, layer.steps if layer.rounding else EIGHT_BITS) for layer in layers if layer.on_grid
    }


def measured(twin: keras.Model, names: list[str], images: npt.NDArray[np.float32]) -> dict[str, Grid]:
    """The grids from the smallest to the largest output of the layers `names` on `images` (float [n, h, w, c]).

    Values beyond `limits` are left out: a finer grid costs nothing there.
    """
    if not names:
        return {}
    values = keras.Model(twin.inputs[0], [twin.get_layer(name).output for name in names])
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for arrays in outputs(values, images):
        low = np.minimum(low, [array.min() for array in arrays])
        high = np.maximum(high, [array.max() for array in arrays])
    known = limits(twin)
    bounds = [known.get(name, (-np.inf, np.inf)) for name in names]
    return {
        name: Grid.around(max(lowest, bound[0]), min(highest, bound[1]))
        for name, lowest, highest, bound in zip(names, low.tolist(), high.tolist(), bounds, strict=True)
    }


def limits(twin: keras.Model) -> dict[str, tuple[float, float]]:
    """The range beyond which a layer's output makes no difference, for the layers that have one.

    In a residual branch `clip(x + s, 0, a)` with a shortcut s in [0, b], x below -b gives 0 and x above a gives a.
    """
    read_by = readers(twin)
    upper = {layer.name: layer.max_value for layer in twin.layers if isinstance(layer, keras.layers.ReLU)}
    ranges = {}
    for add in twin.layers:
        after = upper.get(read_by[add.name][0])
        if not isinstance(add, keras.layers.Add) or len(read_by[add.name]) > 1 or after is None:
            continue
        sources = [writer(tensor).name for tensor in add.input]
        for name in sources:
            shortcuts = [upper.get(other) for other in sources if other != name]
            bounds = [float(bound) for bound in shortcuts if bound is not None]
            if read_by[name] == [add.name] and len(bounds) == len(shortcuts):
                ranges[name] = (-sum(bounds), float(after))
    return ranges


def free(matches: Mapping[str, Match]) -> list[str]:
    """The layers whose grid may be chosen: they have a tensor of their own, and no rule of the specification fixes it."""
    ruled = SAME_GRID | _FIXED_GRID
    return [
        name
        for name, place in matches.items()
        if place.exact and (place.operator is not None and place.operator.name not in ruled)
    ]


def joined(grids: Mapping[str, Grid], matches: Mapping[str, Match], artefact: Artefact) -> dict[str, Grid]:
    """`grids` with one for all layers whose outputs are concatenated: that operator copies values.

    It is the range of all of them. Layers that are not in `grids` keep theirs, whatever is concatenated with them.
    """
    places: dict[int, list[str]] = {}
    for name in grids:
        places.setdefault(matches[name].tensor, []).append(name)
    made = {output: operator for operator in artefact.operators for output in operator.outputs}
    groups: list[set[int]] = []
    for operator in artefact.operators:
        if operator.name == "CONCATENATION":
            group = _sources(operator, artefact, made)
            groups = [one for one in groups if not one & group] + [group.union(*(one for one in groups if one & group))]
    together = dict(grids)
    for group in groups:
        names = [name for tensor in group for name in places.get(tensor, ())]
        if len({grids[name] for name in names}) > 1:
            ends = [grids[name].scale * (level - grids[name].zero_point) for name in names for level in (-128, 127)]
            together |= dict.fromkeys(names, Grid.around(min(ends), max(ends)))
    return together


def _sources(operator: Operator, artefact: Artefact, made: Mapping[int, Operator]) -> set[int]:
    """The tensors that an operator has the values of its output, and its grid, from."""
    found = set()
    for tensor in operator.inputs:
        if tensor >= 0 and artefact.tensors[tensor].data is None:
            before = made.get(tensor)
            found |= _sources(before, artefact, made) if before and before.name in SAME_GRID else {tensor}
    return found


def write(artefact: Artefact, matches: Mapping[str, Match], grids: Mapping[str, Grid]) -> bytes:
    """The file with `grids` written in.

    Args:
        artefact: A converted file.
        matches: Where the twin's layers are in it.
        grids: The grid of every layer of `free(matches)` and of the input, by layer.

    Raises:
        ModelFileError: A bias is missing in the file, or layers that must share a grid cannot.
    """
    editor = _Editor(artefact.content)
    for name, grid in grids.items():
        editor.set_grid(matches[name].tensor, grid)
    for operator in artefact.operators:
        if operator.name in SAME_GRID:
            _share_grid(operator, artefact, editor)
    for place in matches.values():
        if isinstance(place.layer, WEIGHT_LAYERS) and place.operator is not None:
            _write_weights(place.layer, place.operator, artefact, editor)
    return bytes(editor.content)


class _Editor:
    """Writable views into a copy of a file that the converter has just made."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self._model = schema.Model.GetRootAs(self.content, 0)
        self._graph = self._model.Subgraphs(0)

    def scales(self, tensor: int) -> npt.NDArray[np.float32]:
        scales: npt.NDArray[np.float32] = self._graph.Tensors(tensor).Quantization().ScaleAsNumpy()
        return scales

    def values(self, tensor: int, dtype: str) -> npt.NDArray[np.signedinteger]:
        content: npt.NDArray[np.uint8] = self._model.Buffers(self._graph.Tensors(tensor).Buffer()).DataAsNumpy()
        return content.view(dtype)

    def grid(self, tensor: int) -> Grid:
        quantization = self._graph.Tensors(tensor).Quantization()
        return Grid(float(quantization.ScaleAsNumpy()[0]), int(quantization.ZeroPointAsNumpy()[0]))

    def set_grid(self, tensor: int, grid: Grid) -> None:
        quantization = self._graph.Tensors(tensor).Quantization()
        quantization.ScaleAsNumpy()[:] = grid.scale
        quantization.ZeroPointAsNumpy()[:] = grid.zero_point


def _share_grid(operator: Operator, artefact: Artefact, editor: _Editor) -> None:
    grids = {editor.grid(i) for i in operator.inputs if i >= 0 and artefact.tensors[i].data is None}
    if len(grids) != 1:
        raise ModelFileError(
            f"Expected {operator.name} to read one int8 grid. Received: {len(grids)}, from layers with different ranges.",
            hint="Give the activations before it the same range and bits, such as activations = 'relu6' for all of them.",
        )
    for output in operator.outputs:
        editor.set_grid(output, next(iter(grids)))


def _write_weights(layer: keras.Layer, operator: Operator, artefact: Artefact, editor: _Editor) -> None:
    """Rounds kernel and bias anew, from the twin: what the converter wrote suits the scales it had calibrated."""
    source, place, *rest = operator.inputs
    weights, offsets = kernel(layer), bias(layer)
    if not rest or rest[0] < 0:
        if offsets.any():
            raise ModelFileError(f"The converter lost the bias of layer {layer.name!r}.")
        rest = []
    tensor = artefact.tensors[place]
    input_scale = editor.grid(source).scale
    # A channel of nearly no weights would have so small a scale that its bias left int32: a larger one rounds them to less.
    least = np.maximum(np.abs(offsets) / (input_scale * _LARGEST_BIAS), np.finfo(np.float32).tiny)
    scales = np.maximum(_weight_scales(weights, tensor), least).astype(np.float32)
    editor.scales(place)[:] = scales
    editor.values(place, "<i1")[:] = np.clip(np.round(weights / along_channels(scales, tensor)), -127, 127).reshape(-1)
    rectified = operator.options.get("fused_activation_function", "NONE") != "NONE"
    for index in rest:
        products, grid = np.float32(input_scale) * scales, editor.grid(operator.outputs[0])
        real = offsets / products
        whole = biases.rectified(real, grid.scale / products.astype(np.float64), grid.steps) if rectified else np.round(real)
        editor.scales(index)[:] = products
        editor.values(index, "<i4")[:] = whole


def _weight_scales(weights: npt.NDArray[np.float64], tensor: Tensor) -> npt.NDArray[np.float64]:
    """A scale for every channel.

    Where the weights of all channels are whole steps, a step is so many integers, the same in all channels: levels are exact,
    and the tensor has few different integers, which the generated C packs. Else the peak of each channel is 127.
    """
    rows = np.moveaxis(weights, tensor.quantized_dimension, 0).reshape(tensor.shape[tensor.quantized_dimension], -1)
    peaks: npt.NDArray[np.float64] = np.abs(rows).max(axis=1)
    counts = levels.steps(rows)
    return peaks / (127 if counts is None else counts * (127 // counts.max()))
