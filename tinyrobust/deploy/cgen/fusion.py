"""Residual sums that their convolutions write themselves: the convolution's own output never exists.

Where an addition is the only reader of a convolution's output, and its other operand is needed no more, the convolution can
add each output, as soon as it is an int8, to what lies in its place. Both roundings stay those of TensorFlow Lite.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tinyrobust.deploy.cgen.addition import plain
from tinyrobust.deploy.cgen.calls import APART, Call, Fields
from tinyrobust.deploy.cgen.layers import Binary, Conv
from tinyrobust.deploy.cgen.network import Network, Node

# On a Cortex-M4 at -Os (gcc 12.2), in bytes; a test compiles and compares. Code of the shared function; of the addition's own
# kernel, which goes when nothing else uses it; call and difference of the descriptions that each sum spares; and the stack.
SUM_BYTES, ADD_BYTES, SPARED_BYTES, STACK_BYTES = 210, 100, 30, 130

# Kernels that requantize by themselves, and those that run the same layers in the same scratch by way of `apply`.
_APPLYING = {"tr_fast_depthwise_ternary_pairs": "tr_fast_depthwise_ternary_3x3"}


@dataclass(frozen=True, slots=True)
class Sum:
    """An addition that a convolution can do.

    Attributes:
        conv: The convolution's step.
        add: The addition's step.
        kept: The value that the convolution is added to, and whose place the sum takes.
    """

    conv: int
    add: int
    kept: int


def sums(network: Network, calls: Sequence[Call]) -> tuple[Sum, ...]:
    """The additions that can be fused, each by itself or all together."""
    sums_or_none = (_sum(network, calls, step) for step, node in enumerate(network.nodes) if isinstance(node.layer, Binary))
    return tuple(one for one in sums_or_none if one is not None)


def fused(network: Network, calls: Sequence[Call], chosen: Sequence[Sum]) -> tuple[Network, tuple[Call, ...]]:
    """The network in which the chosen additions are done by their convolutions, and its calls."""
    nodes: list[Node | None] = list(network.nodes)
    changed = list(calls)
    for one in chosen:
        conv, add = network.nodes[one.conv], network.nodes[one.add]
        inputs = tuple(dict.fromkeys((*conv.inputs, one.kept)))
        nodes[one.conv] = Node(f"{conv.op} + {add.op}", add.name, conv.layer, inputs, add.output)
        nodes[one.add] = None
        changed[one.conv] = _call(calls[one.conv], add, one.kept, inputs)
    left = [(node, call) for node, call in zip(nodes, changed, strict=True) if node is not None]
    return replace(network, nodes=tuple(node for node, _ in left)), tuple(call for _, call in left)


def price(calls: Sequence[Call], chosen: Sequence[Sum]) -> int:
    """What fusing the chosen additions of a network with these calls adds to flash and stack; negative where it spares more."""
    if not chosen:
        return 0
    alone = sum(call.kernel == "tr_add_plain" for call in calls) == len(chosen)
    return SUM_BYTES + STACK_BYTES - ADD_BYTES * alone - SPARED_BYTES * len(chosen)


def _sum(network: Network, calls: Sequence[Call], step: int) -> Sum | None:
    """The fusion of the addition at a step; None where it cannot be."""
    node = network.nodes[step]
    layer = node.layer
    if calls[step].kernel != "tr_add_plain" or not isinstance(layer, Binary) or len(set(layer.counts)) > 1:
        return None
    born = {other.output: i for i, other in enumerate(network.nodes) if other.output not in network.kept}
    if node.output in network.results or not set(node.inputs) <= set(born) or len(set(node.inputs)) < len(node.inputs):
        return None
    kept, value = sorted(node.inputs, key=lambda read: born[read])
    conv = born[value]
    readers = [i for i, other in enumerate(network.nodes) if kept in other.inputs and i != step]
    alone = [i for i, other in enumerate(network.nodes) if value in other.inputs] == [step]
    applies = calls[conv].kernel != "tr_fast_depthwise_ternary_pairs"  # which requantizes by itself
    fits = applies and isinstance(network.nodes[conv].layer, Conv) and not network.results.keys() & {kept, value}
    late = max(readers, default=-1)
    if not (alone and fits) or late > conv or (late == conv and not _in_place(calls[conv])):
        return None
    return Sum(conv, step, kept)


def _in_place(call: Call) -> bool:
    overlap = call.overlaps[0]
    return overlap.allowed and (overlap.distance is None or overlap.distance <= 0)


def _call(call: Call, add: Node, kept: int, inputs: tuple[int, ...]) -> Call:
    """The convolution's call with the addition at its end."""
    simple = plain(add.layer) if isinstance(add.layer, Binary) else None
    if simple is None or not isinstance(add.layer, Binary):
        raise TypeError(f"Expected an addition in its plain form. Received: {add.layer}")
    there = add.inputs.index(kept)
    kernel = _APPLYING.get(call.kernel, call.kernel)
    requant = call.fields["requant"]
    assert isinstance(requant, Mapping)
    fields: Fields = {
        "conv": {**call.fields, "requant": {**requant, "apply": "tr_requant_sum", "pairs": 0}},
        "apply": requant["apply"],
        "multiplier": simple.multipliers[1 - there],
        "there_multiplier": simple.multipliers[there],
        "offset": simple.offset,
        "shift": simple.shift,
        "low": add.layer.low,
        "high": add.layer.high,
    }
    return replace(
        call,
        kernel=kernel,
        sources=(*call.sources, "tr_sum.c"),
        statements=(f"{kernel}(&{{layer}}.conv, {{0}}, {{out}}, {{scratch}});",),
        struct="tr_conv_sum",
        fields=fields,
        overlaps=(APART,) * len(inputs),
        into=inputs.index(kept),
    )
