"""Piecewise linear quantization of weights: fine steps near zero, where most weights are, and coarse ones in the tails."""

from typing import Literal

import keras
from keras import ops

from tinyrobust import formats
from tinyrobust.quantizers.base import TINY, Tensor, WeightQuantizer
from tinyrobust.quantizers.post_training import best_share


def piecewise(magnitude: Tensor, point: Tensor, largest: Tensor, steps: int, overlapping: bool) -> Tensor:
    """Magnitudes in [0, largest] on the levels of the two regions.

    Args:
        magnitude: `|w|`.
        point: The breakpoint p, in (0, largest].
        largest: `max|w|`, positive.
        steps: From one end of a region to the other.
        overlapping: Whether the levels beyond p are counted from 0 on; else from p on.
    """
    fine = point / steps
    start = ops.zeros_like(point) if overlapping else point
    coarse = ops.maximum((largest - start) / steps, TINY)
    centre, tail = fine * ops.round(magnitude / fine), start + coarse * ops.round((magnitude - start) / coarse)
    return ops.where(magnitude <= point, centre, tail)


@keras.saving.register_keras_serializable("tinyrobust")
class Pwlq(WeightQuantizer):
    """PWLQ of every output channel (Fang et al., ECCV 2020, arXiv 2002.00104).

    With m = max|w|, a breakpoint p < m and n = 2^(bits-1) - 1 steps in each piece, which with the sign is `bits` bits:

    - `|w| <= p`: `q = sign(w) * s1 * round(|w| / s1)`, `s1 = p / n`;
    - beyond, non-overlapping: `q = sign(w) * (p + s2 * round((|w| - p) / s2))`, `s2 = (m - p) / n`: 2^(bits+1) - 3 levels;
    - beyond, overlapping: `q = sign(w) * s2 * round(|w| / s2)`, `s2 = m / n`: no offset, but fewer levels beyond p.

    gradient: the identity (straight through).

    The breakpoint minimises the expected squared error, proportional to `p^2 P(|w| <= p) + (m - p)^2 P(p < |w| <= m)` (with m^2
    for the last square where overlapping; the paper's eq. of the quantization error). In units of the channel's standard
    deviation, taken about zero, with m in these units too:

    - gaussian: `p = ln(0.8614 m + 0.6079)`;
    - laplace: `p = 0.803 sqrt(m) - 0.3167`;
    - search: of the 127 values `p = i/127 m` the one with the least `sum (w - q)^2` of the channel's own weights. The last,
      p = m, is uniform quantization of as many bits, so the search is never worse than that.

    Both formulas are the paper's, for a distribution of unit variance and regions that do not overlap. Checked against
    minimisation of the expression above: p, not p/m, is what they give, and for m from 1.5 to 10 their error is within 1.3 %
    (Gaussian) and 1.1 % (Laplace) of the least; where regions overlap, the best p is larger, and their error within 4.9 % and
    2.6 %. (On samples at 5 bits, a searched p saves up to a sixth there: it lies well to the coarse levels.) At the best p
    of a Gaussian with m = 4 the error is 0.17 of that of p = m; at p = m/2 it is at most a quarter.

    Trained through, the search costs a half of a float step on ResNet-20 besides, in processor time (`Uniform`'s range "mse"
    a quarter); the formulas cost nothing that shows. It is meant for after training, where it runs once.

    A file has one scale a channel, so it holds the nearest of 255 levels, and parity.json says how near. Two bits with a
    searched breakpoint are exact: 0, i/127 m and m are among the levels.

    Args:
        bits: Of one weight, from 2 to 8; which region it is in takes one more, which is not counted, as in the paper.
        overlapping: See above.
        breakpoint: See above.
        channel_axes: See `WeightQuantizer`.
    """

    storage = formats.INT8

    def __init__(
        self,
        bits: int = 4,
        overlapping: bool = False,
        breakpoint: Literal["gaussian", "laplace", "search"] = "search",  # noqa: A002 - the recipe's key
        channel_axes: tuple[int, ...] = (-1,),
    ) -> None:
        super().__init__(channel_axes)
        self.bits, self.overlapping, self.breakpoint = bits, overlapping, breakpoint
        self.steps = 2 ** (bits - 1) - 1

    def levels(self, latent: Tensor, training: bool) -> Tensor:
        """See the class."""
        del training
        latent = ops.stop_gradient(latent)
        magnitude, axes = ops.abs(latent), self.reduced(latent)
        largest = ops.maximum(ops.max(magnitude, axes, keepdims=True), TINY)
        point = self._searched(magnitude, largest) if self.breakpoint == "search" else self._by_formula(magnitude, largest)
        return ops.sign(latent) * piecewise(magnitude, point, largest, self.steps, self.overlapping)

    def _by_formula(self, magnitude: Tensor, largest: Tensor) -> Tensor:
        deviation = ops.sqrt(ops.mean(ops.square(magnitude), self.reduced(magnitude), keepdims=True))
        m = largest / ops.maximum(deviation, TINY)
        point = ops.log(0.8614 * m + 0.6079) if self.breakpoint == "gaussian" else 0.803 * ops.sqrt(m) - 0.3167
        return ops.maximum(point * deviation, TINY)

    def _searched(self, magnitude: Tensor, largest: Tensor) -> Tensor:
        axes = [axis + 1 for axis in self.reduced(magnitude)]

        def error(share: Tensor) -> Tensor:
            rounded = piecewise(magnitude, share * largest, largest, self.steps, self.overlapping)
            return ops.sum(ops.square(magnitude - rounded), axes, keepdims=True)

        return best_share(error, magnitude, tuple(largest.shape)) * largest

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        own = {"bits": self.bits, "overlapping": self.overlapping, "breakpoint": self.breakpoint}
        return {**own, **super().get_config()}
