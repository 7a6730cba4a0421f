"""A `.tflite` to a network of typed layers: shapes, integers and nothing of TensorFlow Lite's left."""

from collections.abc import Callable

import numpy as np

from tinyrobust.deploy.artefact import Artefact, Operator, Tensor
from tinyrobust.deploy.cgen import unweighted, weighted
from tinyrobust.deploy.cgen.layers import Binary, Edge, Layer, Network, Node, Value
from tinyrobust.deploy.cgen.operands import Operands, scale, zero
from tinyrobust.errors import ModelFileError

_LOWERINGS: dict[str, Callable[[Operands], Layer]] = {
    "CONV_2D": weighted.conv2d,
    "DEPTHWISE_CONV_2D": weighted.depthwise,
    "FULLY_CONNECTED": weighted.fully_connected,
    "ADD": unweighted.binary,
    "MUL": unweighted.binary,
    "AVERAGE_POOL_2D": unweighted.pool,
    "MAX_POOL_2D": unweighted.pool,
    "MEAN": unweighted.mean,
    "PAD": unweighted.pad,
    "PADV2": unweighted.pad,
    "CONCATENATION": unweighted.concatenation,
    "RELU": unweighted.relu,
    "RELU6": unweighted.relu6,
    "LOGISTIC": unweighted.logistic_table,
    "SOFTMAX": unweighted.softmax,
    "QUANTIZE": unweighted.requantize,
}
_RENAMINGS = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})  # the bytes stay where they are
_WITH_DATA_INPUTS = {"CONCATENATION": None, "ADD": 2, "MUL": 2}  # how many inputs are values; one where not named

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
        for operator in self._needed(operators, result.index):
            self._lower(operator)
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
            input=Edge(source.shape, scale(source), zero(source)),
            output=Edge(result.shape, scale(result), zero(result)),
            sha256=artefact.sha256,
        )

    def _edge(self, index: int, role: str) -> Tensor:
        """The int8 tensor that stands for the graph's input or output, behind QUANTIZE or before DEQUANTIZE."""
        tensor = self._artefact.tensors[index]
        if tensor.dtype == "float32":
            for operator in self._artefact.operators:
                if role == "input" and operator.name == "QUANTIZE" and operator.inputs == (index,):
                    tensor = self._artefact.tensors[operator.outputs[0]]
                elif role == "output" and operator.name == "DEQUANTIZE" and operator.outputs == (index,):
                    tensor = self._artefact.tensors[operator.inputs[0]]
        if tensor.dtype != "int8" or tensor.scales.size != 1:
            raise ModelFileError(
                f"{self._artefact.path}: Expected an int8 {role} with one scale, or float32 behind QUANTIZE or DEQUANTIZE. "
                f"Received: tensor {tensor.name!r} of type {tensor.dtype}.",
                hint="Convert the model with full integer quantization.",
            )
        return tensor

    def _at_edge(self, operator: Operator) -> bool:
        kinds = {"QUANTIZE": operator.inputs[:1], "DEQUANTIZE": operator.outputs[:1]}.get(operator.name, ())
        return any(self._artefact.tensors[i].dtype == "float32" for i in kinds if i >= 0)

    def _needed(self, operators: list[Operator], result: int) -> list[Operator]:
        """The operators that the result depends on."""
        wanted, kept = {result}, []
        for operator in reversed(operators):
            if wanted.intersection(operator.outputs):
                wanted.update(operator.inputs)
                kept.append(operator)
        return kept[::-1]

    def _lower(self, operator: Operator) -> None:
        operands = Operands(self._artefact, operator)
        if operator.name in _RENAMINGS:
            source = operands.input(0)
            if source.count != operands.output.count or source.data is not None:
                operands.refuse("as many computed values as before", f"{source.count} to {operands.output.count}")
            self._index[operands.output.index] = self._index[source.index]
            return
        if operator.name not in _LOWERINGS:
            operands.refuse(f"one of {', '.join(sorted(SUPPORTED))}", operator.name)
        layer = _LOWERINGS[operator.name](operands)
        count = _WITH_DATA_INPUTS.get(operator.name, 1)
        inputs = tuple(self._read(operands, layer, i) for i in range(operands.count if count is None else count))
        output = operands.output
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
