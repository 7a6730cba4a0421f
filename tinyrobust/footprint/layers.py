"""What one operator costs: multiply-accumulates, weights as stored and as needed, bias, metadata, activations."""

from dataclasses import dataclass

import numpy as np

from tinyrobust import formats
from tinyrobust.deploy.artefact import Artefact, Operator, Tensor
from tinyrobust.errors import ModelFileError
from tinyrobust.footprint.footprint_record import LayerFootprint

# Operators with weights as input 1 and a bias as input 2: rank of the weights, and the axis of the output channels.
_WEIGHTED = {"CONV_2D": (4, 0), "DEPTHWISE_CONV_2D": (4, 3), "FULLY_CONNECTED": (2, 0)}


@dataclass(frozen=True, slots=True)
class Weights:
    """A constant that is learned, with the format that its values really need."""

    tensor: Tensor
    format: formats.Format
    bits_needed: int
    bytes_packed: int


@dataclass(frozen=True, slots=True)
class Constants:
    """The learned constants that one operator reads."""

    weights: tuple[Weights, ...]
    biases: tuple[Tensor, ...]


def constants(artefact: Artefact) -> list[Constants]:
    """The learned constants of every operator.

    Of convolutions and dense layers: input 1 and input 2. Of any other operator: constants with a scale or of a float
    type; int32 with a scale is a bias. What is left (axes, paddings, shapes) belongs to the graph's structure.
    """
    known: dict[tuple[int, int], Weights] = {}  # by tensor and channel axis: operators may share weights

    def weights(index: int, axis: int) -> Weights:
        if (index, axis) not in known:
            known[index, axis] = _weights(artefact.tensors[index], axis)
        return known[index, axis]

    rows = []
    for operator in artefact.operators:
        weight_list, bias_list = [], []
        for position, index in enumerate(operator.inputs):
            tensor = artefact.tensors[index] if index >= 0 else None
            if tensor is None or tensor.data is None:
                continue
            role = _role(operator, position, tensor)
            if role == "weights":
                weight_list.append(weights(index, _channel_axis(operator, tensor)))
            elif role == "bias":
                bias_list.append(tensor)
        rows.append(Constants(tuple(weight_list), tuple(bias_list)))
    return rows


def layer(artefact: Artefact, operator: Operator, learned: Constants, arena_bytes: int) -> LayerFootprint:
    """The footprint of one operator.

    Args:
        artefact: The model.
        operator: One of its operators.
        learned: The constants that it reads.
        arena_bytes: Bytes alive in the arena while it runs.

    Raises:
        ModelFileError: The shapes of its weights and output contradict each other.
    """
    tensors = artefact.tensors
    outputs = [tensors[i] for i in operator.outputs]
    read = [tensors[i] for i in dict.fromkeys(operator.inputs) if i >= 0 and tensors[i].data is None]
    described = {t.index: t for t in (*(w.tensor for w in learned.weights), *learned.biases, *outputs)}
    widest = max(learned.weights, key=lambda w: w.bits_needed, default=None)
    return LayerFootprint(
        index=operator.index,
        name=artefact.layer(operator),
        op=operator.name,
        input_shapes=[list(t.shape) for t in read],
        output_shape=list(outputs[0].shape) if outputs else [],
        macs=_macs(artefact, operator),
        weight_count=sum(w.tensor.count for w in learned.weights),
        weight_bytes=sum(w.tensor.stored_bytes for w in learned.weights),
        weight_kind=widest.format.name if widest else "none",
        weight_bits_needed=widest.bits_needed if widest else 0,
        weight_bytes_packed=sum(w.bytes_packed for w in learned.weights),
        bias_bytes=sum(t.stored_bytes for t in learned.biases),
        quantization_bytes=sum(t.quantization_bytes for t in described.values()),
        activation_bytes=sum(t.nbytes for t in (*read, *outputs)),
        arena_bytes=arena_bytes,
    )


def _role(operator: Operator, position: int, tensor: Tensor) -> str:
    if operator.name in _WEIGHTED:
        return {1: "weights", 2: "bias"}.get(position, "structure")
    if tensor.dtype.startswith("float"):
        return "weights"
    if not tensor.quantized:
        return "structure"
    return "bias" if tensor.bits > 16 else "weights"


def _channel_axis(operator: Operator, tensor: Tensor) -> int:
    """The axis of the output channels; of other operators' constants the quantized one, else the last."""
    if operator.name in _WEIGHTED and len(tensor.shape) == _WEIGHTED[operator.name][0]:
        return _WEIGHTED[operator.name][1]
    return tensor.quantized_dimension if tensor.per_channel else -1


def _weights(tensor: Tensor, axis: int) -> Weights:
    values = tensor.data
    if values is None or not np.issubdtype(values.dtype, np.integer) or values.dtype.itemsize > 2:
        needed = formats.FLOAT
    elif tensor.per_channel and tensor.quantized_dimension != axis % max(values.ndim, 1):
        needed = formats.as_stored(values)  # a scale along another axis folds into no output channel
    else:
        needed = formats.recognise(values, axis, tensor.zero_points if tensor.quantized else 0)
        if values.dtype == np.int8 and not (tensor.quantized and tensor.zero_points.any()):
            needed = formats.packed(values, needed)  # counted is what the generated C stores
    bits = min(needed.bits, tensor.bits)
    return Weights(tensor, needed, bits, formats.packed_bytes(tensor.count, bits))


def _macs(artefact: Artefact, operator: Operator) -> int:
    """Multiply-accumulates with those on padding included: every output takes the weights of its channel."""
    if operator.name not in _WEIGHTED:
        return 0
    rank, axis = _WEIGHTED[operator.name]
    where = f"{artefact.path}: operator {operator.index} ({operator.name})"
    if len(operator.inputs) < 2 or min(operator.inputs[:2]) < 0:
        raise ModelFileError(f"{where}: Expected an input and weights. Received: inputs {list(operator.inputs)[:8]}.")
    weights, output = artefact.tensors[operator.inputs[1]], artefact.tensors[operator.outputs[0]]
    if len(weights.shape) != rank or not output.shape or output.shape[-1] != weights.shape[axis]:
        raise ModelFileError(
            f"{where}: Expected weights of {rank} dimensions with the output's channels on axis {axis}. "
            f"Received: weights {weights.shape}, output {output.shape}."
        )
    channels = weights.shape[axis]
    return output.count * weights.count // channels if channels else 0
