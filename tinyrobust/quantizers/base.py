"""What every weight quantizer is: the seam between a layer and what it computes with.

A quantizer says which levels the weights of a channel take, which variables it needs beside them (`create`), what these are set
to in the course of training (`schedule`), and in which format the weights end on flash (`storage`). The layer does the rest: it
creates, trains, saves and loads whatever is declared, and says whether it trains.

Quantizers plug into QKeras layers: `bits`, a textual `alpha`, `max`, `min` and `get_config` are what QKeras asks of one.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self, TypeAlias

import keras
from keras import ops

from tinyrobust.formats import Format

# Below this, a magnitude counts as zero: it keeps divisions finite for channels that are all zero.
TINY = 1e-12
# A tensor of Keras' backend, symbolic or not.
Tensor: TypeAlias = keras.KerasTensor
# What a quantizer declares: variables, trainable or not, and generators of random numbers.
State: TypeAlias = keras.Variable | keras.random.SeedGenerator
# What has a threshold and a scale of its own: every output channel, or the layer.
Group: TypeAlias = Literal["channel", "layer"]


class AddWeight(Protocol):
    """`keras.Layer.add_weight` of the layer that a quantizer belongs to."""

    def __call__(self, shape: tuple[int, ...], initializer: object = ..., **settings: object) -> keras.Variable:
        """A variable that the layer owns; `trainable=False` for one that the optimizer leaves alone."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a declared variable is set to in the course of training, phase by phase.

    Attributes:
        variable: The name under which the quantizer declares it.
        starts: Where each phase starts, as a share of all optimizer steps: rising from 0.
        values: What it is in each phase.
    """

    variable: str
    starts: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, step: int, steps: int) -> float:
        """The value in optimizer step `step` (from 0) of `steps`."""
        return [value for value, start in zip(self.values, self.starts, strict=True) if step >= start * steps][-1]


def straight_through(latent: Tensor, quantized: Tensor) -> Tensor:
    """`quantized` in value, `latent` in gradient (Bengio et al. 2013, arXiv 1308.3432).

    The form is `stop(q) + (w - stop(w))`: the bracket is exactly zero in floating point, so a ternary channel has exactly three
    values in training too (`w + stop(q - w)` rounds).
    """
    return ops.stop_gradient(quantized) + (latent - ops.stop_gradient(latent))


class WeightQuantizer(abc.ABC):
    """The base. A subclass writes `levels` and `storage`, and `create`, `schedule` and `quantize` where it needs them.

    Args:
        channel_axes: Axes of the kernel that stay apart: (-1,) for convolutions and dense layers, (-2, -1) for depthwise ones.

    Attributes:
        bits: Of one weight, for QKeras.
        storage: The format of the weights on flash.
        schedule: What one of the declared variables is set to as training goes on; None: nothing is.
        state: What `create` declared; empty until the layer is built.
        training: Whether the layer is called in training; the layer sets it.
    """

    bits: int
    storage: Format
    schedule: Schedule | None = None
    # QKeras leaves the layer's initializer alone when alpha is text, and replaces it otherwise.
    alpha = "per-channel"

    def __init__(self, channel_axes: tuple[int, ...] = (-1,)) -> None:
        self.channel_axes = tuple(channel_axes)
        self.state: Mapping[str, State] = {}
        self.training = False

    def create(self, add_weight: AddWeight, shape: tuple[int, ...]) -> Mapping[str, State]:
        """Declares what the quantizer needs beside the latent weights.

        Args:
            add_weight: Makes a variable of the layer.
            shape: Of the kernel.

        Returns:
            By the names under which they are saved: variables made by `add_weight`, which are trained where they are trainable,
            and seed generators, whose states are saved and loaded too.
        """
        del add_weight, shape
        return {}

    @abc.abstractmethod
    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """The quantized weights; what gradients they have does not matter.

        Args:
            latent: The kernel that the optimizer holds.
            training: Whether in a step of training; at inference the result must be a function of `latent` and the state alone.
        """

    def quantize(self, latent: Tensor, training: bool) -> Tensor:
        """`levels` in value; in gradient the identity. To be overridden where declared variables have gradients, too."""
        return straight_through(latent, self.levels(latent, training))

    def __call__(self, latent: Tensor) -> Tensor:
        """What QKeras calls."""
        # QKeras hands over the variable itself, which JAX does not take for an array inside a traced function.
        return self.quantize(ops.convert_to_tensor(latent), self.training)

    def max(self) -> float:
        """Largest magnitude QKeras may assume (it is not used: alpha is text)."""
        return 1.0

    def min(self) -> float:
        """Smallest value QKeras may assume."""
        return -1.0

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {"channel_axes": list(self.channel_axes)}

    @classmethod
    def from_config(cls, config: Mapping[str, object]) -> Self:
        """The inverse of `get_config`."""
        return cls(**config)  # type: ignore[arg-type]

    def reduced(self, latent: Tensor) -> tuple[int, ...]:
        """The axes of `latent` that run within a channel."""
        return reduced(latent, self.channel_axes)


class GroupedQuantizer(WeightQuantizer):
    """What quantizers have whose threshold, scale or step is of an output channel or of the whole layer.

    Args:
        channel_axes: See `WeightQuantizer`.
        group: "channel" or "layer".
    """

    def __init__(self, channel_axes: tuple[int, ...] = (-1,), group: Group = "channel") -> None:
        super().__init__(channel_axes)
        self.group = group
        self.scale_axes = self.channel_axes if group == "channel" else ()

    def pooled(self, latent: Tensor) -> tuple[int, ...]:
        """The axes of `latent` that run within a group."""
        return reduced(latent, self.scale_axes)

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {**super().get_config(), "group": self.group}


def reduced(latent: Tensor, channel_axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of `latent` that are none of `channel_axes`: all where there are none."""
    rank = len(latent.shape)
    kept = {axis % rank for axis in channel_axes}
    return tuple(axis for axis in range(rank) if axis not in kept)
