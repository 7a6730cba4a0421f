"""Random noise: the weakest attack. A network that it breaks, or that resists it better than clean images, needs a look."""

from typing import Any, ClassVar, Literal, get_args

import numpy as np

from tinyrobust.attacks.base import BatchedAttack, FloatArray, IntArray
from tinyrobust.attacks.norms import distance, random_points
from tinyrobust.attacks.scores import Lowest
from tinyrobust.errors import RecipeError

Kind = Literal["uniform", "gaussian", "salt"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_TINY = 1e-12


class Noise(BatchedAttack):
    """The best of some random points of the ball; the first that breaks the sample, else the one of smallest margin.

    - "uniform": uniformly distributed in the ball.
    - "gaussian": a Gaussian direction, as long as the radius.
    - "salt": salt and pepper, denser with every draw: some values become the lowest or highest there is, then all are drawn
      towards the image until they are in the ball.

    All are cut at the box.

    Args:
        estimator: The target; needs `predict` only.
        kind: See above.
        draws: Points tried.
        settings: Those of `BatchedAttack`: norm, epsilon, targeted, batch_size, drop, seed.

    Raises:
        RecipeError: A parameter is out of its range.
    """

    attack_params: ClassVar[list[str]] = [*BatchedAttack.attack_params, "kind", "draws"]

    def __init__(self, estimator: Any, *, kind: Kind = "uniform", draws: int = 10, **settings: Any) -> None:
        self.kind = kind
        self.draws = draws
        super().__init__(estimator, **settings)

    def _check_params(self) -> None:
        super()._check_params()
        if self.kind not in KINDS or self.draws < 1:
            raise RecipeError(
                f"Expected kind to be one of {', '.join(KINDS)} and draws >= 1. "
                f"Received: kind={self.kind!r}, draws={self.draws}"
            )

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        best = Lowest.none(x)
        for draw in range(self.draws):
            rows = best.standing(self.drop)
            if not len(rows):
                break
            tried = np.clip(x[rows] + self._offsets(x[rows], draw), *self._bounds).astype(np.float32)
            best.improve(rows, Lowest.judged(self.estimator, tried, y[rows], targeted=self.targeted))
        return best.example

    def _offsets(self, x: FloatArray, draw: int) -> FloatArray:
        generators = self._generators(x, draw)
        radius = self._radii(x, self.epsilon).reshape(-1, *[1] * (x.ndim - 1))
        if self.kind == "uniform":
            return radius * random_points(x.shape[1:], self._ball, generators)
        if self.kind == "gaussian":
            offsets = np.stack([generator.normal(size=x.shape[1:]) for generator in generators]).astype(np.float32)
            return offsets * self._factor(offsets, radius)
        density = (draw + 1) / self.draws
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
