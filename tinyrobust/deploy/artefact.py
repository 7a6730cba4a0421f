"""The only reader of `.tflite` files: whatever opens one, of our own or of unknown origin, reads it here.

The FlatBuffers Python runtime has no verifier, and unpacking a file into objects (`ModelT`) follows every offset, so that a
small file whose offsets share their targets unpacks into gigabytes. Here the accessors visit each part once, within a
budget that follows the file's size, and every figure is checked against the others.
"""

import hashlib
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy.tensors import Budget, MalformedError, Tensor, read_tensor
from tinyrobust.errors import ModelFileError

__all__ = ["Artefact", "Operator", "Tensor", "read"]

_MAX_FILE = 2**25  # 32 MiB: above any microcontroller's flash, and it bounds memory; the two below bound time
_MAX_TENSORS = 2**13
_MAX_OPERATORS = 2**12
_HINT = "Export the model again, or check that the download is complete."
_BROKEN = (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError)
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
class Artefact:
    """A `.tflite` file whose figures agree with each other.

    Attributes:
        path: Where it was read.
        content: The bytes of the file.
        sha256: Their SHA-256, in hex.
        tensors: Every tensor, by index.
        operators: Every operator, in the order in which they run: each reads what is there by then.
        inputs: Indices of the tensors that the caller writes; at least one.
        outputs: Indices of the tensors that the caller reads; at least one.
    """

    path: Path
    content: bytes = field(repr=False)
    sha256: str
    tensors: tuple[Tensor, ...] = field(repr=False)
    operators: tuple[Operator, ...] = field(repr=False)
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.content)

    @property
    def last_operator(self) -> Operator | None:
        """The operator that computes the only output, apart from changes of type and shape; None where nothing does."""
        writers = {index: operator for operator in self.operators for index in operator.outputs}
        last = writers.get(self.outputs[0]) if len(self.outputs) == 1 else None
        while last is not None and last.name in ("QUANTIZE", "DEQUANTIZE", "RESHAPE") and writers.keys() & last.inputs[:1]:
            last = writers[last.inputs[0]]
        return last

    def layer(self, operator: Operator) -> str:
        """What an operator's layer is called: the tensor that it writes, up to the first semicolon.

        The converter drops the last layer's own name; where it did, that of the layer's weights tells it.
        """
        names = [self.tensors[operator.outputs[0]].name]
        if names[0].startswith("StatefulPartitionedCall"):
            constants = (self.tensors[i] for i in operator.inputs[1:2] if i >= 0 and self.tensors[i].data is not None)
            names = [tensor.name for tensor in constants if "/" in tensor.name] + names
        return names[0].split(";", 1)[0]


def read(path: str | Path) -> Artefact:
    """Reads and checks a `.tflite` file.

    Args:
        path: A `.tflite` file of one subgraph, with any operators and tensor types of fixed size.

    Raises:
        ModelFileError: There is no such file, it is no `.tflite`, it is corrupt or truncated, or it holds something that
            no microcontroller runtime takes (several subgraphs, strings, sparse tensors, values outside the FlatBuffer).
    """
    path = Path(path)
    content = _content(path)
    try:
        tensors, operators, inputs, outputs = _parsed(content)
    except MalformedError as error:
        raise ModelFileError(f"{path} cannot be used: {error}.", hint=_HINT) from error
    except _BROKEN as error:
        raise ModelFileError(
            f"{path} is corrupt or truncated: Expected a FlatBuffer whose parts lie inside its {len(content)} bytes. "
            f"Received: a part that does not ({error}).",
            hint=_HINT,
        ) from error
    return Artefact(path, content, hashlib.sha256(content).hexdigest(), tensors, operators, inputs, outputs)


def _content(path: Path) -> bytes:
    try:
        mode = path.stat()
        if not stat.S_ISREG(mode.st_mode):
            raise ModelFileError(f"Expected a .tflite file. Received: {path}, which is a folder or a device.")
        if mode.st_size > _MAX_FILE:
            raise ModelFileError(f"{path}: Expected at most {_MAX_FILE} bytes. Received: {mode.st_size} bytes.")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"Cannot read {str(path)!r}: {reason}.", hint="Expected the path of a .tflite file.") from error
    if content[4:8] != b"TFL3":
        start = content[:8].hex(" ") or "an empty file"
        raise ModelFileError(f"{path} is not a .tflite file: Expected 'TFL3' as bytes 4 to 7. Received: {start}.", hint=_HINT)
    return content


def _parsed(content: bytes) -> tuple[tuple[Tensor, ...], tuple[Operator, ...], tuple[int, ...], tuple[int, ...]]:
    model = schema.Model.GetRootAs(content, 0)
    if model.Version() != 3:
        raise MalformedError(f"Expected schema version 3. Received: {model.Version()}")
    if model.SubgraphsLength() != 1:
        raise MalformedError(f"Expected one subgraph. Received: {model.SubgraphsLength()}")
    graph = model.Subgraphs(0)
    # Honest files keep their parts apart; some share constant buffers between tensors.
    budget = Budget(4 * len(content) + 1024)
    buffer_count = _limited(model.BuffersLength(), 4 * _MAX_TENSORS, "buffers")
    buffers = [model.Buffers(i) for i in range(buffer_count)]
    tensor_count = _limited(graph.TensorsLength(), _MAX_TENSORS, "tensors")
    tensors = tuple(read_tensor(graph.Tensors(i), i, buffers, budget) for i in range(tensor_count))
    codes = [
        _code(model.OperatorCodes(i), budget)
        for i in range(_limited(model.OperatorCodesLength(), _MAX_OPERATORS, "operator codes"))
    ]
    operator_count = _limited(graph.OperatorsLength(), _MAX_OPERATORS, "operators")
    operators = tuple(_operator(graph.Operators(i), i, codes, tensor_count, budget) for i in range(operator_count))
    inputs = _indices(graph.InputsAsNumpy(), 0, tensor_count, "the graph's inputs", budget)
    outputs = _indices(graph.OutputsAsNumpy(), 0, tensor_count, "the graph's outputs", budget)
    _check_order(tensors, operators, inputs, outputs)
    return tensors, operators, inputs, outputs


def _limited(count: int, limit: int, what: str) -> int:
    if not 0 < count <= limit:
        raise MalformedError(f"Expected 1 to {limit} {what}. Received: {count}")
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
    if not outputs:
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


def _check_order(
    tensors: tuple[Tensor, ...], operators: tuple[Operator, ...], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> None:
    """Every tensor is written once before it is read, by the caller, the file or one operator."""
    if not inputs or not outputs:
        raise MalformedError(f"Expected inputs and outputs. Received: {len(inputs)} inputs and {len(outputs)} outputs")
    constants = {tensor.index for tensor in tensors if tensor.data is not None}
    if constants.intersection(inputs) or len(set(inputs)) < len(inputs):
        raise MalformedError(f"Expected inputs that the caller writes, each once. Received: tensors {list(inputs)[:8]}")
    # A tensor without values, such as an empty list of axes, has nothing that could be written.
    ready = constants.union(inputs, (t.index for t in tensors if t.variable or t.count == 0))
    for operator in operators:
        where = f"operator {operator.index} ({operator.name[:80]})"
        missing = [i for i in operator.inputs if i >= 0 and i not in ready]
        if missing:
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
