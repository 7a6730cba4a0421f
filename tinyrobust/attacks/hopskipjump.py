"""HopSkipJump (Chen et al. 2020, arXiv 1904.02144): the boundary's normal from decisions, then a step along it."""

import math

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks import specs
from tinyrobust.attacks.black_box import BlackBoxAttack, blocks, like
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.target import FloatArray, IntArray

_Numbers = npt.NDArray[np.floating]

# The bisection's precision as a share of the distance, times sqrt(d) in L2 and d in L-inf (the authors' code).
_PRECISION = 0.01
_FIRST_REACH = 0.1  # how far the first decisions look, as a share of the span of the inputs
_HALVINGS = 24  # of a step; half of float32's digits are left then, and the step is not taken


class HopSkipJump(BlackBoxAttack[specs.HopSkipJump]):
    """Three parts a step: bisection to the boundary, its normal from random decisions, a step along it (algorithm 2).

    Each part asks about all samples at once. Different from the paper, the nearest of all points on the boundary is the answer
    and not the last one.

    Raises:
        RecipeError: As `BatchedAttack`.
    """

    def _search(self, x: FloatArray, y: IntArray, generators: list[np.random.Generator]) -> FloatArray:
        examples, known = self._starts(x, y, generators, self.spec.draws)
        rows = np.flatnonzero(known)
        if len(rows):
            examples[rows] = self._jumps(x[rows], y[rows], examples[rows], [generators[row] for row in rows])
        return examples

    def _jumps(self, x: FloatArray, y: IntArray, point: FloatArray, generators: list[np.random.Generator]) -> FloatArray:
        size = x[0].size
        nearest, least = point, distance(point - x, self.norm)
        reach = np.full(len(x), _FIRST_REACH * (self._bounds[1] - self._bounds[0]))
        for step in range(self.spec.steps):
            if step:
                # By the distance before the bisection, as in the authors' code.
                dimensions = math.sqrt(size) if self.norm == "l2" else size
                reach = dimensions * self._precision(size) * distance(point - x, self.norm)
            point = self._to_boundary(x, point, y)
            far = distance(point - x, self.norm)
            nearest, least = np.where(like(far < least, x), point, nearest), np.minimum(far, least)
            count = min(int(self.spec.first_queries * math.sqrt(step + 1)), self.spec.queries)
            way = self._normals(point, y, reach, count, generators)
            point = self._stepped(point, y, way, far / math.sqrt(step + 1))
        point = self._to_boundary(x, point, y)
        return np.where(like(distance(point - x, self.norm) < least, x), point, nearest)

    def _precision(self, size: int) -> float:
        return _PRECISION / (math.sqrt(size) if self.norm == "l2" else size)

    def _to_boundary(self, x: FloatArray, point: FloatArray, y: IntArray) -> FloatArray:
        """Adversarial points nearer to the image, by bisection: on the line (L2), or of the largest change (L-inf)."""
        low, high = np.zeros(len(x)), np.ones(len(x))
        span, kept = distance(point - x, "linf"), point
        for _ in range(math.ceil(math.log2(1 / self._precision(x[0].size)))):
            middle = (low + high) / 2
            share = like((middle if self.norm == "l2" else middle * span).astype(np.float32), x)
            tried = x + share * (point - x) if self.norm == "l2" else np.clip(point, x - share, x + share)
            broken = self._broken(tried, y)
            kept = np.where(like(broken, x), tried, kept)
            low, high = np.where(broken, low, middle), np.where(broken, middle, high)
        return kept

    def _normals(
        self, point: FloatArray, y: IntArray, reach: _Numbers, count: int, generators: list[np.random.Generator]
    ) -> FloatArray:
        """Directions [n, ...] into the adversarial side: of L2 norm 1, or the signs (L-inf). Equations 9 and 16."""
        ways = np.empty_like(point)
        for rows in blocks(np.arange(len(point)), count):
            ways[rows] = self._normal(point[rows], y[rows], reach[rows], count, [generators[row] for row in rows])
        return ways

    def _normal(
        self, point: FloatArray, y: IntArray, reach: _Numbers, count: int, generators: list[np.random.Generator]
    ) -> FloatArray:
        shape, flat = (count, *point.shape[1:]), (len(point), count, -1)
        if self.norm == "l2":
            draws = np.stack([generator.standard_normal(shape, np.float32) for generator in generators])
        else:
            draws = np.stack([2 * generator.random(shape, np.float32) - 1 for generator in generators])
        length = np.linalg.norm(draws.reshape(flat), axis=-1).reshape(*draws.shape[:2], *[1] * (point.ndim - 1))
        far = np.maximum(reach, np.finfo(np.float32).tiny).astype(np.float32).reshape(-1, *[1] * point.ndim)
        tried = np.clip(point[:, np.newaxis] + far * draws / length, *self._bounds)
        vote = np.where(self._any_broken(tried, y), np.float32(1), np.float32(-1))
        mean = vote.mean(axis=1, keepdims=True)
        # All of one opinion: the mean of the directions, or away from it; else what differs from the mean counts.
        weight = np.where(np.abs(mean) == 1, vote, vote - mean)
        moved = ((tried - point[:, np.newaxis]) / far).reshape(flat)
        way = np.einsum("nk,nkd->nd", weight, moved).reshape(point.shape)
        if self.norm == "linf":
            return np.asarray(np.sign(way), dtype=np.float32)
        norm = like(np.linalg.norm(way.reshape(len(way), -1), axis=-1), way)
        return np.asarray(np.divide(way, norm, out=np.zeros_like(way), where=norm > 0), dtype=np.float32)

    def _stepped(self, point: FloatArray, y: IntArray, way: FloatArray, length: _Numbers) -> FloatArray:
        """Points [n, ...] along `way`, as far as `length` [n] or the first half, quarter, ... of it that is adversarial."""
        moved, rows = point.copy(), np.arange(len(point))
        for halving in range(_HALVINGS):
            step = like((length[rows] / 2**halving).astype(np.float32), point) * way[rows]
            tried = np.asarray(np.clip(point[rows] + step, *self._bounds), dtype=np.float32)
            broken = self._broken(tried, y[rows])
            moved[rows[broken]] = tried[broken]
            rows = rows[~broken]
            if not len(rows):
                break
        return moved
