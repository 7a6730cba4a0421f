"""Where each value lies in the arena: lifetimes, and outputs that take the place of their inputs.

A kernel that writes in the order in which it reads may write over what it has read. How far is one number, its distance:
the input must begin at least that many bytes after the output begins. 0 or less is in place.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

ALIGNMENT = 4

_EXHAUSTIVE = 6  # buffers of which every order is tried
_EFFORT = 400_000  # pairs looked at while orders of more buffers are tried


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are alive from step `first` to step `last`, both included; -1 is before the first layer."""

    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """An input that dies where an output is born, and may lie in its way.

    Attributes:
        source: Index of the input's buffer.
        out: Index of the output's buffer.
        distance: How many bytes after the output's start the input's start has to be, at least; None where only the same
            start is allowed.
    """

    source: int
    out: int
    distance: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each buffer begins, and the bytes that all of them take."""

    offsets: tuple[int, ...]
    size: int


def plan(buffers: Sequence[Buffer], overlaps: Iterable[Overlap] = (), known: Mapping[int, int] = MappingProxyType({})) -> Plan:
    """Places buffers so that those alive at once do not overlap, but where it is allowed.

    Each order of placing gives a plan: each buffer goes to the lowest place left. Of few buffers every order is tried, of
    many the usual ones (by size, by birth) and exchanges of two that make the plan smaller.

    Args:
        buffers: All of them.
        overlaps: What may overlap.
        known: Where somebody's plan has some of the buffers: in the order of these places, none comes to lie higher.
    """
    problem = _Problem(buffers, overlaps)
    if len(buffers) <= _EXHAUSTIVE:
        return min((problem.place(order) for order in itertools.permutations(range(len(buffers)))), key=lambda p: p.size)
    indices = range(len(buffers))
    starts = [
        sorted(indices, key=lambda i: (-buffers[i].size, buffers[i].first)),
        sorted(indices, key=lambda i: (-buffers[i].size * (buffers[i].last - buffers[i].first + 1), i)),
        sorted(indices, key=lambda i: (buffers[i].first, -buffers[i].size)),
        sorted(indices, key=lambda i: (-buffers[i].last, -buffers[i].size)),
    ]
    if known:
        starts.append(sorted(indices, key=lambda i: (i not in known, known.get(i, 0), -buffers[i].size)))
    order = min(starts, key=lambda start: problem.place(start).size)
    return _improved(problem, list(order))


def _improved(problem: "_Problem", order: list[int]) -> Plan:
    best = problem.place(order)
    draw = random.Random(0)  # noqa: S311 - a search, not a secret
    for _ in range(_EFFORT // len(order) ** 2):
        i, j = draw.sample(range(len(order)), 2)
        order[i], order[j] = order[j], order[i]
        tried = problem.place(order)
        if tried.size <= best.size:
            best = tried
        else:
            order[i], order[j] = order[j], order[i]
    return best


class _Problem:
    def __init__(self, buffers: Sequence[Buffer], overlaps: Iterable[Overlap]) -> None:
        self._sizes = [_aligned(buffer.size) for buffer in buffers]
        self._distance = {(o.source, o.out): None if o.distance is None else _aligned(o.distance) for o in overlaps}
        self._rivals = [
            [j for j, other in enumerate(buffers) if j != i and other.first <= one.last and one.first <= other.last]
            for i, one in enumerate(buffers)
        ]

    def place(self, order: Sequence[int]) -> Plan:
        offsets: dict[int, int] = {}
        for i in order:
            taken = [span for j in self._rivals[i] if j in offsets for span in self._taken(i, j, offsets[j])]
            starts = sorted({0, *(end for _, end in taken if end > 0), *(start for start, _ in taken if start > 0)})
            offsets[i] = next(s for s in starts if not any(start < s < end for start, end in taken))
        size = max((offsets[i] + self._sizes[i] for i in order), default=0)
        return Plan(tuple(offsets[i] for i in range(len(order))), size)

    def _taken(self, i: int, j: int, offset: int) -> Iterator[tuple[int, int]]:
        """The open intervals in which buffer `i` may not begin because buffer `j` begins at `offset`."""
        below, above = offset - self._sizes[i], offset + self._sizes[j]
        if (i, j) in self._distance or (j, i) in self._distance:
            reads = (i, j) in self._distance
            distance = self._distance[(i, j) if reads else (j, i)]
            if distance is None:
                yield below, offset
                below = offset
            elif reads:
                above = min(above, offset + distance)
            else:
                below = max(below, offset - distance)
        if below < above:
            yield below, above


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
