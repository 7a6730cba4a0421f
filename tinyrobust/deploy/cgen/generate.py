"""From a `.tflite` to a folder of C that is all a firmware needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyrobust import assets
from tinyrobust.deploy.artefact import Artefact
from tinyrobust.deploy.cgen import emit
from tinyrobust.deploy.cgen.calls import Call, unweighted_call
from tinyrobust.deploy.cgen.fast import one_pixel
from tinyrobust.deploy.cgen.kernels import weighted_calls
from tinyrobust.deploy.cgen.layers import Conv
from tinyrobust.deploy.cgen.layout import arrange
from tinyrobust.deploy.cgen.lower import lower
from tinyrobust.deploy.cgen.network import Network
from tinyrobust.deploy.cgen.packing import choose, pack
from tinyrobust.deploy.deploy_records import PORTABLE
from tinyrobust.errors import ModelFileError
from tinyrobust.files import write_atomic

_DENSE = 20  # fully connected layers have a kernel of their own where they have one in so many of all MACs
_ALWAYS = ("tr_runtime.h", "tr_internal.h")


@dataclass(frozen=True, slots=True)
class LayerNote:
    """How one layer of the generated C runs.

    Attributes:
        index: Its number, as in `TR_LAYER`.
        name: Of the tensor it writes, up to the first semicolon.
        op: The operator in the file.
        kernel: The C function.
        weights: The encoding of its weights; empty where it has none.
        form: How its sums become int8: narrow, wide or exact; empty where it has no weights.
        macs: Multiply-accumulates.
        weight_bytes: Bytes of packed weights.
        table_bytes: Bytes of all other tables.
        scratch_bytes: Bytes of scratch.
    """

    index: int
    name: str
    op: str
    kernel: str
    weights: str
    form: str
    macs: int
    weight_bytes: int
    table_bytes: int
    scratch_bytes: int

    @property
    def portable(self) -> bool:
        """Whether no fast kernel takes its shape: plain C runs it, several times slower."""
        return self.kernel in PORTABLE


@dataclass(frozen=True, slots=True)
class Generated:
    """The generated C.

    Attributes:
        name: The model's name as C has it: functions are called `tr_<name>_...`.
        files: What was written: the model's source first, then its header and the runtime.
        arena_bytes: Static RAM, inputs and variables inside it, outputs not.
        layers: How each layer runs.
        stateful: Whether it keeps variables from one run to the next.
    """

    name: str
    files: tuple[Path, ...]
    arena_bytes: int
    layers: tuple[LayerNote, ...]
    stateful: bool


def generate(artefact: Artefact, name: str, folder: Path, *, classes: Sequence[str] = ()) -> Generated:
    """Writes `<name>.c`, `<name>.h` and the kernels they need into `folder`.

    The outputs equal those of TensorFlow Lite Micro's reference kernels on every input.

    Args:
        artefact: Any int8 `.tflite` of supported operators.
        name: What the model is called in C; what C does not allow in it becomes `_`.
        folder: Where the files go.
        classes: The names of the classes, in the order of the outputs.

    Raises:
        ModelFileError: An operator or tensor is not supported.
        RunFolderError: The folder cannot be written.
    """
    network = lower(artefact)
    if not network.nodes:
        raise ModelFileError(f"{artefact.path}: Expected at least one layer that computes. Received: none.")
    arranged = arrange(network, *_calls(network))
    network, calls, layout = arranged.network, arranged.calls, arranged.layout
    name = emit.identifier(name)
    runtime = assets.folder("export") / "runtime"
    sources = sorted({source for call in calls for source in call.sources})
    texts = {
        f"{name}.c": emit.source(network, name, calls, layout, classes),
        f"{name}.h": emit.header(network, name, len(calls), layout, classes),
        **{file: (runtime / file).read_text() for file in (*_ALWAYS, *sources)},
    }
    for file, text in texts.items():
        write_atomic(folder / file, text)
    notes = tuple(_note(network, index, call) for index, call in enumerate(calls))
    return Generated(name, tuple(folder / file for file in texts), layout.arena_bytes, notes, bool(network.states))


def _calls(network: Network) -> tuple[list[Call], dict[int, Call]]:
    """The fastest call of each layer, and by its step the one with the least scratch, where it is another."""
    convs = [node.layer for node in network.nodes if isinstance(node.layer, Conv)]
    encodings = iter(choose([conv.weights for conv in convs]))
    dense = _DENSE * sum(conv.macs for conv in convs if one_pixel(conv)) >= sum(conv.macs for conv in convs)
    fastest, lean = [], {}
    for step, node in enumerate(network.nodes):
        if not isinstance(node.layer, Conv):
            fastest.append(unweighted_call(node))
            continue
        call, other = weighted_calls(node.layer, pack(node.layer.weights, next(encodings)), dense=dense)
        fastest.append(call)
        if other is not None:
            lean[step] = other
    return fastest, lean


def _note(network: Network, index: int, call: Call) -> LayerNote:
    node = network.nodes[index]
    sizes = {key: table.nbytes for key, table in call.tables.items()}
    weights = sizes.pop("weights", 0)
    return LayerNote(
        index, node.name, node.op, call.kernel, call.weights, call.form, call.macs, weights, sum(sizes.values()), call.scratch
    )
