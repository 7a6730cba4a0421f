"""A `.tflite` to a network of typed layers: shapes, integers and nothing of TensorFlow Lite's left."""

from collections.abc import Callable

import numpy as np

from tinyrobust.deploy.artefact import Artefact, Operator, Tensor
from tinyrobust.deploy.cgen import moves, unweighted, weighted
from tinyrobust.deploy.cgen.layers import Binary, Edge, Layer, Move, Network, Node, Value
from tinyrobust.deploy.cgen.operands import Operands, scale, zero
from tinyrobust.errors import ModelFileError

_LOWERINGS: dict[str, Callable[[Operands], Layer]] = {
    "CONV_2D": weighted.conv2d,
    "DEPTHWISE_CONV_2D": weighted.depthwise,
    "FULLY_CONNECTED": weighted.fully_connected,
    **dict.fromkeys(("ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM"), unweighted.binary),
    "AVERAGE_POOL_2D": unweighted.pool,
    "MAX_POOL_2D": unweighted.pool,
    "MEAN": unweighted.mean,
    "PAD": moves.pad,
    "PADV2": moves.pad,
    "CONCATENATION": moves.concatenation,
    "PACK": moves.concatenation,
    "STRIDED_SLICE": moves.strided_slice,
    "SLICE": moves.slice_,
    "SPLIT": moves.split,
    "SPLIT_V": moves.split_v,
    "UNPACK": moves.unpack,
    "TRANSPOSE": moves.transpose,
    "RESIZE_NEAREST_NEIGHBOR": moves.resize_nearest,
    "RELU": unweighted.relu,
    "RELU6": unweighted.relu6,
    "LEAKY_RELU": unweighted.leaky_relu,
    "PRELU": unweighted.prelu,
    "HARD_SWISH": unweighted.hard_swish,
    "LOGISTIC": unweighted.logistic_table,
    "TANH": unweighted.tanh_table,
    "SOFTMAX": unweighted.softmax,
    "QUANTIZE": unweighted.requantize,
}
_RENAMINGS = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})  # the bytes stay where they are
# Which inputs are values; the first where it is not named. The others, shapes and sizes, are constants or follow from them.
_READ = {
    **dict.fromkeys(("CONCATENATION", "PACK"), slice(None)),
    **dict.fromkeys(("ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM", "PRELU"), slice(2)),
    "SPLIT": slice(1, 2),
}

SUPPORTED = frozenset({*_LOWERINGS, *_RENAMINGS, "DEQUANTIZE"})


def lower(artefact: Artefact) -> Network:
    """The network that an artefact describes.

    QUANTIZE from float at the input and DEQUANTIZE at the output fall away: the C takes and gives int8.

    Raises:
        ModelFileError: An operator or a tensor is not supported; the message names it and what can be done.
    """
    return _Lowering(artefact).network()


class _Lowering:
    def __init__(self, artefact: Artefact) -> None:
        self._artefact = artefact
        self._values: list[Value] = []
        self._index: dict[int, int] = {}  # tensor to value
        self._nodes: list[Node] = []

    def network(self) -> Network:
        artefact = self._artefact
        if len(artefact.inputs) != 1 or len(artefact.outputs) != 1:
            raise ModelFileError(
                f"{artefact.path}: Expected one input and one output. "
                f"Received: {len(artefact.inputs)} inputs and {len(artefact.outputs)} outputs."
            )
        source, result = self._edge(artefact.inputs[0], "input"), self._edge(artefact.outputs[0], "output")
        operators = [o for o in artefact.operators if not self._at_edge(o)]
        for tensor in dict.fromkeys((artefact.inputs[0], source.index)):
            self._index[tensor] = len(self._values)
        self._values.append(Value(source.name, source.count))
        for operands in self._needed(operators, result.index):
            self._lower(operands)
        if result.index not in self._index:
            raise ModelFileError(
                f"{artefact.path}: Expected an output that operators compute. Received: tensor {result.name!r}, a constant.",
                hint="The file is damaged: convert the model again.",
            )
        return Network(
            values=tuple(self._values),
            nodes=tuple(self._nodes),
            source=self._index[source.index],
            result=self._index[result.index],
            input=Edge(source.shape, scale(source), zero(source), source.dtype),
            output=Edge(result.shape, scale(result), zero(result), result.dtype),
            sha256=artefact.sha256,
        )

    def _edge(self, index: int, role: str) -> Tensor:
        """The tensor of integers that stands for the graph's input or output, behind QUANTIZE or before DEQUANTIZE."""
        tensor = self._artefact.tensors[index]
        if tensor.dtype == "float32":
            for operator in self._artefact.operators:
                if role == "input" and operator.name == "QUANTIZE" and operator.inputs == (index,):
                    tensor = self._artefact.tensors[operator.outputs[0]]
                elif role == "output" and operator.name == "DEQUANTIZE" and operator.outputs == (index,):
                    tensor = self._artefact.tensors[operator.inputs[0]]
        if tensor.dtype not in ("int8", "uint8") or tensor.scales.size != 1:
            raise ModelFileError(
                f"{self._artefact.path}: Expected an {role} of int8 or uint8 with one scale, or float32 behind QUANTIZE or "
                f"DEQUANTIZE. "
                f"Received: tensor {tensor.name!r} of type {tensor.dtype}.",
                hint="Convert the model with full integer quantization.",
            )
        return tensor

    def _at_edge(self, operator: Operator) -> bool:
        kinds = {"QUANTIZE": operator.inputs[:1], "DEQUANTIZE": operator.outputs[:1]}.get(operator.name, ())
        return any(self._artefact.tensors[i].dtype == "float32" for i in kinds if i >= 0)

    def _needed(self, operators: list[Operator], result: int) -> list[Operands]:
        """The operators that the result depends on, once for each output that it does; shapes are known without computing."""
        wanted, kept = {result}, []
        for operator in reversed(operators):
            places = [place for place, output in enumerate(operator.outputs) if output in wanted]
            if places:
                wanted.update(operator.inputs[i] for i in _read(operator))
                kept += [Operands(self._artefact, operator, place) for place in reversed(places)]
        return kept[::-1]

    def _lower(self, operands: Operands) -> None:
        operator, output = operands.operator, operands.output
        if operator.name in _RENAMINGS:
            source = operands.input(0)
            if source.count != output.count or source.data is not None:
                operands.refuse("as many computed values as before", f"{source.count} to {output.count}")
            self._index[output.index] = self._index[source.index]
            return
        if operator.name not in _LOWERINGS:
            operands.refuse(f"one of {', '.join(sorted(SUPPORTED))}", operator.name)
        layer = _LOWERINGS[operator.name](operands)
        inputs = tuple(self._read(operands, layer, i) for i in _read(operator))
        if isinstance(layer, Move) and layer.nothing:
            self._index[output.index] = inputs[0]
            return
        self._index[output.index] = len(self._values)
        self._values.append(Value(output.name, output.count))
        self._nodes.append(Node(operator.name, self._artefact.layer(operator), layer, inputs, self._index[output.index]))

    def _read(self, operands: Operands, layer: Layer, position: int) -> int:
        """The value of an input; constants become values of their own, spread out where the layer counts more bytes."""
        tensor = operands.input(position)
        if tensor.data is None:
            return self._index[tensor.index]
        data = tensor.data
        if isinstance(layer, Binary) and layer.counts[1 + position] > tensor.count:
            data = np.broadcast_to(data, operands.output.shape)
        self._values.append(Value(tensor.name, data.size, np.ascontiguousarray(data, np.int8).reshape(-1)))
        return len(self._values) - 1


def _read(operator: Operator) -> range:
    """The positions of the inputs that are values."""
    return range(len(operator.inputs))[_READ.get(operator.name, slice(1))]
