"""The only reader of `.tflite` files: whatever opens one, of our own or of unknown origin, reads it here.

The FlatBuffers Python runtime has no verifier, and unpacking a file into objects (`ModelT`) follows every offset, so that a
small file whose offsets share their targets unpacks into gigabytes. Here the accessors visit each part once, within a
budget that follows the file's size, and every figure is checked against the others.
"""

import hashlib
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tinyrobust.deploy import strangers
from tinyrobust.deploy.subgraphs import Graph, Operator, Options, read_graphs
from tinyrobust.deploy.tensors import Budget, MalformedError, Tensor, UnsupportedError
from tinyrobust.errors import ModelFileError

__all__ = ["Artefact", "Graph", "Operator", "Options", "Tensor", "read"]

_MAX_FILE = 2**25  # 32 MiB: above any microcontroller's flash, and it bounds memory
_MAX_METADATA = 2**8
_PLAN = "OfflineMemoryAllocation"
_HINT = "Export the model again, or check that the download is complete."
_UNSUPPORTED = "TensorFlow Lite Micro does not run such a file either. Convert the model with full integer quantization."
_BROKEN = (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError, RecursionError)


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
        others: The subgraphs after the first, which `tensors` to `outputs` are of: operators call them, or they are other
            functions (signatures) in the same file.
        metadata: The names of what tools have added, such as a version.
        plan: Where a compiler has placed every tensor in the arena, in bytes, -1 where it has not; None without such a plan.
    """

    path: Path
    content: bytes = field(repr=False)
    sha256: str
    tensors: tuple[Tensor, ...] = field(repr=False)
    operators: tuple[Operator, ...] = field(repr=False)
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    others: tuple[Graph, ...] = field(default=(), repr=False)
    metadata: tuple[str, ...] = ()
    plan: tuple[int, ...] | None = field(default=None, repr=False)

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """All subgraphs: the first is the one that is run."""
        return Graph(self.tensors, self.operators, self.inputs, self.outputs), *self.others

    @property
    def stateful(self) -> bool:
        """Whether it keeps values from one inference to the next: an answer then depends on what went before."""
        return any(tensor.variable for tensor in self.tensors) or any(one.name == "ASSIGN_VARIABLE" for one in self.operators)

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
        if not operator.outputs:  # it writes a variable, or calls a subgraph that does
            return operator.name.lower()
        names = [self.tensors[operator.outputs[0]].name]
        if names[0].startswith("StatefulPartitionedCall"):
            constants = (self.tensors[i] for i in operator.inputs[1:2] if i >= 0 and self.tensors[i].data is not None)
            names = [tensor.name for tensor in constants if "/" in tensor.name] + names
        return names[0].split(";", 1)[0]


def read(path: str | Path) -> Artefact:
    """Reads and checks a `.tflite` file.

    Args:
        path: A `.tflite` file with any operators and tensor types of fixed size, of one subgraph or several.

    Raises:
        ModelFileError: There is no such file, it is no `.tflite` (what it is instead is named), it is corrupt or truncated,
            or it holds something that no microcontroller runtime takes (strings, sparse tensors, values outside the
            FlatBuffer).
    """
    path = Path(path)
    content = _content(path)
    try:
        return _parsed(path, content)
    except UnsupportedError as error:
        raise ModelFileError(f"{path} cannot be used: {error}.", hint=_UNSUPPORTED) from error
    except MalformedError as error:
        raise ModelFileError(f"{path} cannot be used: {error}.", hint=_HINT) from error
    except _BROKEN as error:
        raise ModelFileError(
            f"{path} is corrupt or truncated: Expected a FlatBuffer whose parts lie inside its {len(content)} bytes. "
            f"Received: a part that does not ({error}).",
            hint=_HINT,
        ) from error


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
        found = strangers.named(content) or strangers.Stranger(f"{content[:8].hex(' ')} of {len(content)} bytes", _HINT)
        raise ModelFileError(
            f"{path} is not a .tflite file: Expected 'TFL3' as bytes 4 to 7. Received: {found.what}.", hint=found.hint
        )
    return content


def _parsed(path: Path, content: bytes) -> Artefact:
    model = schema.Model.GetRootAs(content, 0)
    if model.Version() != 3:
        raise MalformedError(f"Expected schema version 3. Received: {model.Version()}")
    # Honest files keep their parts apart; some share constant buffers between tensors.
    budget = Budget(4 * len(content) + 1024)
    first, *others = read_graphs(model, budget)
    tensor_count = len(first.tensors) + sum(len(graph.tensors) for graph in others)
    metadata, plan = _metadata(model, tensor_count, budget)
    return Artefact(
        path,
        content,
        hashlib.sha256(content).hexdigest(),
        first.tensors,
        first.operators,
        first.inputs,
        first.outputs,
        tuple(others),
        metadata,
        plan,
    )


def _metadata(model: schema.Model, tensor_count: int, budget: Budget) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """The names of the metadata, and where a compiler has placed the tensors: version, subgraph, count, offsets."""
    names, plan = [], None
    for i in range(min(model.MetadataLength(), _MAX_METADATA)):
        table = model.Metadata(i)
        name = (table.Name() or b"").decode("utf-8", errors="replace")
        budget.spend(16 + len(name))
        names.append(name)
        if name != _PLAN or not 0 <= table.Buffer() < model.BuffersLength():
            continue
        buffer = model.Buffers(table.Buffer())
        raw = b"" if buffer.DataIsNone() or not buffer.DataLength() else buffer.DataAsNumpy().tobytes()
        budget.spend(len(raw))
        words = np.frombuffer(raw[: len(raw) // 4 * 4], "<i4").tolist()
        if len(words) < 3 + tensor_count or words[2] != tensor_count:
            raise MalformedError(
                f"Expected a plan of memory ({_PLAN}) for {tensor_count} tensors. Received: one for {words[2:3]}"
            )
        plan = tuple(words[3 : 3 + tensor_count])
        if any(offset < -1 or offset > _MAX_FILE for offset in plan):
            raise MalformedError(f"Expected offsets from -1 to {_MAX_FILE} in {_PLAN}. Received: {min(plan)} to {max(plan)}")
    return tuple(names), plan
