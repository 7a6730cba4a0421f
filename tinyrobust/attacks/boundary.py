"""The Boundary attack (Brendel et al. 2018, arXiv 1712.04248): a walk along the decision boundary, towards the image."""

import numpy as np

from tinyrobust.attacks import specs
from tinyrobust.attacks.black_box import BlackBoxAttack, blocks, like
from tinyrobust.attacks.target import BoolArray, FloatArray, IntArray

# Of both parts of a step: the first length, as a share of the distance; what a length is multiplied with when fewer than `_FEW`
# of the tries are adversarial, and divided by when more than `_MANY` are. ART's defaults; the paper leaves them open.
_FIRST = 0.01
_FACTOR = 0.667
_FEW, _MANY = 0.2, 0.5
# How many times as far as the boundary walks start. Right on it, half of the directions fail, lengths shrink to nothing and the
# walk stays where it is: on a ternary network with rounded activations (digits, 100 steps) 30 % were left at L2 1, so 1 %.
_BEYOND = 1.5


class Boundary(BlackBoxAttack[specs.Boundary]):
    """Every step goes sideways on a sphere around the image, then towards the image; decisions only.

    A step tries random directions until some stay adversarial, shortening its first part; then it tries to bring those nearer,
    shortening its second part; the nearest is where the next step starts. Many walks side by side: in one question every sample
    tries the part of its own step that it is at.

    Raises:
        RecipeError: As `BatchedAttack`.
    """

    def _search(self, x: FloatArray, y: IntArray, generators: list[np.random.Generator]) -> FloatArray:
        start, known = self._starts(x, y, generators, self.spec.draws)
        walks = _Walks(x, self._beyond(x, y, start), self.spec.directions)
        rows = np.flatnonzero(known)
        while len(rows):
            for some in blocks(rows, self.spec.directions):
                tried, used = walks.tries(some, generators, self._bounds)
                broken = np.zeros_like(used)
                owner = some[np.nonzero(used)[0]]
                broken[used] = self._broken(tried[used].reshape(-1, *x.shape[1:]), y[owner])
                walks.learn(some, tried, used, broken)
            walks.end(self.spec.trials)
            rows = rows[(walks.trial[rows] < self.spec.trials) & (walks.step[rows] < self.spec.steps)]
        return walks.point.reshape(x.shape)

    def _beyond(self, x: FloatArray, y: IntArray, start: FloatArray) -> FloatArray:
        """Farther out on the line from x to a start at the boundary, where that is adversarial; else the start."""
        away = np.clip(x + np.float32(_BEYOND) * (start - x), *self._bounds).astype(np.float32)
        return np.where(like(self._broken(away, y), x), away, start)


class _Walks:
    """Walks side by side, each at its own place.

    Attributes:
        point: Where they are, flat [n, d]; always adversarial.
        step: Steps done [n].
        trial: Failed trials of the present part of the step [n].
    """

    def __init__(self, x: FloatArray, start: FloatArray, samples: int) -> None:
        self._x, self.point = x.reshape(len(x), -1), start.reshape(len(x), -1).copy()
        self.step, self.trial = np.zeros(len(x), np.int64), np.zeros(len(x), np.int64)
        # Whether a walk has gone sideways and now goes ahead; the lengths of both parts; the places that the first part found.
        self._ahead = np.zeros(len(x), np.bool_)
        self._lengths = np.full((len(x), 2), _FIRST, np.float32)
        self._places = np.zeros((len(x), samples, self._x.shape[1]), np.float32)
        self._filled = np.zeros((len(x), samples), np.bool_)

    def tries(
        self, rows: IntArray, generators: list[np.random.Generator], bounds: tuple[float, float]
    ) -> tuple[FloatArray, BoolArray]:
        """What walks `rows` try next, [r, samples, d], and which of these places are used [r, samples]."""
        tried = np.empty((len(rows), *self._places.shape[1:]), np.float32)
        ahead = self._ahead[rows]
        to_image, sideways = rows[ahead], rows[~ahead]
        places = self._places[to_image]
        tried[ahead] = places + self._lengths[to_image, 1, np.newaxis, np.newaxis] * (self._x[to_image, np.newaxis] - places)
        if len(sideways):
            shape = tried.shape[1:]
            draws = np.stack([generators[row].standard_normal(shape, np.float32) for row in sideways])
            tried[~ahead] = self._turned(sideways, draws)
        return np.clip(tried, *bounds), self._filled[rows] | ~ahead[:, np.newaxis]

    def learn(self, rows: IntArray, tried: FloatArray, used: BoolArray, broken: BoolArray) -> None:
        """Takes in which of the tries are adversarial, and goes on to the other part of the step where there are some."""
        ahead, success = self._ahead[rows], broken.any(axis=1)
        share = broken.sum(axis=1) / used.sum(axis=1)
        factor = np.where(share < _FEW, _FACTOR, np.where(share > _MANY, 1 / _FACTOR, 1.0))
        self._lengths[rows, ahead.astype(np.int64)] *= factor.astype(np.float32)
        self.trial[rows] = np.where(success, 0, self.trial[rows] + 1)
        turned, closer = success & ~ahead, success & ahead
        self._places[rows[turned]], self._filled[rows[turned]] = tried[turned], broken[turned]
        self.point[rows[closer]] = self._nearest(rows[closer], tried[closer], broken[closer])
        self.step[rows[closer]] += 1
        self._ahead[rows[success]] = ~ahead[success]

    def end(self, trials: int) -> None:
        """Walks that cannot be brought nearer after so many trials stay at the nearest place that they had turned to."""
        rows = np.flatnonzero(self._ahead & (self.trial >= trials))
        if len(rows):
            self.point[rows] = self._nearest(rows, self._places[rows], self._filled[rows])
            self._ahead[rows] = False

    def _turned(self, rows: IntArray, draws: FloatArray) -> FloatArray:
        """Points on the spheres through the points, the first lengths away, in the directions `draws` [r, samples, d]."""
        away = (self.point[rows] - self._x[rows])[:, np.newaxis]
        far = np.linalg.norm(away, axis=-1, keepdims=True)
        length = self._lengths[rows, 0, np.newaxis, np.newaxis]
        axis = np.divide(away, far, out=np.zeros_like(away), where=far > 0)
        draws -= np.einsum("rsd,rtd->rst", draws, axis) * axis
        size = np.linalg.norm(draws, axis=-1, keepdims=True)
        draws *= length * np.divide(far, size, out=np.zeros_like(size), where=size > 0)
        # Back from the tangent to the sphere.
        return np.asarray(self._x[rows, np.newaxis] + (away + draws) / np.sqrt(1 + length**2), dtype=np.float32)

    def _nearest(self, rows: IntArray, places: FloatArray, among: BoolArray) -> FloatArray:
        far = np.linalg.norm(places - self._x[rows, np.newaxis], axis=-1)
        return np.asarray(places[np.arange(len(rows)), np.argmin(np.where(among, far, np.inf), axis=1)])
