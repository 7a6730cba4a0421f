"""Noise in the sound of clips, at a signal-to-noise ratio."""

import keras
from keras import ops

from tinyrobust.data.speech.units import MIDPOINT
from tinyrobust.gradients import Tensor
from tinyrobust.recipe import perturbation as tables
from tinyrobust.training.perturbations.l2 import L2, length


class Snr(L2):
    """Noise made against the front end and the network (Madry et al. 2018, in few steps as Wong et al. 2020).

    forward: see `L2`, where the radius `r = 10^(-SNR / 20) |x - 1/2|` is that of the ball of a signal-to-noise ratio, drawn for
    each clip. The gradient goes through the front end, straight through the rounding to its 8-bit grid.
    """

    def __init__(self, table: tables.Snr, seed: int) -> None:
        super().__init__(table, seed)
        self._snr_db = table.snr_db

    def radius(self, x: Tensor) -> Tensor:
        """[n, 1], in L2, by the ratio drawn for each clip."""
        snr_db = keras.random.uniform((ops.shape(x)[0], 1), *self._snr_db, dtype=x.dtype, seed=self.seed_generator)
        return ops.power(10.0, -snr_db / 20) * length(x - MIDPOINT)
