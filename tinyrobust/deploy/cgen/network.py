"""What a model is once TensorFlow Lite's words are gone: layers that read and write values, and what a caller sees of it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinyrobust.deploy.cgen.layers import Layer


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """Bytes that layers read and write: an activation, or a constant of the file.

    Attributes:
        name: In the file.
        size: In bytes.
        constant: What it holds, where that is known.
        planned: Where the file's own plan of the arena has it, in bytes; None without such a plan.
    """

    name: str
    size: int
    constant: NDArray[np.int8] | None = None
    planned: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """A layer with the values it reads and the one it writes, as indices into the network's values."""

    op: str
    name: str
    layer: Layer
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True, slots=True)
class Edge:
    """An input or output, and what a caller has to know of it: real value = scale * (integer - zero point).

    Attributes:
        value: Its index among the network's values.
        offset: Bytes of the inputs, or outputs, before it: they lie one behind the other.
        shape: In the order in which the bytes lie, the last fastest.
        scale: The step.
        zero: The zero point.
        dtype: int8 or uint8.
    """

    value: int
    offset: int
    shape: tuple[int, ...]
    scale: float
    zero: int
    dtype: str

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """Bytes that stay from one run to the next: a variable of the file.

    Attributes:
        value: Its index among the network's values.
        initial: What it holds before the first run.
    """

    value: int
    initial: NDArray[np.int8]


@dataclass(frozen=True, eq=False, slots=True)
class Network:
    """A lowered model.

    Attributes:
        values: What lies in memory: activations and constants.
        nodes: The layers, in the order in which they run.
        inputs: What the caller gives.
        outputs: What the caller gets.
        states: What is kept from run to run.
        sha256: Of the file.
    """

    values: tuple[Value, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    states: tuple[State, ...]
    sha256: str

    @property
    def sources(self) -> dict[int, int]:
        """The values that the caller gives, and where each begins."""
        return {edge.value: edge.offset for edge in self.inputs}

    @property
    def results(self) -> dict[int, int]:
        """The values that the caller gets, and where each begins."""
        return {edge.value: edge.offset for edge in self.outputs}

    @property
    def kept(self) -> frozenset[int]:
        """The values that stay."""
        return frozenset(state.value for state in self.states)
