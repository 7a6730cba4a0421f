"""The text of the generated C: constants, descriptions, and one function that calls a kernel for each layer."""

from collections.abc import Iterator, Mapping, Sequence

from tinyrobust.deploy import c_literals as c
from tinyrobust.deploy.cgen.calls import Call, Fields, Table
from tinyrobust.deploy.cgen.layout import Layout
from tinyrobust.deploy.cgen.network import Edge, Network
from tinyrobust.deploy.input_units import formula

_WIDTH = 118


def identifier(name: str) -> str:
    """The name in lower case with `_` for what C does not allow in it; never empty, and never that of a kernel's file."""
    cleaned = c.identifier(name.lower(), "model")
    return f"m_{cleaned}" if cleaned.startswith("tr_") else cleaned


def header(network: Network, name: str, layers: int, layout: Layout, classes: Sequence[str]) -> str:
    """`NAME.h`: what a firmware needs to call the model."""
    upper, one = f"TR_{name.upper()}", len(network.inputs) == 1
    lines = [
        _banner(network),
        f"#ifndef {upper}_H",
        f"#define {upper}_H",
        "",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        "/* Real value = scale * (integer - zero point). Shapes are in the order in which the bytes lie, the last fastest. */",
        *_edges(upper, "INPUT", network.inputs),
        *_edges(upper, "OUTPUT", network.outputs),
        "",
        f"#define {upper}_ARENA_BYTES {layout.arena_bytes}",
        f"#define {upper}_LAYERS {layers}",
        "",
        "/* Runs the model once. Returns 0. `in` is only read, unless it lies in the arena. Not reentrant. */",
        f"int tr_{name}_invoke(const int8_t *in, int8_t *out);",
        "",
        "/* The same in the caller's arena of that many bytes, 8-byte aligned: reentrant, and the static one is not linked. */",
        f"int tr_{name}_invoke_in(const int8_t *in, int8_t *out, void *arena);",
        "",
        f"/* Where in the arena {'an input' if one else 'the inputs'} may be written, so that no other memory is needed.",
        f" * {'It is' if one else 'They are'} {'destroyed by' if layout.input_destroyed else 'kept over'} a run. */",
        f"#define {upper}_INPUT_OFFSET {layout.inputs}",
        f"#define {upper}_INPUT_DESTROYED {int(layout.input_destroyed)}",
        f"int8_t *tr_{name}_input(void);",
        "",
        f"#define {upper}_STATEFUL {int(bool(network.states))}",
        "",
    ]
    if network.states:
        lines += [
            "/* It hears a stream: variables stay in the arena from run to run, where only inputs may be written meanwhile.",
            " * To be called before the first run, and where another stream begins. */",
            f"void tr_{name}_reset(void);",
            f"void tr_{name}_reset_in(void *arena);",
            "",
        ]
    if classes:
        lines += [
            f"#define {upper}_CLASSES {len(classes)}",
            f"extern const char *const tr_{name}_classes[{upper}_CLASSES];",
            "",
        ]
    return "\n".join([*lines, "#ifdef __cplusplus", "}", "#endif", "#endif", ""])


def source(network: Network, name: str, calls: Sequence[Call], layout: Layout, classes: Sequence[str]) -> str:
    """`NAME.c`: the constants, the descriptions and the functions."""
    upper = f"TR_{name.upper()}"
    parts = [_banner(network), f'#include "{name}.h"', "", '#include "tr_runtime.h"', ""]
    for index, value in enumerate(network.values):
        if value.constant is not None:
            parts += _array(f"constant{index}", Table("int8_t", value.constant))
    for index, call in enumerate(calls):
        for key, table in call.tables.items():
            parts += _array(f"{key}{index}", table)
        if call.struct:
            names = {key: f"{key}{index}" for key in call.tables}
            parts += [f"static const {call.struct} layer{index} = {{", *_fields(call.fields, names, 1), "};", ""]
    if classes:
        parts += [f"const char *const tr_{name}_classes[{upper}_CLASSES] = {{"]
        parts += [f"    {c.string(text)}," for text in classes] + ["};", ""]
    parts += _invoke_in(network, name, calls, layout)
    parts += _reset_in(network, name, layout)
    words = -(-layout.arena_bytes // 8)
    parts += [
        f"static uint64_t arena[{max(words, 1)}];",
        "",
        f"int tr_{name}_invoke(const int8_t *in, int8_t *out)",
        "{",
        f"    return tr_{name}_invoke_in(in, out, arena);",
        "}",
        "",
        f"int8_t *tr_{name}_input(void)",
        "{",
        f"    return (int8_t *)arena + {upper}_INPUT_OFFSET;",
        "}",
        "",
    ]
    if network.states:
        parts += [f"void tr_{name}_reset(void)", "{", f"    tr_{name}_reset_in(arena);", "}", ""]
    return "\n".join(parts)


def _invoke_in(network: Network, name: str, calls: Sequence[Call], layout: Layout) -> list[str]:
    lines = [f"int tr_{name}_invoke_in(const int8_t *in, int8_t *out, void *arena)", "{", "    int8_t *const base = arena;"]
    for index, (node, call) in enumerate(zip(network.nodes, calls, strict=True)):
        offset = layout.scratch[index]
        names = {key: f"{key}{index}" for key in call.tables} | {
            "layer": f"layer{index}",
            "out": _place(network, layout, node.output),
            "scratch": "base" if offset is None else _at(offset),
        }
        operands = [_place(network, layout, value) for value in node.inputs]
        lines += [f"    TR_LAYER({index}); /* {c.ascii_comment(f'{node.op} {node.name}')} */"]
        lines += [f"    {statement.format(*operands, **names)}" for statement in call.statements]
    return [*lines, f"    TR_LAYER({len(calls)});", "    (void)base;", "    return 0;", "}", ""]


def _reset_in(network: Network, name: str, layout: Layout) -> list[str]:
    """Sets the variables to what they begin with: mostly one value all over."""
    if not network.states:
        return []
    arrays, lines = [], [f"void tr_{name}_reset_in(void *arena)", "{", "    int8_t *const base = arena;"]
    for state in network.states:
        place, values = _at(layout.offsets[state.value]), state.initial
        if (values == values[0]).all():
            lines.append(f"    memset({place}, {values[0]}, {values.size}U);")
        else:
            arrays += _array(f"initial{state.value}", Table("int8_t", values))
            lines.append(f"    memcpy({place}, initial{state.value}, {values.size}U);")
    return [*arrays, *lines, "}", ""]


def _place(network: Network, layout: Layout, value: int) -> str:
    if network.values[value].constant is not None:
        return f"constant{value}"
    for pointer, offsets in (("in", network.sources), ("out", network.results)):
        if value in offsets:
            return _at(offsets[value], pointer)
    return _at(layout.offsets[value])


def _at(offset: int, pointer: str = "base") -> str:
    return f"{pointer} + {offset}" if offset else pointer


def _edges(upper: str, role: str, edges: Sequence[Edge]) -> list[str]:
    """What a caller has to know of the inputs or outputs: several lie one behind the other in one buffer."""
    lines = [f"#define {upper}_{role}_BYTES {sum(edge.size for edge in edges)}"]
    if len(edges) == 1:
        return lines + _edge(upper, role, edges[0])
    lines += [f"#define {upper}_{role}S {len(edges)} /* one behind the other */"]
    for number, edge in enumerate(edges):
        lines += [f"#define {upper}_{role}{number}_OFFSET {edge.offset}", *_edge(upper, f"{role}{number}", edge)]
    return lines


def _edge(upper: str, role: str, edge: Edge) -> list[str]:
    shape = ", ".join(map(str, edge.shape))
    return [
        f"#define {upper}_{role}_TYPE {edge.dtype}_t",
        f"#define {upper}_{role}_SHAPE {{{shape}}}",
        f"#define {upper}_{role}_SCALE {c.float32(edge.scale)}",
        f"#define {upper}_{role}_ZERO_POINT ({edge.zero})",
        *([f"/* x: {formula(edge.scale, edge.zero, edge.dtype)} */"] if role.startswith("INPUT") else []),
    ]


def _fields(fields: Fields, names: dict[str, str], depth: int) -> Iterator[str]:
    indent = "    " * depth
    for key, value in fields.items():
        if isinstance(value, Mapping) and all(isinstance(item, int) for item in value.values()):
            inner = ", ".join(f".{k} = {v}" for k, v in value.items())
            yield f"{indent}.{key} = {{{inner}}},"
        elif isinstance(value, Mapping):
            yield f"{indent}.{key} = {{"
            yield from _fields(value, names, depth + 1)
            yield f"{indent}}},"
        elif isinstance(value, tuple):
            yield f"{indent}.{key} = {{{', '.join(map(str, value))}}},"
        else:
            yield f"{indent}.{key} = {value.format(**names) if isinstance(value, str) else c.integer(value)},"


def _array(name: str, table: Table) -> list[str]:
    rows = c.listed(map(c.integer, table.values.reshape(-1).tolist()), _WIDTH, indent="    ", end=",")
    return [f"static const {table.ctype} {name}[{table.values.size}] = {{", *rows, "};", ""]


def _banner(network: Network) -> str:
    return f"/* Generated by tinyrobust from a .tflite file with SHA-256\n * {network.sha256}. Do not edit. */"
