"""A `.tflite` to a network of typed layers: shapes, integers and nothing of TensorFlow Lite's left."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy import slicing
from tinyrobust.deploy.artefact import Artefact, Operator, Tensor
from tinyrobust.deploy.cgen import moves, unweighted, weighted
from tinyrobust.deploy.cgen.layers import Binary, Concatenation, Layer, Move
from tinyrobust.deploy.cgen.network import Edge, Network, Node, State, Value
from tinyrobust.deploy.cgen.operands import Operands, elsewhere, scale, zero
from tinyrobust.deploy.cgen.variables import ASSIGN, READ, STATE, Variables
from tinyrobust.deploy.probing import inner
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
    **dict.fromkeys(slicing.NAMES, moves.cut),
    "RESIZE_NEAREST_NEIGHBOR": moves.resize_nearest,
    "TRANSPOSE": moves.transpose,
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
    ASSIGN: slice(1, 2),
    READ: slice(0),
}

SUPPORTED = frozenset({*_LOWERINGS, *_RENAMINGS, *STATE, "DEQUANTIZE"})


def lower(artefact: Artefact) -> Network:
    """The network that an artefact describes.

    QUANTIZE from float at an input and DEQUANTIZE at an output fall away: the C takes and gives int8.

    Raises:
        ModelFileError: An operator or a tensor is not supported; the message names it and what can be done.
    """
    return _Lowering(artefact).network()


class _Lowering:
    def __init__(self, artefact: Artefact) -> None:
        self._artefact = artefact
        self._variables = Variables(artefact)
        self._values: list[Value] = []
        self._index: dict[int, int] = {}  # tensor to value
        self._states: dict[str, int] = {}  # variable to value
        self._nodes: list[Node] = []

    def network(self) -> Network:
        artefact = self._artefact
        sources = [(index, self._edge(index, "input")) for index in artefact.inputs]
        results = [self._edge(index, "output") for index in artefact.outputs]
        for index, tensor in sources:
            self._index[index] = self._index[tensor.index] = self._value(tensor)
        for operands in self._needed({tensor.index for tensor in results}):
            self._lower(operands)
        missing = [tensor.name for tensor in results if tensor.index not in self._index]
        if missing:
            raise ModelFileError(
                f"{artefact.path}: Expected an output that operators compute. Received: tensor {missing[0]!r}, a constant.",
                hint="The file is damaged: convert the model again.",
            )
        inputs = [self._index[tensor.index] for _, tensor in sources]
        outputs = self._results(results)  # which may add nodes
        return Network(
            nodes=tuple(self._nodes),
            inputs=_edges(inputs, [tensor for _, tensor in sources]),
            outputs=_edges(outputs, results),
            states=tuple(State(value, self._variables.initial[name]) for name, value in self._states.items()),
            values=tuple(self._values),
            sha256=artefact.sha256,
        )

    def _value(self, tensor: Tensor, constant: NDArray[Any] | None = None) -> int:
        """A new value for a tensor, computed or constant."""
        held = None if constant is None else np.ascontiguousarray(constant, np.int8).reshape(-1)
        plan = self._artefact.plan
        planned = plan[tensor.index] if plan is not None and plan[tensor.index] >= 0 else None
        self._values.append(Value(tensor.name, tensor.count if held is None else held.size, held, planned))
        return len(self._values) - 1

    def _results(self, tensors: list[Tensor]) -> list[int]:
        """The values of the outputs, each with a place of its own: what is also something else is copied."""
        results: list[int] = []
        for tensor in tensors:
            value = self._index[tensor.index]
            taken = {*results, *(self._index[index] for index in self._artefact.inputs), *self._states.values()}
            results.append(self._copied(value, tensor, "output") if value in taken else value)
        return results

    def _copied(self, value: int, tensor: Tensor, op: str, into: int | None = None) -> int:
        target = self._value(tensor) if into is None else into
        self._nodes.append(Node(op, tensor.name, Concatenation(1, (tensor.count,)), (value,), target))
        return target

    def _edge(self, index: int, role: str) -> Tensor:
        """The tensor of integers that stands for an input or output of the graph, behind QUANTIZE or before DEQUANTIZE."""
        tensor = inner(self._artefact, index, "QUANTIZE" if role == "input" else "DEQUANTIZE")
        if tensor.dtype not in ("int8", "uint8") or tensor.scales.size != 1:
            raise ModelFileError(
                f"{self._artefact.path}: Expected an {role} of int8 or uint8 with one scale, or float32 behind QUANTIZE or "
                f"DEQUANTIZE. Received: tensor {tensor.name!r} of type {tensor.dtype}.",
                hint=f"The C is of int8 networks: convert with full integer quantization. {elsewhere(self._artefact)}",
            )
        return tensor

    def _at_edge(self, operator: Operator) -> bool:
        kinds = {"QUANTIZE": operator.inputs[:1], "DEQUANTIZE": operator.outputs[:1]}.get(operator.name, ())
        return any(self._artefact.tensors[i].dtype == "float32" for i in kinds if i >= 0)

    def _needed(self, wanted: set[int]) -> list[Operands]:
        """The operators that outputs and variables depend on, once for each output that they do; shapes need no computing."""
        kept: list[Operands] = []
        for operator in reversed([one for one in self._artefact.operators if not self._at_edge(one)]):
            places = [place for place, output in enumerate(operator.outputs) if output in wanted]
            if operator.name == ASSIGN:
                places = [0]
            if places:
                wanted.update(operator.inputs[i] for i in _read(operator))
                kept += [Operands(self._artefact, operator, place) for place in reversed(places)]
        return kept[::-1]

    def _lower(self, operands: Operands) -> None:
        operator = operands.operator
        if operator.name == ASSIGN:
            self._assign(operands)
            return
        output = operands.output
        if operator.name == READ:
            value = self._state(operator, output)
            alone = self._variables.outlives(operator)
            self._index[output.index] = value if alone else self._copied(value, output, READ)
            return
        if operator.name in _RENAMINGS:
            source = operands.input(0)
            if source.count != output.count or source.data is not None:
                operands.refuse("as many computed values as before", f"{source.count} to {output.count}")
            self._index[output.index] = self._computed(operands, source)
            return
        if operator.name not in _LOWERINGS:
            operands.refuse(f"one of {', '.join(sorted(SUPPORTED))}", operator.name)
        layer = _LOWERINGS[operator.name](operands)
        inputs = tuple(self._read(operands, layer, i) for i in _read(operator))
        if isinstance(layer, Move) and layer.nothing:
            self._index[output.index] = inputs[0]
            return
        self._index[output.index] = self._value(output)
        self._nodes.append(Node(operator.name, self._artefact.layer(operator), layer, inputs, self._index[output.index]))

    def _state(self, operator: Operator, tensor: Tensor) -> int:
        """The value of the variable that an operator reads or writes as `tensor`."""
        name = self._variables.named(operator)
        if name not in self._states:
            self._states[name] = self._value(tensor)
        size = self._variables.initial.setdefault(name, np.zeros(tensor.count, np.int8)).size
        if size != tensor.count or not size or tensor.dtype != "int8":
            raise ModelFileError(
                f"{self._artefact.path}: Expected int8 variables of one size. "
                f"Received: {name!r} of {size} values, and as {tensor.dtype} of {tensor.count}."
            )
        return self._states[name]

    def _computed(self, operands: Operands, tensor: Tensor) -> int:
        """The value that a tensor is."""
        if tensor.index not in self._index:
            operands.refuse(f"tensor {tensor.name!r} to be computed from the inputs", "one that nothing computes in int8")
        return self._index[tensor.index]

    def _assign(self, operands: Operands) -> None:
        tensor = operands.input(1)
        target = self._state(operands.operator, tensor)
        if tensor.data is not None:
            self._copied(self._value(tensor, tensor.data), tensor, ASSIGN, target)
        elif (value := self._computed(operands, tensor)) != target:
            self._copied(value, tensor, ASSIGN, target)

    def _read(self, operands: Operands, layer: Layer, position: int) -> int:
        """The value of an input; constants become values of their own, spread out where the layer counts more bytes."""
        tensor = operands.input(position)
        if tensor.data is None:
            return self._computed(operands, tensor)
        data = tensor.data
        if isinstance(layer, Binary) and layer.counts[1 + position] > tensor.count:
            data = np.broadcast_to(data, operands.output.shape)
        return self._value(tensor, data)


def _edges(values: list[int], tensors: list[Tensor]) -> tuple[Edge, ...]:
    starts = np.cumsum([0, *(tensor.count for tensor in tensors)]).tolist()
    return tuple(
        Edge(value, start, tensor.shape, scale(tensor), zero(tensor), tensor.dtype)
        for value, start, tensor in zip(values, starts, tensors, strict=False)
    )


def _read(operator: Operator) -> range:
    """The positions of the inputs that are values."""
    return range(len(operator.inputs))[_READ.get(operator.name, slice(1))]
