"""Square Attack (Andriushchenko et al. 2020, arXiv 1912.00049): random search that needs scores only."""

import abc
import math

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks import specs
from tinyrobust.attacks.base import BatchedAttack
from tinyrobust.attacks.scores import Lowest
from tinyrobust.attacks.target import BoolArray, FloatArray, IntArray
from tinyrobust.errors import RecipeError

# Steps for which random numbers are drawn at once.
_BLOCK = 100
# The share of the pixels in a square is halved after these steps of 10,000 (the paper's section 3.2; scaled to other lengths).
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_TINY = 1e-12
_Draws = npt.NDArray[np.float64]


class RandomSearch(BatchedAttack[specs.Square]):
    """Runs of a random search on the scores; later ones for samples that still stand. Subclasses write `_search`."""

    @abc.abstractmethod
    def _search(self, x: FloatArray, y: IntArray, restart: int, start: FloatArray | None = None) -> Lowest:
        """One run on samples [n, ...] with classes [n], from points [n, ...] of their balls; absent: from the attack's own."""

    def continued(self, x: FloatArray, y: IntArray, start: FloatArray) -> FloatArray:
        """One run from given points of the balls around `x` [n, ...]: the best point of each, the first one included.

        Args:
            x: The inputs, float32 within the target's `clip_values`.
            y: Their classes [n].
            start: Where the runs begin, [n, ...].
        """
        return self._search(x, y, 0, start.copy()).example

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        best = Lowest.none(x)
        for restart in range(self.spec.restarts):
            rows = best.standing(self.drop)
            if not len(rows):
                break
            best.improve(rows, self._search(x[rows], y[rows], restart))
        return best.example


class Square(RandomSearch):
    """Random squares, kept when the margin of the scores does not rise. Batched: one query a step for all samples.

    L-inf: colours of +-epsilon in a square (algorithm 2), from vertical stripes. L2: the budget of two squares is moved into
    one, in the shape of two pyramids of opposite sign (algorithm 3), from a grid of such. Different from the paper, a square
    that changes nothing in the score is kept too: the scores of int8 files have plateaus, and this walks across them.

    Raises:
        RecipeError: The inputs are not of shape [h, w, c], the norm is that of sound, or as `BatchedAttack`.
    """

    def _check_params(self) -> None:
        super()._check_params()
        if len(self.estimator.input_shape) != 3 or self.norm == "snr":
            received = f"inputs {self.estimator.input_shape}, norm={self.norm!r}"
            raise RecipeError(f"Expected inputs [h, w, c] and the norm linf or l2, or inputs [samples]. Received: {received}")

    def _search(self, x: FloatArray, y: IntArray, restart: int, start: FloatArray | None = None) -> Lowest:
        """One run."""
        generators = self._generators(x, restart)
        moves = _Moves(x.shape[1:], self.epsilon, self._bounds)
        first, move, count = (moves.stripes, moves.recolour, 2) if self.norm == "linf" else (moves.grid, moves.gather, 5)
        start = first(x, generators) if start is None else start
        best = Lowest.judged(self.estimator, start, y, targeted=self.targeted)
        draws = np.empty((len(x), _BLOCK, count + moves.channels))
        for step in range(self.spec.iterations):
            rows = best.standing(self.drop)
            if not len(rows):
                break
            if step % _BLOCK == 0:
                for row in rows:
                    draws[row] = generators[row].random(draws.shape[1:])
            share = share_at(step, self.spec.iterations, self.spec.initial_share)
            tried = move(x[rows], best.example[rows], share, draws[rows, step % _BLOCK])
            best.improve(rows, Lowest.judged(self.estimator, tried, y[rows], targeted=self.targeted), ties=True)
        return best


class _Moves:
    """The moves on images of one shape, in a ball of one radius. Random numbers come as uniform draws in [0, 1)."""

    def __init__(self, shape: tuple[int, ...], epsilon: float, bounds: tuple[float, float]) -> None:
        self.height, self.width, self.channels = shape
        self._epsilon = np.float32(epsilon)
        self._low, self._high = bounds

    def stripes(self, x: FloatArray, generators: list[np.random.Generator]) -> FloatArray:
        """L-inf's start: a colour for every column."""
        draws = np.stack([generator.random((1, self.width, self.channels)) for generator in generators])
        return self._in_linf(x, x + self._epsilon * _signs(draws))

    def recolour(self, x: FloatArray, best: FloatArray, share: float, draws: _Draws) -> FloatArray:
        """L-inf's move: every channel of a square goes to one edge of the ball. Draws [n, 2 + channels].

        A square in the colour that is there already would ask nothing new, on gray images a fifth of them and more: it gets
        the opposite one. (The authors' code draws until something changes.)
        """
        side = self._side(share, 1)
        inside = self._square(draws[:, 0], draws[:, 1], side)
        colour = self._epsilon * _signs(draws[:, np.newaxis, np.newaxis, 2:])
        tried = self._in_linf(x, np.where(inside, x + colour, best))
        same = (tried == best).all(axis=(1, 2, 3))
        if same.any():
            tried[same] = self._in_linf(x[same], np.where(inside[same], x[same] - colour[same], best[same]))
        return tried

    def grid(self, x: FloatArray, generators: list[np.random.Generator]) -> FloatArray:
        """L2's start: a five by five grid of pyramids."""
        side = max(1, min(self.height, self.width) // 5)
        down, across = self.height // side, self.width // side
        draws = np.stack([generator.random((down, across, 1 + self.channels)) for generator in generators])
        pattern = _pyramids(side)
        tiles = np.where(draws[..., :1] < 0.5, 1.0, 0.0)[:, :, :, np.newaxis, np.newaxis]
        turned = tiles * pattern[..., np.newaxis] + (1 - tiles) * pattern.T[..., np.newaxis]  # [n, down, across, side, side, 1]
        signed = turned * _signs(draws[:, :, :, np.newaxis, np.newaxis, 1:])
        delta = np.zeros((len(x), self.height, self.width, self.channels))
        top, left = (self.height - down * side) // 2, (self.width - across * side) // 2
        delta[:, top : top + down * side, left : left + across * side] = signed.transpose(0, 1, 3, 2, 4, 5).reshape(
            len(x), down * side, across * side, self.channels
        )
        return self._on_l2(x, delta)

    def gather(self, x: FloatArray, best: FloatArray, share: float, draws: _Draws) -> FloatArray:
        """L2's move: a square takes over the budget of another one and what is unused. Draws [n, 5 + channels]."""
        side = self._side(share, 3)
        side = min(side + 1 - side % 2, self.height, self.width)
        delta = (best - x).astype(np.float64)
        taking, giving = (self._square(draws[:, place], draws[:, place + 1], side) for place in (0, 2))
        pattern = self._placed(_pyramids(side), draws) * _signs(draws[:, np.newaxis, np.newaxis, 5:])
        unused = np.maximum(self._epsilon**2 - np.square(delta).sum(axis=(1, 2, 3), keepdims=True), 0)
        available = np.sqrt(_channel_norm(delta * (taking | giving)) ** 2 + unused / self.channels)
        here = delta * taking
        wished = pattern + here / (_channel_norm(here) + _TINY)
        filled = wished / (_channel_norm(wished) + _TINY) * available
        return self._on_l2(x, np.where(taking, filled, np.where(giving, 0.0, delta)))

    def _side(self, share: float, least: int) -> int:
        side = max(round(math.sqrt(share * self.height * self.width)), least)
        return min(side, self.height, self.width)

    def _corner(self, row: _Draws, column: _Draws, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        top = np.floor(row * (self.height - side + 1)).astype(np.int64)
        left = np.floor(column * (self.width - side + 1)).astype(np.int64)
        return np.arange(self.height) - top[:, np.newaxis], np.arange(self.width) - left[:, np.newaxis]

    def _square(self, row: _Draws, column: _Draws, side: int) -> BoolArray:
        """Which pixels are in a square at random places: [n, h, w, 1]."""
        down, across = self._corner(row, column, side)
        rows, columns = (down >= 0) & (down < side), (across >= 0) & (across < side)
        return (rows[:, :, np.newaxis] & columns[:, np.newaxis, :])[..., np.newaxis]

    def _placed(self, pattern: _Draws, draws: _Draws) -> _Draws:
        """`pattern` in the first square of each sample, half of them turned, 0 elsewhere: [n, h, w, 1]."""
        side = len(pattern)
        down, across = (np.clip(place, 0, side - 1) for place in self._corner(draws[:, 0], draws[:, 1], side))
        upright = pattern[down[:, :, np.newaxis], across[:, np.newaxis, :]]
        turned = pattern.T[down[:, :, np.newaxis], across[:, np.newaxis, :]]
        chosen = np.where(draws[:, 4, np.newaxis, np.newaxis] < 0.5, upright, turned)
        return chosen[..., np.newaxis] * self._square(draws[:, 0], draws[:, 1], side)

    def _in_linf(self, x: FloatArray, moved: FloatArray) -> FloatArray:
        inside = np.clip(moved, x - self._epsilon, x + self._epsilon)
        return np.asarray(np.clip(inside, self._low, self._high), dtype=np.float32)

    def _on_l2(self, x: FloatArray, delta: _Draws) -> FloatArray:
        length = np.sqrt(np.square(delta).sum(axis=(1, 2, 3), keepdims=True))
        return np.asarray(np.clip(x + delta * (self._epsilon / (length + _TINY)), self._low, self._high), dtype=np.float32)


def share_at(step: int, iterations: int, initial: float) -> float:
    """The paper's schedule: the share of the input that step `step` of `iterations` changes, `initial` in the first."""
    place = step * 10_000 // iterations
    return initial / 2.0 ** sum(place > halving for halving in _HALVINGS)


def _signs(draws: _Draws) -> FloatArray:
    return np.where(draws < 0.5, np.float32(-1), np.float32(1))


def _channel_norm(delta: _Draws) -> _Draws:
    return np.asarray(np.sqrt(np.square(delta).sum(axis=(1, 2), keepdims=True)))


def _pyramids(side: int) -> _Draws:
    """Two pyramids of opposite sign side by side in a square, of L2 norm 1 (the paper's eq. 2 and figure 3)."""
    upper = side // 2
    pattern = np.concatenate([_pyramid(upper, side), -_pyramid(side - upper, side)])
    return np.asarray(pattern / np.linalg.norm(pattern))


def _pyramid(height: int, width: int) -> _Draws:
    """Nested squares around the centre, cut at the edges; number k adds 1 / k^2."""
    rows, columns = np.arange(height) - height // 2, np.arange(width) - width // 2
    ring = np.maximum(np.abs(rows)[:, np.newaxis], np.abs(columns)[np.newaxis, :])
    outermost = max(height // 2, width // 2) + 1
    weights = 1 / np.arange(1, outermost + 1) ** 2.0
    return np.asarray(np.cumsum(weights[::-1])[::-1][np.minimum(ring, outermost - 1)])
