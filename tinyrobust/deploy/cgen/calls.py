"""From layers to the C that runs them: which kernel, with which constants, in how much scratch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.cgen.addition import plain
from tinyrobust.deploy.cgen.layers import (
    MOVE_RANK,
    Binary,
    Concatenation,
    Layer,
    Lookup,
    Mean,
    Move,
    Pad,
    Pool,
    Resize,
    Softmax,
    Window,
)
from tinyrobust.deploy.cgen.network import Node

# The initializer of a struct, field by field. Text is C; in it `{table}` names a table.
Field = int | str | tuple[int, ...] | Mapping[str, "Field"]
Fields = Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class Overlap:
    """How an output may lie over an input that dies: `distance` as in `memory.Overlap`; not at all where `allowed` is not."""

    allowed: bool = False
    distance: int | None = None


APART = Overlap()
IN_PLACE = Overlap(True, 0)
SAME_START = Overlap(True, None)


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """A constant array: its C type, and its values."""

    ctype: str
    values: NDArray[np.integer]

    @property
    def nbytes(self) -> int:
        """Bytes on flash."""
        return int(self.values.size) * {"int8_t": 1, "uint8_t": 1, "uint16_t": 2, "int32_t": 4}[self.ctype]


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """How one layer runs.

    Attributes:
        kernel: The C function.
        sources: The files of the runtime that it needs.
        statements: C with `{layer}` for the description, `{0}`, `{1}`, ... for inputs, `{out}` and `{scratch}`.
        struct: The C type of the description; empty where there is none.
        fields: Its initializer; a string is C, a dict is a struct inside, `{table}` in a string names one of `tables`.
        tables: Arrays, by the name they get before the layer's number.
        overlaps: For each input, how the output may lie over it.
        into: The position of the input whose place the output takes; None where the output has its own.
        scratch: Bytes that it needs while it runs.
        weights: The encoding of the weights, for the notes.
        form: The form of requantization, for the notes.
        macs: Multiply-accumulates, for the notes.
    """

    kernel: str
    sources: tuple[str, ...]
    statements: tuple[str, ...]
    struct: str = ""
    fields: Fields = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    overlaps: tuple[Overlap, ...] = (IN_PLACE,)
    into: int | None = None
    scratch: int = 0
    weights: str = ""
    form: str = ""
    macs: int = 0


def window_fields(window: Window) -> Fields:
    """The initializer of a `tr_window`."""
    shapes = {
        name: {"height": s.height, "width": s.width, "channels": s.channels}
        for name, s in (("in", window.source), ("out", window.out))
    }
    names = ("height", "width", "stride_h", "stride_w", "dilation_h", "dilation_w", "pad_top", "pad_left")
    return {**shapes, **{name: getattr(window, name) for name in names}}


def distance(window: Window, block: int, *, behind: bool = True) -> int:
    """How far behind its output's start an input has to start, for a kernel that goes over output pixels in order.

    Args:
        window: What it reads.
        block: Pixels that it reads before it writes them.
        behind: Whether a pixel is written after it has been read in full; else what it writes must not even reach the
            bytes that it reads for that pixel.
    """
    source, out = window.source, window.out
    total = out.height * out.width
    ends = range(block, total, block) if behind else range(total)
    return max((pixel * out.channels - _first_read(window, pixel) for pixel in ends), default=-source.count)


def _first_read(window: Window, pixel: int) -> int:
    """The lowest byte of the input that output pixels from `pixel` on read."""
    source, (y, x) = window.source, divmod(pixel, window.out.width)
    column = min(max(x * window.stride_w - window.pad_left, 0), source.width)
    here = window.first_row(y) * source.width + column
    below = window.first_row(y + 1) * source.width if y + 1 < window.out.height else here
    return min(here, below) * source.channels


def unweighted_call(node: Node) -> Call:
    """The call of a layer without learned weights."""
    layer = node.layer
    if isinstance(layer, Pool):
        return _pool(layer)
    if isinstance(layer, Binary):
        return _binary(layer)
    return _simple(layer)


class _More(TypedDict, total=False):
    tables: dict[str, Table]
    overlaps: tuple[Overlap, ...]


def _described(kernel: str, source: str, struct: str, fields: Fields, **more: Unpack[_More]) -> Call:
    return Call(kernel, (source,), (f"{kernel}(&{{layer}}, {{0}}, {{out}});",), struct, fields, **more)


def _pool(layer: Pool) -> Call:
    kernel = "tr_average_pool" if layer.average else "tr_max_pool"
    fields: Fields = {"window": window_fields(layer.window), "low": layer.low, "high": layer.high}
    overlap = Overlap(True, distance(layer.window, 1, behind=False))
    return _described(kernel, "tr_pool.c", "tr_pool", fields, overlaps=(overlap,))


def _binary(layer: Binary) -> Call:
    kernel, struct = f"tr_{layer.kind}", "tr_binary"
    fields: dict[str, Field] = {f"{n}_count".lstrip("_"): c for n, c in zip(("", "a", "b"), layer.counts, strict=True)}
    fields |= {"low": layer.low, "high": layer.high}
    simple = plain(layer) if layer.kind in ("add", "sub") else None
    if simple:
        kernel, struct = "tr_add_plain", "tr_plain_add"
        fields |= {"a_multiplier": simple.multipliers[0], "b_multiplier": simple.multipliers[1]}
        fields |= {"offset": simple.offset, "shift": simple.shift}
    else:
        for name, (multiplier, shift) in zip(("a_", "b_", ""), layer.scalings, strict=True):
            fields |= {f"{name}multiplier": multiplier, f"{name}shift": shift}
        fields |= {"a_offset": layer.offsets[0], "b_offset": layer.offsets[1], "zero": layer.zero}
    overlaps = tuple(IN_PLACE if count == layer.counts[0] else APART for count in layer.counts[1:])
    statement = f"{kernel}(&{{layer}}, {{0}}, {{1}}, {{out}});"
    return Call(kernel, ("tr_elementwise.c",), (statement,), struct, fields, overlaps=overlaps)


def _simple(layer: Layer) -> Call:
    fields: Fields
    if isinstance(layer, Mean):
        fields = {
            "outer": layer.outer,
            "count": layer.count,
            "inner": layer.inner,
            "bias": -layer.count * layer.source_zero,
            "multiplier": layer.multiplier,
            "shift": layer.shift,
            "zero": layer.zero,
        }
        return _described("tr_mean", "tr_pool.c", "tr_mean_layer", fields)
    if isinstance(layer, Lookup):
        statement = f"tr_lookup({{table}}, {layer.count}U, {{0}}, {{out}});"
        return Call("tr_lookup", ("tr_elementwise.c",), (statement,), tables={"table": Table("int8_t", layer.table)})
    if isinstance(layer, Softmax):
        table = Table("int32_t", layer.exponentials)
        fields = {"exponentials": "{exponentials}", "reach": table.values.size, "rows": layer.rows, "width": layer.width}
        return _described("tr_softmax", "tr_softmax.c", "tr_softmax_layer", fields, tables={"exponentials": table})
    if isinstance(layer, Concatenation):
        starts = np.cumsum((0, *layer.widths)).tolist()
        statements = tuple(
            f"tr_copy_rows({{{i}}}, {{out}}, {layer.outer}U, {width}U, {starts[-1]}U, {starts[i]}U);"
            for i, width in enumerate(layer.widths)
        )
        return Call("tr_copy_rows", ("tr_move.c",), statements, overlaps=(APART,) * len(layer.widths))
    if isinstance(layer, Move):
        apart = MOVE_RANK - len(layer.shape)
        fields = {
            "shape": (1,) * apart + layer.shape,
            "stride": (0,) * apart + layer.strides,
            "start": layer.start,
        }
        return _described("tr_move", "tr_move.c", "tr_move_layer", fields, overlaps=(APART,))
    if isinstance(layer, Resize):
        tables = {"rows": Table("uint16_t", layer.rows), "columns": Table("uint16_t", layer.columns)}
        fields = {
            "rows": "{rows}",
            "columns": "{columns}",
            "height": layer.rows.size,
            "out_width": layer.columns.size,
            "width": layer.width,
            "channels": layer.channels,
        }
        return _described("tr_resize_nearest", "tr_move.c", "tr_resize_layer", fields, tables=tables, overlaps=(APART,))
    if isinstance(layer, Pad):
        fields = {"in_shape": layer.source, "before": layer.before, "out_shape": layer.out, "value": layer.value}
        return _described("tr_pad", "tr_move.c", "tr_pad_layer", fields, overlaps=(APART,))
    raise TypeError(f"Expected a layer without learned weights. Received: {layer}")
