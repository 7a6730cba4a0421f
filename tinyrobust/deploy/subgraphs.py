"""A subgraph of a `.tflite` file: its tensors and operators, read through the FlatBuffers accessors and checked."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy.tensors import Budget, MalformedError, Tensor, read_tensor

_MAX_TENSORS = 2**13
_MAX_OPERATORS = 2**12
_MAX_STEPS = 2**14  # of one inference, with those of the subgraphs that operators call
_MAX_SUBGRAPHS = 64
_MAX_BUFFERS = 4 * _MAX_TENSORS
_OPERATOR_NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_ENUMS = {
    "padding": {value: name for name, value in vars(schema.Padding).items() if isinstance(value, int)},
    "fused_activation_function": {
        value: name for name, value in vars(schema.ActivationFunctionType).items() if isinstance(value, int)
    },
}
# The schema has a table of options for every operator: what is in one is known where the operator is known.
Options = dict[str, Any]

_OPTIONS = {
    "CONV_2D": schema.BuiltinOptions.Conv2DOptions,
    "DEPTHWISE_CONV_2D": schema.BuiltinOptions.DepthwiseConv2DOptions,
    "FULLY_CONNECTED": schema.BuiltinOptions.FullyConnectedOptions,
    "AVERAGE_POOL_2D": schema.BuiltinOptions.Pool2DOptions,
    "MAX_POOL_2D": schema.BuiltinOptions.Pool2DOptions,
    "SOFTMAX": schema.BuiltinOptions.SoftmaxOptions,
    "CONCATENATION": schema.BuiltinOptions.ConcatenationOptions,
}


@dataclass(frozen=True, eq=False, slots=True)
class Operator:
    """An operator of the graph.

    Attributes:
        index: Its position: operators run in this order.
        name: The schema's builtin name such as CONV_2D; `CUSTOM:<code>` for a custom one.
        inputs: Indices of the tensors it reads; -1 for an optional one that is left out.
        outputs: Indices of the tensors it writes.
        options: Its options by name, such as `stride_w`; `padding` and `fused_activation_function` by the schema's names.
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options


@dataclass(frozen=True, eq=False, slots=True)
class Graph:
    """One subgraph of a file.

    Attributes:
        tensors: Every tensor, by index.
        operators: Every operator, in the order in which they run: each reads what is there by then.
        inputs: Indices of the tensors that the caller writes.
        outputs: Indices of the tensors that the caller reads.
    """

    tensors: tuple[Tensor, ...] = field(repr=False)
    operators: tuple[Operator, ...] = field(repr=False)
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


# The subgraphs that operators call, by the names of their options, in the order in which they are planned.
_CALLS = {
    "CALL_ONCE": ("init_subgraph_index",),
    "IF": ("then_subgraph_index", "else_subgraph_index"),
    "WHILE": ("cond_subgraph_index", "body_subgraph_index"),
}
_WITHOUT_OUTPUTS = frozenset({"CALL_ONCE", "ASSIGN_VARIABLE"})


def called(operator: Operator) -> tuple[int, ...]:
    """The subgraphs that an operator runs, by index."""
    return tuple(int(operator.options[key]) for key in _CALLS.get(operator.name, ()) if key in operator.options)


def read_graphs(model: schema.Model, budget: Budget) -> tuple[Graph, ...]:
    """Every subgraph of a file; the first is the one that is run, the others are called by operators or stand alone.

    Raises:
        MalformedError: One contradicts itself or another part of the file, or they call each other without end.
    """
    subgraphs = _limited(model.SubgraphsLength(), _MAX_SUBGRAPHS, "subgraphs")
    buffers = [model.Buffers(i) for i in range(_limited(model.BuffersLength(), _MAX_BUFFERS, "buffers"))]
    count = _limited(model.OperatorCodesLength(), _MAX_OPERATORS, "operator codes")
    codes = [_code(model.OperatorCodes(i), budget) for i in range(count)]
    graphs: list[Graph] = []
    for i in range(subgraphs):
        left = _MAX_TENSORS - sum(len(graph.tensors) for graph in graphs)
        graphs.append(_graph(model.Subgraphs(i), buffers, codes, budget, left, least=0 if graphs else 1))
        _check_order(graphs[i], main=i == 0)
    _steps(graphs)
    return tuple(graphs)


def _graph(
    table: schema.SubGraph, buffers: list[schema.Buffer], codes: list[str], budget: Budget, left: int, least: int
) -> Graph:
    budget.spend(32)
    tensor_count = _limited(table.TensorsLength(), left, "tensors", least)
    tensors = tuple(read_tensor(table.Tensors(i), i, buffers, budget) for i in range(tensor_count))
    operator_count = _limited(table.OperatorsLength(), _MAX_OPERATORS, "operators", least)
    operators = tuple(_operator(table.Operators(i), i, codes, tensor_count, budget) for i in range(operator_count))
    inputs = _indices(table.InputsAsNumpy(), 0, tensor_count, "the graph's inputs", budget)
    outputs = _indices(table.OutputsAsNumpy(), 0, tensor_count, "the graph's outputs", budget)
    return Graph(tensors, operators, inputs, outputs)


def _steps(graphs: list[Graph]) -> None:
    """That subgraphs call each other without circles, and not too often."""
    steps: dict[int, int] = {}

    def count(index: int, callers: tuple[int, ...]) -> int:
        if index in callers:
            raise MalformedError(f"Expected subgraphs that end. Received: subgraph {index}, which calls itself")
        if index not in steps:
            inner = (place for operator in graphs[index].operators for place in called(operator))
            steps[index] = len(graphs[index].operators) + sum(count(place, (*callers, index)) for place in inner)
        if steps[index] > _MAX_STEPS:
            raise MalformedError(f"Expected at most {_MAX_STEPS} operators in one inference. Received: {steps[index]}")
        return steps[index]

    for graph in graphs:
        for operator in graph.operators:
            wanted = called(operator)
            if len(wanted) < len(_CALLS.get(operator.name, ())) or any(not 0 <= i < len(graphs) for i in wanted):
                raise MalformedError(
                    f"operator {operator.index} ({operator.name}): Expected subgraphs from 0 to {len(graphs) - 1}. "
                    f"Received: {list(wanted)}"
                )
    for index in range(len(graphs)):
        count(index, ())


def _limited(count: int, limit: int, what: str, least: int = 1) -> int:
    if not least <= count <= limit:
        raise MalformedError(f"Expected {least} to {limit} {what}. Received: {count}")
    return count


def _code(table: schema.OperatorCode, budget: Budget) -> str:
    custom = table.CustomCode() or b""
    budget.spend(16 + len(custom))
    # Codes from 128 on do not fit the old field: then it holds a placeholder, and the larger of the two is meant.
    number = max(table.BuiltinCode(), table.DeprecatedBuiltinCode())
    if number not in _OPERATOR_NAMES:
        raise MalformedError(f"Expected a builtin operator of the schema. Received: operator code {number}")
    name = _OPERATOR_NAMES[number]
    return f"CUSTOM:{custom.decode('utf-8', errors='replace')}" if name == "CUSTOM" else name


def _operator(table: schema.Operator, index: int, codes: list[str], tensor_count: int, budget: Budget) -> Operator:
    budget.spend(24)
    if table.OpcodeIndex() >= len(codes):
        raise MalformedError(f"operator {index}: Expected an operator code below {len(codes)}. Received: {table.OpcodeIndex()}")
    name = codes[table.OpcodeIndex()]
    where = f"operator {index} ({name[:80]})"
    inputs = _indices(table.InputsAsNumpy(), -1, tensor_count, f"{where}'s inputs", budget)
    outputs = _indices(table.OutputsAsNumpy(), 0, tensor_count, f"{where}'s outputs", budget)
    if not outputs and name not in _WITHOUT_OUTPUTS:
        raise MalformedError(f"{where}: Expected an output. Received: none")
    kind = table.BuiltinOptionsType()
    if name in _OPTIONS and kind not in (_OPTIONS[name], schema.BuiltinOptions.NONE):
        raise MalformedError(f"{where}: Expected options of type {_OPTIONS[name]}. Received: type {kind}")
    return Operator(index, name, inputs, outputs, _options(table, where, budget))


def _options(table: schema.Operator, where: str, budget: Budget) -> Options:
    union = table.BuiltinOptions()
    values = schema.BuiltinOptionsCreator(table.BuiltinOptionsType(), union) if union is not None else None
    options: Options = {}
    for camel_case, value in vars(values).items() if values is not None else ():
        key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", camel_case).lower()
        if isinstance(value, np.ndarray):
            budget.spend(value.nbytes)
            options[key] = tuple(value.tolist())
        elif key in _ENUMS:
            if value not in _ENUMS[key]:
                raise MalformedError(f"{where}: Expected {key} to be one of {sorted(_ENUMS[key])}. Received: {value}")
            options[key] = _ENUMS[key][value]
        elif isinstance(value, bool | int | float):
            options[key] = value
        elif isinstance(value, bytes):
            budget.spend(len(value))
            options[key] = value.decode("utf-8", errors="replace")
    return options


def _indices(values: npt.NDArray[np.int32] | int, lowest: int, tensor_count: int, what: str, budget: Budget) -> tuple[int, ...]:
    """The tensor indices of an accessor's vector (0 when the vector is absent), each from `lowest` to below `tensor_count`."""
    if not isinstance(values, np.ndarray):
        return ()
    budget.spend(values.nbytes)
    if values.size and (values.min() < lowest or values.max() >= tensor_count):
        raise MalformedError(
            f"{what}: Expected tensors from {lowest} to {tensor_count - 1}. Received: tensors {values.min()} to {values.max()}"
        )
    return tuple(values.tolist())


def _check_order(graph: Graph, *, main: bool = True) -> None:
    """Every tensor is written once before it is read, by the caller, the file or one operator.

    Custom operators may have buffers of their own among their inputs, as those of compilers for accelerators do. A loop's
    body may give back its inputs, and a subgraph that only sets up variables has neither inputs nor outputs.
    """
    tensors, inputs, outputs = graph.tensors, graph.inputs, graph.outputs
    if main and not (inputs and outputs):
        raise MalformedError(f"Expected inputs and outputs. Received: {len(inputs)} inputs and {len(outputs)} outputs")
    constants = {tensor.index for tensor in tensors if tensor.data is not None}
    if constants.intersection(inputs) or len(set(inputs)) < len(inputs):
        raise MalformedError(f"Expected inputs that the caller writes, each once. Received: tensors {list(inputs)[:8]}")
    # A tensor without values, such as an empty list of axes, has nothing that could be written.
    ready = constants.union(inputs, (t.index for t in tensors if t.variable or t.count == 0))
    for operator in graph.operators:
        where = f"operator {operator.index} ({operator.name[:80]})"
        missing = [i for i in operator.inputs if i >= 0 and i not in ready]
        if missing and operator.name.startswith("CUSTOM:"):
            ready.update(missing)
        elif missing:
            raise MalformedError(
                f"{where}: Expected inputs that are written by then. Received: tensor {missing[0]}, which is not"
            )
        for i in operator.outputs:
            if i in ready and not (tensors[i].variable or tensors[i].count == 0):
                raise MalformedError(f"{where}: Expected outputs that nothing else writes. Received: tensor {i}")
            ready.add(i)
    unwritten = [i for i in outputs if i not in ready]
    if unwritten:
        raise MalformedError(f"Expected outputs that an operator writes. Received: tensor {unwritten[0]}, which none does")
