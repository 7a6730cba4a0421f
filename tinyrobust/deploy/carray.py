"""The C array that TensorFlow Lite Micro users expect: `model_data.cc` and `model_data.h`."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyrobust.deploy import c_literals as c
from tinyrobust.deploy import micro, tflm
from tinyrobust.deploy.artefact import Artefact, Tensor
from tinyrobust.deploy.input_units import formula
from tinyrobust.files import write_atomic
from tinyrobust.progress import Progress, silent

# Methods of the resolver that are not called as the operator is.
_METHODS = {
    "BATCH_MATMUL": "BatchMatMul",
    "CUMSUM": "CumSum",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
SOURCE, HEADER = "model_data.cc", "model_data.h"


@dataclass(frozen=True, slots=True)
class Arena:
    """What a model needs of TensorFlow Lite Micro's tensor arena, in bytes.

    Attributes:
        head: Activations that are needed at once, as planned.
        measured: The smallest in which TensorFlow Lite Micro was seen to run it, its own data included; None where not known.
        not_measured: Why it is not known; empty where it was not tried.
    """

    head: int
    measured: int | None = None
    not_measured: str = ""


def arena_of(tflite: Path, head: int, progress: Progress = silent) -> Arena:
    """The arena of a model, measured where TensorFlow Lite Micro can be asked.

    Args:
        tflite: The file.
        head: Bytes of activations that are needed at once.
        progress: Called for every size tried.

    Raises:
        ModelFileError: TensorFlow Lite Micro cannot run it.
    """
    reason = tflm.missing()
    return Arena(head, None if reason else tflm.arena(tflite, progress), reason)


def write_c_array(
    artefact: Artefact,
    name: str,
    folder: Path,
    *,
    arena: Arena,
    classes: Sequence[str] = (),
) -> tuple[Path, Path]:
    """Writes the file as an array of bytes, with what an application needs to run it.

    Args:
        artefact: Any `.tflite` that TensorFlow Lite Micro runs.
        name: What the constants are called after: `g_<name>_model_data`; what C does not allow in it becomes `_`.
        folder: Where `model_data.cc` and `model_data.h` go.
        arena: What the header recommends: the measured size; without it, the head and a bound on the rest.
        classes: The names of the classes, in the order of the outputs.

    Returns:
        The paths of source and header.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    prefix = f"g_{c.identifier(name)}"
    source, header = folder / SOURCE, folder / HEADER
    write_atomic(header, _header(artefact, prefix, _recommended(artefact, arena), classes))
    write_atomic(source, _source(artefact, prefix, classes))
    return source, header


def resolved(artefact: Artefact) -> list[str]:
    """The calls that enter a file's operators into TensorFlow Lite Micro's resolver, such as `AddConv2D()`."""
    return [_added(name) for name in sorted({operator.name for graph in artefact.graphs for operator in graph.operators})]


def _recommended(artefact: Artefact, arena: Arena) -> tuple[int, str]:
    """The size of the arena, and the comment that says where it comes from."""
    if arena.measured is not None:
        size = arena.measured
        how = (
            f"the smallest in which it ran (measured on a 64-bit build: a microcontroller needs less), {arena.head} of it for "
            "activations."
        )
    else:
        extra = micro.beside(artefact, arena.head)
        size = -(-(arena.head + extra) // 16) * 16
        how = (
            f"{arena.head} for activations (computed by a planner that places them as TensorFlow Lite Micro does) and {extra} "
            "for its own data (a bound, from what a 64-bit build records for tensors, operators, scales and variables)."
        )
        how += f" TensorFlow Lite Micro was not asked: {arena.not_measured}." if arena.not_measured else ""
    comment = (
        "Recommended size of the tensor arena, in bytes, for TensorFlow Lite Micro's reference kernels: "
        f"{how} Optimized kernels may want more."
    )
    return size, textwrap.fill(comment, 124, initial_indent="// ", subsequent_indent="// ")


def _header(artefact: Artefact, prefix: str, arena: tuple[int, str], classes: Sequence[str]) -> str:
    guard = f"TINYROBUST_{prefix.upper()}_MODEL_DATA_H_"
    operators = resolved(artefact)
    arena_size, arena_comment = arena
    resolver = "\n".join(f"//   resolver.{operator};" for operator in operators)
    names = f"extern const char* const {prefix}_class_names[{len(classes)}];\n" if classes else ""
    return f"""{_banner(artefact)}
#ifndef {guard}
#define {guard}

// The model: {artefact.size} bytes of constant data, which stay in flash.
extern const unsigned char {prefix}_model_data[];
extern const unsigned int {prefix}_model_data_len;

{arena_comment}
constexpr unsigned int {prefix}_arena_size = {arena_size};

// The operators it needs:
//   static tflite::MicroMutableOpResolver<{len(operators)}> resolver;
{resolver}

{_all_described(prefix, "input", artefact, artefact.inputs)}
{_all_described(prefix, "output", artefact, artefact.outputs)}
{names}
#endif  // {guard}
"""


def _source(artefact: Artefact, prefix: str, classes: Sequence[str]) -> str:
    names = ""
    if classes:
        listed = "\n".join(f"  {c.string(name)}," for name in classes)
        names = f"\nconst char* const {prefix}_class_names[{len(classes)}] = {{\n{listed}\n}};\n"
    return f"""{_banner(artefact)}
#include "{HEADER}"

alignas(16) const unsigned char {prefix}_model_data[] = {{
{c.hexadecimal(artefact.content)}
}};
const unsigned int {prefix}_model_data_len = {artefact.size};
{names}"""


def _banner(artefact: Artefact) -> str:
    return f"// Generated by tinyrobust from a .tflite file with SHA-256 {artefact.sha256}. Do not edit.\n"


def _all_described(prefix: str, role: str, artefact: Artefact, ends: Sequence[int]) -> str:
    """One is called `input`, several `input0`, `input1` and so on."""
    names = [role] if len(ends) == 1 else [f"{role}{number}" for number in range(len(ends))]
    return "\n".join(_described(prefix, name, artefact.tensors[end]) for name, end in zip(names, ends, strict=True))


def _described(prefix: str, name: str, tensor: Tensor) -> str:
    shape = ", ".join(map(str, tensor.shape))
    lines = [f"constexpr int {prefix}_{name}_shape[] = {{{shape}}};"] if tensor.shape else []
    if len(tensor.scales) != 1 or not tensor.quantized:
        return "\n".join([f"// {name.capitalize()}: {tensor.dtype}, as it is.", *lines, ""])
    scale, zero = float(tensor.scales[0]), int(tensor.zero_points[0])
    comment = f"{name.capitalize()}: {tensor.dtype}, real value = scale * (integer - zero point)."
    if name.startswith("input"):
        comment += f" A value x becomes {formula(scale, zero, tensor.dtype)}."
    return "\n".join(
        [
            textwrap.fill(comment, 124, initial_indent="// ", subsequent_indent="// "),
            *lines,
            f"constexpr float {prefix}_{name}_scale = {c.float32(scale)};",
            f"constexpr int {prefix}_{name}_zero_point = {zero};",
            "",
        ]
    )


def _added(operator: str) -> str:
    """The resolver's method: AVERAGE_POOL_2D -> AddAveragePool2D."""
    if operator.startswith("CUSTOM:"):
        return f"AddCustom({c.string(operator.removeprefix('CUSTOM:'))}, ...)  // a kernel of your own"
    parts = "".join(part if part[0].isdigit() else part.capitalize() for part in operator.split("_"))
    return f"Add{_METHODS.get(operator, parts)}()"
