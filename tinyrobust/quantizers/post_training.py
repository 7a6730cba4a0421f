"""Ranges that are chosen after training: of weights from themselves, of activations from calibration images."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tinyrobust import formats
from tinyrobust.quantizers.activations import FreelyBounded, Shape
from tinyrobust.quantizers.base import TINY, Group, GroupedQuantizer, Tensor

RangeName = Literal["min-max", "percentile", "mse"]

# How many ranges a search tries, evenly from 1 / SHARES of the largest magnitude to all of it.
SHARES = 127
# Numbers in the arrays of a search.
_AT_ONCE = 2**20
# Of a histogram of activations: sixteen to a step of 8 bits.
_BINS = 4096


def best_share(error: Callable[[Tensor], Tensor], weights: Tensor, groups: tuple[int, ...]) -> Tensor:
    """Of the shares 1/127, 2/127 ... 1 the one with the smallest error, for each group of weights by itself.

    Args:
        error: Gives the errors, [n, *groups], for n shares, [n, 1, ...]: as many as make arrays of a million numbers at once.
        weights: Of the layer.
        groups: A shape that broadcasts against the weights, with one entry a group.
    """
    count = min(SHARES, max(1, _AT_ONCE // math.prod(weights.shape)))

    def step(index: Tensor, found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        numbers = ops.cast(index * count, "float32") + ops.arange(1, count + 1, dtype="float32")
        shares = ops.minimum(numbers, SHARES) / SHARES  # the last comes again where they do not come out even
        errors = error(ops.reshape(shares, (count,) + (1,) * len(groups)))
        share, now = ops.take(shares, ops.argmin(errors, axis=0)), ops.min(errors, axis=0)
        best, least = found
        return ops.where(now < least, share, best), ops.minimum(now, least)

    start = (ops.ones(groups), ops.full(groups, float("inf")))
    best: Tensor = ops.fori_loop(0, -(-SHARES // count), step, start)[0]
    return best


@keras.saving.register_keras_serializable("tinyrobust")
class Uniform(GroupedQuantizer):
    """Symmetric integers times a scale, with a range [-c, c] chosen from the trained weights.

    forward: `q = s * round(clip(w, -c, c) / s)`, `s = c / (2^(bits-1) - 1)`; gradient: the identity (straight through), also
    beyond c. With the range "min-max" and a scale per channel these are the levels of `FixedPoint`.

    - min-max: `c = max|w|`.
    - percentile: a `|w|` that at least so many percent of the magnitudes do not exceed (NumPy's method "higher": as c is a
      weight's magnitude, quantizing twice changes nothing).
    - mse: of the 127 values `c = i/127 max|w|` the one with the least `sum (w - q)^2` (a grid search, as in Banner et al. 2019,
      arXiv 1810.05723, and Nagel et al. 2021, arXiv 2106.08295, section 3.1, who leave the grid open).

    Args:
        bits: Of one weight, from 2 to 8.
        range: How c is chosen.
        percentile: In percent, where the range is a percentile.
        channel_axes: See `WeightQuantizer`.
        group: What has a c of its own: every output "channel", or the "layer".
    """

    def __init__(
        self,
        bits: int = 8,
        range: RangeName = "min-max",  # noqa: A002 - the recipe's key
        percentile: float = 99.9,
        channel_axes: tuple[int, ...] = (-1,),
        group: Group = "channel",
    ) -> None:
        super().__init__(channel_axes, group)
        self.bits, self.range, self.percentile = bits, range, percentile
        self.storage = formats.fixed_point(bits)
        self.steps = 2 ** (bits - 1) - 1

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        del training
        latent = ops.stop_gradient(latent)
        return self._rounded(latent, self._bound(latent))

    def _rounded(self, latent: Tensor, bound: Tensor) -> Tensor:
        scale = ops.maximum(bound, TINY) / self.steps
        return scale * ops.round(ops.clip(latent / scale, -self.steps, self.steps))

    def _bound(self, latent: Tensor) -> Tensor:
        axes, magnitude = self.pooled(latent), ops.abs(latent)
        if self.range == "percentile":
            return ops.quantile(magnitude, self.percentile / 100, axes, method="higher", keepdims=True)
        largest = ops.max(magnitude, axes, keepdims=True)
        if self.range == "min-max":
            return largest

        def error(share: Tensor) -> Tensor:
            errors = ops.square(latent - self._rounded(latent, share * largest))
            return ops.sum(errors, [axis + 1 for axis in axes], keepdims=True)

        return best_share(error, latent, tuple(largest.shape)) * largest

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {"bits": self.bits, "range": self.range, "percentile": self.percentile, **super().get_config()}


@dataclass(frozen=True, eq=False)
class Seen:
    """The activations that a rectifier put out on calibration images.

    Attributes:
        largest: Of all.
        counts: How many were in each of evenly wide bins from 0 to `largest`, [bins].
    """

    largest: float
    counts: npt.NDArray[np.int64]

    @classmethod
    def nothing(cls, largest: float) -> "Seen":
        """No activations yet, of which `largest` will be the largest."""
        return cls(largest, np.zeros(_BINS, np.int64))

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Counts `values`, of any shape, in [0, largest]."""
        self.counts[:] += np.histogram(values, _BINS, (0.0, max(self.largest, TINY)))[0]

    def percentile(self, percent: float) -> float:
        """What at least so many percent of the activations do not exceed: an edge of a bin, so within `largest` / 4096."""
        reached = np.cumsum(self.counts) >= percent / 100 * self.counts.sum()
        return self.largest * float(np.argmax(reached) + 1) / _BINS

    def least_error(self, steps: int) -> float:
        """Of 127 bounds, evenly up to `largest`, the one that leaves the least squared error when rounded to so many steps."""
        centres = (np.arange(_BINS) + 0.5) / _BINS * self.largest
        centres[0] = 0.0  # half of what a rectifier puts out is zero, and stays zero
        bounds = self.largest * np.arange(1, SHARES + 1) / SHARES
        errors = [self.counts @ (centres - _rectified(centres, bound, steps)) ** 2 for bound in bounds]
        return float(bounds[np.argmin(errors)])


def _rectified(values: npt.NDArray[np.float64], bound: float, steps: int) -> npt.NDArray[np.float64]:
    scale = max(bound, TINY) / steps
    rounded: npt.NDArray[np.float64] = scale * np.round(np.minimum(values, bound) / scale)
    return rounded


@keras.saving.register_keras_serializable("tinyrobust")
class Calibrated(FreelyBounded):
    """A rectifier whose upper bound `a` is set after training, and not trained.

    forward: `clip(x, 0, a)`, rounded to 2^bits levels; gradient to x: 1 within the bounds, else 0; none to `a`. Before it is
    calibrated a = 6, as in the float network whose activations it stands for.

    `a` is the largest activation that the float network put out on the calibration images (min-max), a percentile of them, or
    the bound with the least squared error of rounding and clipping (mse; Nagel et al. 2021, arXiv 2106.08295, section 3.1).

    Args:
        bits: Of one activation, from 1 to 8.
        rounding: See `ActivationQuantizer`.
        range: How `a` is chosen.
        percentile: In percent of all activations, zeros too, where the range is a percentile.
    """

    def __init__(
        self,
        bits: int = 8,
        rounding: bool = True,
        range: RangeName = "min-max",  # noqa: A002 - the recipe's key
        percentile: float = 99.99,
        **kwargs: object,
    ) -> None:
        super().__init__(bits, rounding, **kwargs)
        self.range, self.percentile = range, percentile

    def build(self, input_shape: Shape) -> None:
        """Creates the bound."""
        del input_shape
        self.limit = self.add_weight(shape=(), initializer=keras.initializers.Constant(6.0), trainable=False, name="limit")

    def calibrate(self, seen: Seen) -> None:
        """Sets the bound from the activations of the float network; where it put out nothing but zeros, the bound stays."""
        if seen.largest <= 0:
            return
        bounds = {
            "min-max": lambda: seen.largest,
            "percentile": lambda: seen.percentile(self.percentile),
            "mse": lambda: seen.least_error(self.steps),
        }
        self.limit.assign(bounds[self.range]())

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {**super().get_config(), "range": self.range, "percentile": self.percentile}

    @property
    def upper(self) -> float:
        """The stored bound."""
        return float(ops.convert_to_numpy(self.limit))

    def bound(self) -> Tensor | float:
        """The stored bound."""
        return ops.convert_to_tensor(self.limit)
