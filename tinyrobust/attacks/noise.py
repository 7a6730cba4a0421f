"""Random noise: the weakest attack. A network that it breaks, or that resists it better than clean images, needs a look."""

import numpy as np

from tinyrobust.attacks import specs
from tinyrobust.attacks.base import BatchedAttack
from tinyrobust.attacks.norms import distance, random_points
from tinyrobust.attacks.scores import Lowest
from tinyrobust.attacks.target import FloatArray, IntArray

_TINY = 1e-12


class Noise(BatchedAttack[specs.Noise]):
    """The best of some random points of the ball; the first that breaks the sample, else the one of smallest margin.

    All are cut at the box. See `specs.Noise` for their kinds.

    Raises:
        RecipeError: As `BatchedAttack`.
    """

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        best = Lowest.none(x)
        for draw in range(self.spec.draws):
            rows = best.standing(self.drop)
            if not len(rows):
                break
            tried = np.clip(x[rows] + self._offsets(x[rows], draw), *self._bounds).astype(np.float32)
            best.improve(rows, Lowest.judged(self.estimator, tried, y[rows], targeted=self.targeted))
        return best.example

    def _offsets(self, x: FloatArray, draw: int) -> FloatArray:
        generators = self._generators(x, draw)
        radius = self._radii(x, self.epsilon).reshape(-1, *[1] * (x.ndim - 1))
        if self.spec.noise == "uniform":
            return radius * random_points(x.shape[1:], self._ball, generators)
        if self.spec.noise == "gaussian":
            offsets = np.stack([generator.normal(size=x.shape[1:]) for generator in generators]).astype(np.float32)
            return offsets * self._factor(offsets, radius)
        density = (draw + 1) / self.spec.draws
        draws = np.stack([generator.random((2, *x.shape[1:])) for generator in generators])
        low, high = self._bounds
        extreme = np.where(draws[:, 1] < 0.5, np.float32(low), np.float32(high))
        offsets = np.where(draws[:, 0] < density, extreme - x, np.float32(0))
        if self.norm == "linf":
            return np.clip(offsets, -radius, radius)
        return offsets * np.minimum(self._factor(offsets, radius), 1)

    def _factor(self, offsets: FloatArray, radius: FloatArray) -> FloatArray:
        """What brings offsets [n, ...] to a norm of `radius`: [n, 1, ...]."""
        lengths = np.maximum(distance(offsets, self._ball), np.float32(_TINY))
        return np.asarray(radius / lengths.reshape(radius.shape), dtype=np.float32)
