"""A differentiable twin of any `.tflite`: the file's own graph in Keras layers, weights dequantized.

White-box attacks on a file need gradients, and a file of unknown origin comes without the network it was converted from. Here
every operator becomes a Keras layer, every quantized tensor is rounded to the file's grid with a straight-through gradient, and
a softmax or sigmoid at the end is dropped: what is left answers like the file, up to the rounding of its multipliers, and its
gradient does not vanish.
"""

import math
from pathlib import Path

import keras
import numpy as np

from tinyrobust.deploy import artefact as artefacts
from tinyrobust.deploy import slicing
from tinyrobust.deploy.artefact import Artefact, Operator, Tensor
from tinyrobust.deploy.matching import along_channels
from tinyrobust.deploy.operators import LAYERS, Operands
from tinyrobust.deploy.reading import Anomaly, Label, Reading, usual
from tinyrobust.deploy.tensors import Values
from tinyrobust.errors import ModelFileError
from tinyrobust.quantizers.activations import OnGrid

# Fused and single activations: what they clip to.
_BOUNDS: dict[str, tuple[float, float]] = {
    "NONE": (-np.inf, np.inf),
    "RELU": (0.0, np.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
# At the end of a classifier they keep the order of its scores, and hide their slope.
_SCORES = ("SOFTMAX", "LOG_SOFTMAX", "LOGISTIC")
_MOST_VALUES = 2**23  # of all activations of an image; attacks keep those of a whole batch, in 32 bits
# They copy values that are on the grid already.
_MOVES = {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", *slicing.NAMES}
_COPIES = {*_MOVES, "PAD", "PADV2", "MAX_POOL_2D", "REDUCE_MAX", "CONCATENATION", "PACK", "DEQUANTIZE"}


@keras.saving.register_keras_serializable("tinyrobust")
class ArcSinh(keras.layers.Layer):
    """The inverse hyperbolic sine; see `reading.Anomaly.scores`."""

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Of every value."""
        return keras.ops.arcsinh(x)


def rebuild(source: Path | Artefact, reading: Reading | None = None, input_shape: tuple[int, ...] | None = None) -> keras.Model:
    """The twin of a file.

    Args:
        source: A file with one input and one output, quantized in any way or float, batch 1.
        reading: What its outputs mean; as `Int8Model` has it when absent.
        input_shape: Of one input of the twin, in the same order of values; the file's when absent.

    Returns:
        A model from inputs [n, ...] in the file's input units (real numbers) to logits [n, classes], its weights frozen. The
        logits are not rounded and not bounded. Layers are named after the index of the tensor that they compute.

    Raises:
        ModelFileError: The file is broken, or holds an operator that has no twin here; it is named.
    """
    file = source if isinstance(source, Artefact) else artefacts.read(source)
    if len(file.inputs) != 1 or len(file.outputs) != 1:
        raise ModelFileError(
            f"{file.path}: expected one input and one output. Received: {len(file.inputs)} and {len(file.outputs)}"
        )
    graph = _Graph(file, reading or usual(file))
    inner = [operator for operator in file.operators if graph.has(operator)]
    unknown = sorted({operator.name for operator in inner} - set(LAYERS))
    if unknown:
        raise ModelFileError(
            f"{file.path}: expected operators that have a differentiable twin ({', '.join(sorted(LAYERS))}). "
            f"Received: {', '.join(unknown)}",
            hint="The file can be attacked as a black box only.",
        )
    values = sum(tensor.count for tensor in file.tensors if tensor.data is None)
    if values > _MOST_VALUES:
        raise ModelFileError(
            f"{file.path}: expected at most {_MOST_VALUES} activations for a differentiable twin. Received: {values}",
            hint="The file can be attacked as a black box only.",
        )
    try:
        return graph.model(input_shape)
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:  # Keras refuses what TensorFlow Lite may run
        raise ModelFileError(
            f"{file.path} has no differentiable twin: {error}", hint="The file can be attacked as a black box only."
        ) from error


def _of_shapes(file: Artefact) -> set[int]:
    """Operators that compute a shape and nothing else, as a dynamic batch needs it: the file itself says what comes out."""
    shapes: set[int] = set()
    found: set[int] = set()
    for operator in file.operators:
        read = [index for index in operator.inputs if index >= 0 and file.tensors[index].data is None]
        if operator.name == "SHAPE" or (read and shapes.issuperset(read)):
            found.add(operator.index)
            shapes.update(operator.outputs)
    return found


class _Graph(Operands):
    """The file's graph, operator by operator.

    Args:
        file: Of one input and one output.
        reading: What its outputs mean.
    """

    def __init__(self, file: Artefact, reading: Reading) -> None:
        super().__init__(file, {tensor.index: dequantized(tensor) for tensor in file.tensors if tensor.data is not None})
        self._inputs = set(file.inputs)  # tensors that hold the input itself
        self._of_shapes = _of_shapes(file)
        self._reading, self._last = reading, file.last_operator
        dropped = self._last is not None and self._last.name in _SCORES and not isinstance(reading, Anomaly)
        self._dropped = self._last if dropped else None

    def has(self, operator: Operator) -> bool:
        """Whether the twin has it: not those of shapes and, of a classifier, not the softmax or sigmoid at the end."""
        return operator.index not in self._of_shapes and operator is not self._dropped

    def model(self, input_shape: tuple[int, ...] | None = None) -> keras.Model:
        """The whole graph, up to the logits, for inputs of that shape."""
        place, last = self.file.tensors[self.file.inputs[0]], self._last
        if last is None:
            raise ValueError("Expected an operator that computes the output. Received: none")
        source = keras.Input(input_shape or place.shape[1:], name="input")
        same = source.shape[1:] == place.shape[1:]
        value = source if same else keras.layers.Reshape(place.shape[1:], name="as-the-file-has-it")(source)
        self.values[place.index] = seen = self._on_grid(value, place, "NONE")
        for operator in self.file.operators:
            if self.has(operator) and operator.index <= last.index:
                self._add(operator, last)
        values = self.values[last.inputs[0] if self._dropped else last.outputs[0]]
        if self._dropped and last.name == "SOFTMAX" and last.options.get("beta", 1.0) != 1.0:
            values = keras.layers.Rescaling(last.options["beta"], name="beta")(values)
        model = keras.Model(source, _logits(self._reading, seen, values), name="rebuilt")
        model.trainable = False
        return model

    def _add(self, operator: Operator, last: Operator) -> None:
        if operator.inputs[0] in self.constants and operator.name in ("DEQUANTIZE", "QUANTIZE"):  # weights of another type
            self.constants[operator.outputs[0]] = self.constants[operator.inputs[0]]
            return
        made = LAYERS[operator.name](self, operator)
        if operator.name in (*_MOVES, "QUANTIZE", "DEQUANTIZE") and self._inputs.intersection(operator.inputs):
            self._inputs.update(operator.outputs)
        for output, index in zip(made if isinstance(made, list) else [made], operator.outputs, strict=False):
            self.values[index] = self._checked(output, self.file.tensors[index], operator, last)

    def _checked(self, output: keras.KerasTensor, tensor: Tensor, operator: Operator, last: Operator) -> keras.KerasTensor:
        """An operator's output as the file has it: of that size, and on that grid."""
        if math.prod(output.shape[1:]) != tensor.count:  # an operator that lies could ask for any amount of memory
            raise ValueError(f"Expected {operator.name} to make {tensor.shape}, as the file says. Received: {output.shape}")
        bounds = operator.name if operator.name in _BOUNDS else operator.options.get("fused_activation_function", "NONE")
        if bounds not in _BOUNDS:
            raise ValueError(f"Expected an activation of {', '.join(_BOUNDS)}. Received: {bounds}")
        # Logits stay between the levels: rounded ones tie. A reconstruction is compared as the file has it.
        logits = bounds == "NONE" and tensor.index in (last.inputs if self._dropped else last.outputs)
        logits = logits and not isinstance(self._reading, Anomaly)
        return output if operator.name in _COPIES or logits else self._on_grid(output, tensor, bounds)

    def _on_grid(self, value: keras.KerasTensor, tensor: Tensor, bounds: str) -> keras.KerasTensor:
        """`value` within the bounds and, in a quantized tensor, rounded to its grid."""
        low, high = _BOUNDS[bounds]
        if tensor.quantized and tensor.data is None:
            scale, zero, limits = float(tensor.scales[0]), int(tensor.zero_points[0]), np.iinfo(tensor.dtype)
            lowest = max(limits.min, low if np.isinf(low) else zero + round(low / scale))
            highest = min(limits.max, high if np.isinf(high) else zero + round(high / scale))
            bounds_of = ((lowest - zero) * scale, (highest - zero) * scale)
            return OnGrid(scale, *bounds_of, open=tensor.index in self._inputs, name=f"grid{tensor.index}")(value)
        if bounds == "NONE":
            return value
        clip = keras.layers.ReLU(None if np.isinf(high) else high - low, name=f"relu{tensor.index}")
        return clip(value) if low == 0 else keras.layers.Rescaling(1, low)(clip(keras.layers.Rescaling(1, -low)(value)))


def _logits(reading: Reading, x: keras.KerasTensor, values: keras.KerasTensor) -> keras.KerasTensor:
    """Logits [n, classes] from the input and what the file makes of it, as `reading` has them."""
    layers = keras.layers
    row = values if len(values.shape) == 2 else layers.Flatten(name="row")(values)
    if isinstance(reading, Anomaly):
        if reading.score == "reconstruction":
            error = layers.Subtract(name="error")([row, x if len(x.shape) == 2 else layers.Flatten(name="input-row")(x)])
            squares = layers.Reshape((-1, 1), name="column")(layers.Multiply(name="squares")([error, error]))
            row = layers.GlobalAveragePooling1D(name="mean")(squares)
        row = layers.Rescaling(1 / reading.spread, -reading.threshold / reading.spread, name="spreads")(row)
        row = ArcSinh(name="above")(row)
    elif isinstance(reading, Label):
        if row.shape[-1] > 1:
            row = layers.Reshape((-1, 1), name="labels")(row)
            row = layers.Flatten(name="label")(layers.Cropping1D((reading.index, row.shape[1] - reading.index - 1))(row))
    else:
        return row
    return layers.Concatenate(name="both")([layers.Rescaling(0.0, name="zero")(row), row])


def dequantized(tensor: Tensor) -> Values:
    """The constant values of a tensor as real numbers, in double precision; those that are not quantized as they are."""
    values = np.asarray(tensor.data)
    if not tensor.quantized:
        return values
    scales, zeros = tensor.scales.astype(np.float64), tensor.zero_points
    if tensor.per_channel:
        scales, zeros = along_channels(scales, tensor), along_channels(zeros, tensor)
    return np.asarray((values - zeros) * scales)
