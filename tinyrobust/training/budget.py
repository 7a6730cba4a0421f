"""A bit budget: what a network's weights and tables take in each format, and the best formats that fit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from tinyrobust import formats
from tinyrobust.errors import RecipeError
from tinyrobust.graphs.folding import foldable
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.precision import Precision
from tinyrobust.recipe.weights import Binary, WeightFormat, Weights

# A bias (int32) and a scale (float32 in the file, a multiplier in the C) per output channel.
CHANNEL_BYTES = 8
# Sums of sensitivities that differ by less, as a share, count as equal; and how exactly the solver keeps to a bound.
_AS_GOOD, _SOLVED = 0.01, 1e-6


@dataclass(frozen=True)
class Sized:
    """A layer with weights.

    Attributes:
        name: Of the layer.
        weights: How many it has.
        channels: Of its output.
        format: That a rule names; None where it is to be chosen.
    """

    name: str
    weights: int
    channels: int
    format: Weights | None

    @property
    def table_bytes(self) -> int:
        """Bytes of bias and scales."""
        return CHANNEL_BYTES * self.channels

    def bytes_in(self, weights: WeightFormat) -> int:
        """Bytes of the packed weights, as `footprint` counts them."""
        return formats.packed_bytes(self.weights, weights.storage.bits)


@dataclass(frozen=True)
class Sizes:
    """What the weights and tables of a network take.

    Attributes:
        layers: The layers with weights, in the network's order; then the batch norms that none swallows.
        candidates: The formats to choose from.
    """

    layers: tuple[Sized, ...]
    candidates: tuple[Weights, ...]

    @property
    def free(self) -> tuple[Sized, ...]:
        """The layers whose formats are to be chosen."""
        return tuple(layer for layer in self.layers if layer.format is None)

    @property
    def fixed_bytes(self) -> int:
        """All tables, and the weights of layers whose format a rule names."""
        named = sum(layer.bytes_in(layer.format) for layer in self.layers if layer.format)
        return named + sum(layer.table_bytes for layer in self.layers)

    @property
    def free_bytes(self) -> NDArray[np.int64]:
        """Bytes of the weights of every free layer in every candidate, [layers, candidates]."""
        rows = [[layer.bytes_in(one) for one in self.candidates] for layer in self.free]
        return np.asarray(rows, np.int64).reshape(-1, len(self.candidates))

    @property
    def smallest(self) -> int:
        """Bytes with every free layer in its smallest format."""
        return self.fixed_bytes + int(self.free_bytes.min(axis=1).sum())

    @property
    def largest(self) -> int:
        """Bytes with every free layer in its largest format."""
        return self.fixed_bytes + int(self.free_bytes.max(axis=1).sum())


def sizes_of(network: keras.Model, precision: Precision) -> Sizes:
    """What a network's weights and tables take, trained or not.

    Raises:
        RecipeError: The budget is below the smallest possible; the message names it.
    """
    layers = []
    for layer in weight_layers(network):
        shape, depthwise = layer.latent_weights.shape, isinstance(layer, keras.layers.DepthwiseConv2D)
        channels = shape[-2] * shape[-1] if depthwise else shape[-1]
        layers.append(Sized(layer.name, math.prod(shape), channels, precision.weights(layer.name, layer.role)))
    swallowed = set(foldable(network).values())
    # In the file, depthwise convolutions with a weight a channel: binary, as every weight that is alone with its scale.
    layers += [
        Sized(layer.name, layer.output.shape[-1], layer.output.shape[-1], Binary(kind="binary"))
        for layer in network.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.name not in swallowed
    ]
    sizes = Sizes(tuple(layers), precision.search.candidates)
    if precision.budget is not None and precision.budget < sizes.smallest:
        raise RecipeError(
            f"Expected a precision.budget of at least {sizes.smallest} B, the smallest that this network can take: "
            f"{sizes.fixed_bytes} B are tables and layers whose format a rule names. Received: {precision.budget} B",
            hint="Add a smaller format to precision.search.candidates (binary is the smallest), or make the network narrower.",
        )
    return sizes


def allocate(sensitivities: NDArray[np.float64], sizes: NDArray[np.int64], budget: int) -> list[int]:
    """The format of each layer with which the sum of sensitivities is least within a budget: a multiple-choice knapsack.

    min sum s[l, f] x[l, f] over x in {0, 1} with sum_f x[l, f] = 1 and sum bytes[l, f] x[l, f] <= budget, solved as an integer
    program (`scipy.optimize.milp`). Then, of all choices whose sum is within one percent of that, the one that fills the budget
    best: sums are measured on a sample and differ by more than that on another, bytes do not. Sensitivities are compared as
    `monotone` has them.

    Args:
        sensitivities: [layers, formats], finite.
        sizes: Bytes, of the same shape.
        budget: Bytes for all layers, at least the sum of the smallest.

    Returns:
        The number of the format of each layer.
    """
    if not len(sizes):
        return []
    costs = monotone(sensitivities, sizes)
    costs = costs / (costs.max() or 1.0)
    one_each = LinearConstraint(np.kron(np.eye(len(sizes)), np.ones(sizes.shape[1])), 1, 1)
    fits = LinearConstraint(sizes.reshape(1, -1), -np.inf, budget)
    first = _solved(costs, [one_each, fits])
    least = float((costs * first).sum())
    as_good = LinearConstraint(costs.reshape(1, -1), -np.inf, least * (1 + _AS_GOOD) + _SOLVED)
    return [int(row.argmax()) for row in _solved(-sizes / sizes.max(), [one_each, fits, as_good])]


def monotone(sensitivities: NDArray[np.float64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sensitivities in which more bytes are never worse: what is measured otherwise is noise of the sample, or luck on it.

    Each is at least 0 and at most that of every format of the layer that takes fewer bytes.
    """
    clipped = np.maximum(sensitivities, 0.0)
    fewer = sizes[:, None, :] < sizes[:, :, None]  # [layer, format, other]: whether the other takes fewer bytes
    return np.asarray(np.minimum(clipped, np.where(fewer, clipped[:, None, :], np.inf).min(axis=2)))


def _solved(costs: NDArray[np.float64], constraints: Sequence[LinearConstraint]) -> NDArray[np.int64]:
    """The 0-1 solution with the least cost, of the shape of `costs`."""
    size = costs.size
    # Without presolve: that of HiGHS 1.12 prints lines of its own, and there is little to take out.
    found = milp(
        costs.reshape(-1),
        integrality=np.ones(size),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": 0.0, "presolve": False},
    )
    assert found.x is not None, found.message  # the smallest formats fit, so there is a solution
    return np.asarray(np.rint(found.x), np.int64).reshape(costs.shape)
