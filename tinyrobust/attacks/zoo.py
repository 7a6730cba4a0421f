"""ZOO (Chen et al. 2017, arXiv 1708.03999): Carlini and Wagner's L2 attack with gradients by finite differences of scores."""

from typing import NamedTuple

import numpy as np

from tinyrobust.attacks import specs
from tinyrobust.attacks.black_box import BlackBoxAttack, blocks
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.scores import Lowest, margin
from tinyrobust.attacks.target import FloatArray, IntArray

_BETA1, _BETA2 = 0.9, 0.999  # Adam's
_TINY = 1e-8


class _Adam(NamedTuple):
    """Averages and the number of steps of every value, [n, d]."""

    mean: FloatArray
    square: FloatArray
    steps: IntArray


class ZeroOrder(BlackBoxAttack[specs.Zoo]):
    """Minimises `|d|^2 + c max(margin, 0)` (equations 3 and 5) by Adam on random values of the image (algorithm 2).

    The margin is that of the scores as they are: an int8 file's are no probabilities. One question a step asks for the finite
    differences of all samples. c is multiplied by ten until an example is found, divided by ten while one is, then halved in on
    by the geometric mean.

    Raises:
        RecipeError: As `BatchedAttack`.
    """

    def _search(self, x: FloatArray, y: IntArray, generators: list[np.random.Generator]) -> FloatArray:
        nearest, far = x.copy(), np.full(len(x), np.inf, np.float32)
        constant, fails, works = np.full(len(x), self.spec.constant), np.zeros(len(x)), np.full(len(x), np.inf)
        for _ in range(self.spec.searches):
            examples, reached = self._descent(x, y, constant.astype(np.float32), generators)
            closer, broken = reached < far, np.isfinite(reached)
            nearest[closer], far[closer] = examples[closer], reached[closer]
            works, fails = np.where(broken, constant, works), np.where(broken, fails, constant)
            between = (fails > 0) & np.isfinite(works)
            middle = np.sqrt(np.where(between, fails, 1) * np.where(between, works, 1))
            constant = np.where(between, middle, constant * np.where(broken, 0.1, 10))
        return nearest

    def _descent(
        self, x: FloatArray, y: IntArray, constant: FloatArray, generators: list[np.random.Generator]
    ) -> tuple[FloatArray, FloatArray]:
        """One search: the nearest examples on the way [n, ...] and their distances [n], infinite where there is none."""
        image = x.reshape(len(x), -1)
        point = image.copy()
        adam = _Adam(np.zeros_like(image), np.zeros_like(image), np.zeros(image.shape, np.int64))
        nearest, far = x.copy(), np.full(len(x), np.inf, np.float32)
        every, count = np.arange(len(x))[:, np.newaxis], min(self.spec.coordinates, image.shape[1])
        for _ in range(self.spec.steps):
            values = np.stack([generator.permutation(image.shape[1])[:count] for generator in generators])
            slope = constant[:, np.newaxis] * self._slopes(point, y, values, x.shape[1:])
            slope += 2 * (point[every, values] - image[every, values])
            moved = point[every, values] - self.spec.learning_rate * _direction(adam, every, values, slope)
            point[every, values] = np.clip(moved, *self._bounds)
            tried = point.reshape(x.shape)
            judged = Lowest.judged(self.estimator, tried, y, targeted=False)
            reached = np.where(judged.broken, distance(tried - x, "l2"), np.float32(np.inf))
            first = judged.broken & np.isinf(far)
            for average in adam:  # what pushed over the boundary would push far beyond it (the authors' code)
                average[first] = 0
            closer = reached < far
            nearest[closer], far[closer] = tried[closer], reached[closer]
        return nearest, far

    def _slopes(self, point: FloatArray, y: IntArray, values: IntArray, shape: tuple[int, ...]) -> FloatArray:
        """How fast `max(margin, 0)` rises with each of `values` [n, k], by central differences that stay in the box."""
        slopes = np.empty(values.shape, np.float32)
        low, high = self._bounds
        for rows in blocks(np.arange(len(point)), 2 * values.shape[1]):
            place = np.arange(len(rows))[:, np.newaxis], np.arange(values.shape[1]), values[rows]
            tried = np.repeat(point[rows, np.newaxis, np.newaxis], 2, axis=1).repeat(values.shape[1], axis=2)
            now = tried[place[0], 0, place[1], place[2]]
            above, below = np.minimum(now + self.spec.difference, high), np.maximum(now - self.spec.difference, low)
            tried[place[0], 0, place[1], place[2]], tried[place[0], 1, place[1], place[2]] = above, below
            scores = self.estimator.predict(tried.reshape(-1, *shape))
            height = np.maximum(margin(scores, np.repeat(y[rows], 2 * values.shape[1])), 0).reshape(tried.shape[:3])
            with np.errstate(invalid="ignore"):  # infinite scores have no slope
                rise = (height[:, 0] - height[:, 1]) / (above - below)
            slopes[rows] = np.where(np.isfinite(rise), rise, 0)
        return slopes


def _direction(adam: _Adam, every: IntArray, values: IntArray, slope: FloatArray) -> FloatArray:
    """Adam's step for `values` [n, k] of all samples, in units of the learning rate; its averages are moved on."""
    adam.steps[every, values] += 1
    adam.mean[every, values] = _BETA1 * adam.mean[every, values] + (1 - _BETA1) * slope
    adam.square[every, values] = _BETA2 * adam.square[every, values] + (1 - _BETA2) * slope**2
    steps = adam.steps[every, values]
    mean = adam.mean[every, values] / (1 - _BETA1**steps)
    square = adam.square[every, values] / (1 - _BETA2**steps)
    return np.asarray(mean / (np.sqrt(square) + _TINY), dtype=np.float32)
