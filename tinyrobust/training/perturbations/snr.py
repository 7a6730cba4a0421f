"""Noise in the sound of clips, at a signal-to-noise ratio."""

import keras
from keras import ops

from tinyrobust.data.speech.units import MIDPOINT
from tinyrobust.gradients import Tensor
from tinyrobust.recipe import perturbation as tables
from tinyrobust.training.perturbations.base import Perturbation

_TINY = 1e-12


class Snr(Perturbation):
    """Noise made against the front end and the network (Madry et al. 2018, in few steps as Wong et al. 2020).

    forward: `d = r u; k times d = P(d + s r g / |g|), g = grad_d loss(x + d)`, where the radius `r = 10^(-SNR / 20) |x - 1/2|`
    is that of the ball of a signal-to-noise ratio, drawn for each clip, P projects onto it and u is a random point of the unit
    ball. The gradient goes through the front end, straight through the rounding to its 8-bit grid.
    """

    def __init__(self, table: tables.Snr, seed: int) -> None:
        super().__init__(seed, table.steps)
        self._snr_db = table.snr_db
        self._step = table.step

    def radius(self, x: Tensor) -> Tensor:
        """[n, 1], in L2, by the ratio drawn for each clip."""
        snr_db = keras.random.uniform((ops.shape(x)[0], 1), *self._snr_db, dtype=x.dtype, seed=self.seed_generator)
        return ops.power(10.0, -snr_db / 20) * _length(x - MIDPOINT)

    def start(self, x: Tensor, radius: Tensor) -> Tensor:
        """In a random direction, at a random distance."""
        direction = keras.random.normal(ops.shape(x), dtype=x.dtype, seed=self.seed_generator)
        share = keras.random.uniform((ops.shape(x)[0], 1), dtype=x.dtype, seed=self.seed_generator)
        return radius * share * direction / (_length(direction) + _TINY)

    def step(self, gradient: Tensor, radius: Tensor) -> Tensor:
        """Along the gradient, as a share of the radius."""
        return self._step * radius * gradient / (_length(gradient) + _TINY)

    def project(self, moved: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        """Onto the ball; into the range of samples only at the end."""
        del x
        return moved * ops.minimum(1.0, radius / (_length(moved) + _TINY))


def _length(rows: Tensor) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(rows), axis=1, keepdims=True))
