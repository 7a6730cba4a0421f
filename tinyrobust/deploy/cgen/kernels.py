"""Which kernel runs a layer with weights: the first that takes it, fast ones before portable ones."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.cgen import fast
from tinyrobust.deploy.cgen.calls import APART, SAME_START, Call, Field, Fields, Overlap, Table, distance, window_fields
from tinyrobust.deploy.cgen.layers import Conv
from tinyrobust.deploy.cgen.packing import Packed
from tinyrobust.deploy.cgen.requantize import cheapest
from tinyrobust.deploy.cgen.rules import Requantization, Rule
from tinyrobust.formats import BYTE

_BLOCK = 8  # TR_BLOCK of tr_runtime.h


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel for layers with weights.

    Attributes:
        function: Its name in C.
        sources: The files that it needs, those for unpacking and requantization not among them.
        accepts: Whether it runs a layer with these weights.
        scratch: Bytes of scratch.
        overlap: How the output may lie over the input.
        weights: The bytes of its weights, as they are packed unless it has another order.
        pairs: Whether it requantizes by itself, and so takes only layers whose requantization says `pairs`.
    """

    function: str
    sources: tuple[str, ...]
    accepts: Callable[[Conv, Packed], bool]
    scratch: Callable[[Conv, Packed], int]
    overlap: Callable[[Conv], Overlap]
    weights: Callable[[Conv, Packed], NDArray[np.uint8] | NDArray[np.int32]] = lambda _, packed: packed.data
    pairs: bool = False


def _read_on(_conv: Conv, packed: Packed) -> NDArray[np.uint8]:
    """The weights of a kernel that reads int8 weights where they lie, up to 3 bytes past their end."""
    return np.pad(packed.data, (0, 3)) if packed.encoding is BYTE else packed.data


def _depthwise_overlap(conv: Conv) -> Overlap:
    """A channel's plane is read before it is written, and only that channel's bytes are."""
    window = conv.window
    same = window.source.channels == window.out.channels and window.out.count <= window.source.count
    return SAME_START if same else APART


def _depthwise(suffix: str, accepts: Callable[[Conv, Packed], bool]) -> Kernel:
    return Kernel(
        f"tr_fast_depthwise{suffix}",
        ("tr_fast_depthwise.c",),
        accepts,
        fast.depthwise_scratch,
        _depthwise_overlap,
        _read_on,
    )


def _ternary_depthwise(suffix: str, accepts: Callable[[Conv, Packed], bool], *, pairs: bool = False) -> Kernel:
    return Kernel(
        f"tr_fast_depthwise_ternary{suffix}",
        ("tr_fast_depthwise_ternary.c", "tr_pairs.h"),
        accepts,
        fast.ternary_depthwise_scratch,
        _depthwise_overlap,
        pairs=pairs,
    )


_LEAN = (
    Kernel(
        "tr_lean_conv",
        ("tr_lean_conv.c", "tr_window.c", "tr_window.h"),
        lambda conv, packed: packed.encoding is BYTE and fast.takes_packed_conv(conv, packed),
        fast.lean_conv_scratch,
        fast.lean_conv_overlap,
    ),
    Kernel(
        "tr_lean_depthwise",
        ("tr_depthwise.c",),
        lambda conv, _: conv.depthwise,
        lambda conv, packed: 0 if packed.encoding is BYTE else conv.window.taps,
        lambda _: APART,
    ),
)
_DENSE = (
    Kernel(
        "tr_fast_dense",
        ("tr_fast_dense.c",),
        fast.takes_lanes,
        lambda *_: 0,
        fast.lean_conv_overlap,
        fast.dense_lanes,
    ),
    replace(_LEAN[0], accepts=fast.takes_dense),
)
_KERNELS = (
    Kernel(
        "tr_fast_conv_ternary",
        ("tr_fast_conv_ternary.c", "tr_pairs.h", "tr_window.c", "tr_window.h"),
        fast.takes_ternary_conv,
        fast.ternary_conv_scratch,
        fast.ternary_conv_overlap,
        fast.ternary_conv_weights,
    ),
    Kernel(
        "tr_fast_conv",
        ("tr_fast_conv.c", "tr_window.c", "tr_window.h"),
        fast.takes_conv,
        fast.conv_scratch,
        fast.conv_overlap,
        fast.conv_lanes,
    ),
    Kernel(
        "tr_fast_conv_binary",
        ("tr_fast_conv_ternary.c", "tr_pairs.h", "tr_window.c", "tr_window.h"),
        fast.takes_binary_conv,
        fast.ternary_conv_scratch,
        fast.ternary_conv_overlap,
        lambda conv, packed: np.pad(fast.ternary_conv_weights(conv, packed), (0, 3)),  # it reads that far past the end
    ),
    Kernel(
        "tr_fast_conv_packed",
        ("tr_fast_conv.c", "tr_window.c", "tr_window.h"),
        fast.takes_packed_conv,
        fast.packed_conv_scratch,
        fast.packed_conv_overlap,
        _read_on,
    ),
    _ternary_depthwise("_pairs", fast.takes_ternary_3x3, pairs=True),
    _ternary_depthwise("_3x3", fast.takes_ternary_3x3),
    _ternary_depthwise("", fast.takes_ternary_depthwise),
    _depthwise("_3x3", fast.takes_3x3),
    _depthwise("_3x3_strided", fast.takes_3x3_strided),
    _depthwise("_line", fast.takes_line),
    _depthwise("", fast.takes_depthwise),
    Kernel(
        "tr_depthwise",
        ("tr_depthwise.c",),
        lambda conv, _: conv.depthwise,
        lambda conv, _: conv.window.source.height * conv.window.source.width + conv.window.taps,
        _depthwise_overlap,
    ),
    Kernel(
        "tr_conv2d",
        ("tr_conv2d.c",),
        lambda conv, _: not conv.depthwise,
        lambda conv, _: (_BLOCK + 1) * conv.window.taps * conv.window.source.channels,
        lambda conv: Overlap(True, distance(conv.window, _BLOCK)),
    ),
)


def rule(conv: Conv, packed: Packed) -> Rule:
    """How the layer's sums, over weights as they are unpacked, become int8."""
    units = packed.unpacked.reshape(conv.weights.shape).astype(np.int64)
    bias = conv.bias - conv.source_zero * conv.weights.astype(np.int64).sum(axis=1)
    largest = np.maximum(-128 * units, 127 * units).sum(axis=1)
    smallest = np.minimum(-128 * units, 127 * units).sum(axis=1)
    reach = np.stack([smallest, largest])
    return Rule(bias, conv.multipliers, conv.shifts, packed.scale, conv.zero, conv.low, conv.high, reach)


def weighted_calls(conv: Conv, packed: Packed, *, dense: bool) -> tuple[Call, Call | None]:
    """The calls of a layer with weights: by the kernel with the fewest instructions, and by one with less scratch, if any.

    Args:
        conv: The layer.
        packed: Its weights.
        dense: Whether fully connected layers have a kernel of their own: they take 300 to 750 bytes of flash.
    """
    requant = cheapest(rule(conv, packed))

    def call(kernels: Iterable[Kernel]) -> Call | None:
        usable = (kernel for kernel in kernels if requant.pairs or not kernel.pairs)
        found = next((kernel for kernel in usable if kernel.accepts(conv, packed)), None)
        return _call(conv, packed, requant, found) if found else None

    fastest, lean = call((*_DENSE, *_KERNELS) if dense else _KERNELS), call(_LEAN)
    assert fastest is not None  # the last kernels take every shape
    return fastest, lean if lean is not None and lean.scratch < fastest.scratch else None


def _call(conv: Conv, packed: Packed, requant: Requantization, kernel: Kernel) -> Call:
    weights = kernel.weights(conv, packed)
    tables = {"weights": Table(f"{weights.dtype.name}_t", weights)}
    requant_fields: dict[str, Field] = {"apply": f"tr_requant_{requant.form}"}
    if requant.words is not None:
        tables["words"] = Table("int32_t", requant.words)
        requant_fields["words"] = "{words}"
    if requant.bytes is not None:
        tables["bytes"] = Table("uint8_t", requant.bytes)
        requant_fields["bytes"] = "{bytes}"
    requant_fields |= {
        "multiplier": requant.multiplier,
        "scale": requant.rule.scale,
        "shift": requant.shift,
        "bias_shift": requant.bias_shift,
        "zero": conv.zero,
        "low": conv.low,
        "high": conv.high,
        "pairs": int(requant.pairs),
    }
    fields: Fields = {
        "window": window_fields(conv.window),
        "weights": "{weights}" if weights.dtype == np.uint8 else "(const uint8_t *){weights}",
        "unpack": f"tr_unpack_{packed.encoding.name}",
        "requant": requant_fields,
        "groups": conv.groups,
        "in_zero": conv.source_zero,
    }
    return Call(
        kernel=kernel.function,
        sources=(*kernel.sources, "tr_unpack.c", "tr_requant.c"),
        statements=(f"{kernel.function}(&{{layer}}, {{0}}, {{out}}, {{scratch}});",),
        struct="tr_conv",
        fields=fields,
        tables=tables,
        overlaps=(kernel.overlap(conv),),
        scratch=kernel.scratch(conv, packed),
        weights=packed.encoding.name,
        form=requant.form,
        macs=conv.macs,
    )
