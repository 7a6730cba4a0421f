"""What lies where in the arena, and which sums are fused for its sake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tinyrobust.deploy.cgen import fusion, memory
from tinyrobust.deploy.cgen.calls import Call
from tinyrobust.deploy.cgen.network import Network


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """Where things lie in the arena.

    Attributes:
        offsets: Of each value in the arena, by its index in the network.
        scratch: Of each layer's scratch; None where it needs none.
        inputs: Of the inputs, which lie one behind the other.
        arena_bytes: Bytes of the arena.
        input_destroyed: Whether a layer writes over inputs that lie in the arena.
    """

    offsets: dict[int, int]
    scratch: tuple[int | None, ...]
    inputs: int
    arena_bytes: int
    input_destroyed: bool


@dataclass(frozen=True, eq=False, slots=True)
class Arranged:
    """A network as it runs: its layers, their calls, and where everything lies."""

    network: Network
    calls: tuple[Call, ...]
    layout: Layout


def arrange(network: Network, calls: Sequence[Call], lean: Mapping[int, Call] = MappingProxyType({})) -> Arranged:
    """Chooses the calls, and places everything.

    Where the arena is larger than one with the values alone, side by side as in TensorFlow Lite Micro, calls with less scratch
    and more instructions take the place of others until it is not: first in the step that needs the most.

    Args:
        network: The layers.
        calls: The fastest of each.
        lean: By step, the one with less scratch.
    """
    best, chosen = _with_sums(network, calls), list(calls)
    if not lean:
        return best
    limit = _values_alone(network, calls)
    for step, bytes_ in sorted(_needs(network, calls).items(), key=lambda one: -one[1]):
        if best.layout.arena_bytes <= limit or bytes_ <= limit:
            break
        if step in lean:
            chosen[step] = lean[step]
            best = min(best, _with_sums(network, chosen), key=lambda one: one.layout.arena_bytes)
    return best


def _needs(network: Network, calls: Sequence[Call]) -> dict[int, int]:
    """Bytes that are alive in each step, its scratch among them."""
    buffers = demand(network, calls).buffers
    return {step: sum(one.size for one in buffers if one.first <= step <= one.last) for step in range(len(calls))}


def _values_alone(network: Network, calls: Sequence[Call]) -> int:
    """Bytes of an arena with the values alone, the output's among them, none over another."""
    wanted = demand(network, calls)
    last = len(network.nodes) - 1
    outputs = [memory.Buffer(edge.size, last, last) for edge in network.outputs]
    values = [one for place, one in enumerate(wanted.buffers) if place not in wanted.scratch.values()]
    return memory.plan([*values, *outputs]).size


def _with_sums(network: Network, calls: Sequence[Call]) -> Arranged:
    """Fuses residual sums into their convolutions where that spares more of the arena than it costs elsewhere.

    Tried are all of them, then one after the other left out, and none.
    """
    best = Arranged(network, tuple(calls), layout(network, calls))
    chosen = fusion.sums(network, calls)
    if not chosen:
        return best
    some, cost = _fused(network, calls, chosen)
    for one in chosen:
        fewer = tuple(other for other in chosen if other != one)
        tried, its_cost = _fused(network, calls, fewer)
        if its_cost < cost:
            chosen, some, cost = fewer, tried, its_cost
    return some if cost < best.layout.arena_bytes else best


def _fused(network: Network, calls: Sequence[Call], chosen: Sequence[fusion.Sum]) -> tuple[Arranged, int]:
    """The network with some sums fused, and its bytes: those of the arena, and what fusing adds to others."""
    changed, others = fusion.fused(network, calls, chosen)
    planned = layout(changed, others)
    return Arranged(changed, others, planned), planned.arena_bytes + fusion.price(calls, chosen)


@dataclass(frozen=True, eq=False, slots=True)
class Demand:
    """What has to be placed in the arena.

    Attributes:
        buffers: Values first, then scratch.
        overlaps: Which buffers may overlap, and how.
        places: The buffer of each value that lies in the arena; values that take another's place share it.
        scratch: The buffer of each layer's scratch, by its step.
    """

    buffers: tuple[memory.Buffer, ...]
    overlaps: tuple[memory.Overlap, ...]
    places: dict[int, int]
    scratch: dict[int, int]


def demand(network: Network, calls: Sequence[Call]) -> Demand:
    """Every value but constants and outputs, and each layer's scratch: how large, and from when to when.

    The inputs lie one behind the other in one buffer, the first of all; variables are alive all the time.
    """
    kept, end = network.kept, len(network.nodes)
    born = dict.fromkeys(network.sources, -1)
    born |= {node.output: step for step, node in enumerate(network.nodes) if node.output not in kept}
    dies = dict(born)
    for step, node in enumerate(network.nodes):
        dies.update((value, step) for value in node.inputs if value in born)
    into = {
        node.output: node.inputs[call.into] for node, call in zip(network.nodes, calls, strict=True) if call.into is not None
    }
    places = dict.fromkeys(network.sources, 0)
    buffers = [memory.Buffer(sum(edge.size for edge in network.inputs), -1, max(dies[value] for value in network.sources))]
    for value in kept:
        places[value] = len(buffers)
        buffers.append(memory.Buffer(network.values[value].size, -1, end))
    for value in born:
        if value in network.sources:
            continue
        if value in into:
            places[value] = places[into[value]]
            first = buffers[places[value]]
            buffers[places[value]] = memory.Buffer(first.size, first.first, dies[value])
        elif value not in network.results:
            places[value] = len(buffers)
            buffers.append(memory.Buffer(network.values[value].size, born[value], dies[value]))
    overlaps = [
        memory.Overlap(places[value], places[node.output], overlap.distance)
        for step, (node, call) in enumerate(zip(network.nodes, calls, strict=True))
        for value, overlap in zip(node.inputs, call.overlaps, strict=True)
        if overlap.allowed
        and value in places
        and node.output in places
        and not {value, node.output} & kept
        and dies[value] == step
        and not (value in network.sources and len(network.inputs) > 1)
    ]
    steps = [step for step, call in enumerate(calls) if call.scratch]
    scratch = {step: len(buffers) + i for i, step in enumerate(steps)}
    buffers += [memory.Buffer(calls[step].scratch, step, step) for step in steps]
    return Demand(tuple(buffers), tuple(overlaps), places, scratch)


def layout(network: Network, calls: Sequence[Call]) -> Layout:
    """Plans the arena."""
    wanted = demand(network, calls)
    told = {place: network.values[value].planned for value, place in wanted.places.items()}
    planned = memory.plan(wanted.buffers, wanted.overlaps, {place: at for place, at in told.items() if at is not None})
    offsets = {value: planned.offsets[place] + network.sources.get(value, 0) for value, place in wanted.places.items()}
    scratch = tuple(planned.offsets[wanted.scratch[step]] if step in wanted.scratch else None for step in range(len(calls)))
    first = planned.offsets[0]
    last = first + wanted.buffers[0].size
    others = zip(planned.offsets[1:], wanted.buffers[1:], strict=True)
    destroyed = any(offset < last and first < offset + buffer.size for offset, buffer in others)
    return Layout(offsets, scratch, first, planned.size, destroyed)
