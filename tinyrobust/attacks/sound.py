"""Attacks on sound that need scores only: Square in time, and shifts in time."""

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks import specs
from tinyrobust.attacks.base import BatchedAttack
from tinyrobust.attacks.scores import Lowest
from tinyrobust.attacks.square import RandomSearch, share_at
from tinyrobust.attacks.target import FloatArray, IntArray
from tinyrobust.data.speech.units import samples, shifted, unit
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.frontend import SAMPLE_RATE

_LOWEST_HZ, _HIGHEST_HZ = 60.0, 7000.0  # of the tones: what front ends of speech hear
_TINY = 1e-12
_DRAWS = 4  # random numbers of a move: two places, frequency, phase
_Draws = npt.NDArray[np.float64]


class SquareInTime(RandomSearch):
    """Square Attack (Andriushchenko et al. 2020) on waveforms: windows in time instead of squares, tones instead of colours.

    A square of one colour is the picture of a constant, which no front end of speech hears. Here a window gets a tone of random
    frequency (uniform in its logarithm, 60 Hz to 7 kHz) and phase. L-inf: a square wave of +-epsilon, so that every sample is
    at an edge of the ball, as in algorithm 2. L2 and SNR: a tone under a Hann window, which takes over the budget of another
    window and what is unused, as in algorithm 3. The start is such a tone in each of ten windows (the paper's stripes, grid).
    The schedule of the window's share is the paper's; a move that changes nothing in the score is kept, as in `Square`.

    Inputs are of shape [samples].

    Raises:
        RecipeError: As `BatchedAttack`.
    """

    def _search(self, x: FloatArray, y: IntArray, restart: int, start: FloatArray | None = None) -> Lowest:
        """One run."""
        generators = self._generators(x, restart)
        radius = self._radii(x, self.epsilon)[:, np.newaxis]
        move = self._to_edge if self.norm == "linf" else self._gathered
        start = self._start(x, radius, generators) if start is None else start
        best = Lowest.judged(self.estimator, start, y, targeted=self.targeted)
        for step in range(self.spec.iterations):
            rows = best.standing(self.drop)
            if not len(rows):
                break
            draws = np.stack([generators[row].random(_DRAWS) for row in rows])
            width = max(round(share_at(step, self.spec.iterations, self.spec.initial_share) * x.shape[1]), 16)
            tried = move(x[rows], best.example[rows], radius[rows], width, draws)
            best.improve(rows, Lowest.judged(self.estimator, tried, y[rows], targeted=self.targeted), ties=True)
        return best

    def _start(self, x: FloatArray, radius: FloatArray, generators: list[np.random.Generator]) -> FloatArray:
        length = -(-x.shape[1] // 10)
        tones = [
            np.concatenate([_tones(length, generator.random((1, 2)))[0] for _ in range(10)])[: x.shape[1]]
            for generator in generators
        ]
        return self._inside(x, np.stack(tones), radius)

    def _to_edge(self, x: FloatArray, best: FloatArray, radius: FloatArray, width: int, draws: _Draws) -> FloatArray:
        """L-inf's move: a square wave of +-radius in a window."""
        delta = (best - x).astype(np.float64)
        place = _places(draws[:, 0], width, x.shape[1])
        np.put_along_axis(delta, place, radius * np.where(_tones(width, draws[:, 2:4]) < 0, -1.0, 1.0), axis=1)
        return np.asarray(np.clip(x + delta, *self._bounds), dtype=np.float32)

    def _gathered(self, x: FloatArray, best: FloatArray, radius: FloatArray, width: int, draws: _Draws) -> FloatArray:
        """L2's move: a window takes over the budget of another one and what is unused."""
        delta = (best - x).astype(np.float64)
        taking, giving = (_places(draws[:, column], width, x.shape[1]) for column in (0, 1))
        here = np.take_along_axis(delta, taking, axis=1)
        np.put_along_axis(delta, giving, 0.0, axis=1)
        np.put_along_axis(delta, taking, 0.0, axis=1)
        kept = np.square(delta).sum(axis=1, keepdims=True)
        available = np.sqrt(np.maximum(np.square(radius.astype(np.float64)) - kept, 0))
        pattern = _tones(width, draws[:, 2:4]) * np.hanning(width)
        wished = pattern / _lengths(pattern) + here / _lengths(here)
        np.put_along_axis(delta, taking, wished / _lengths(wished) * available, axis=1)
        return self._inside(x, delta, radius)

    def _inside(self, x: FloatArray, delta: _Draws, radius: FloatArray) -> FloatArray:
        """The whole budget in the shape of `delta`."""
        edge = np.where(delta < 0, -radius, radius) if self.norm == "linf" else delta * (radius / _lengths(delta))
        return np.asarray(np.clip(x + edge, *self._bounds), dtype=np.float32)


class Shift(BatchedAttack[specs.Shift]):
    """The clip earlier or later by whole milliseconds, the nearest that breaks it: what happens by chance, without an attacker.

    Inputs are of shape [samples] at 16 kHz, 0.5 is silence; epsilon is the largest shift, in ms.

    Raises:
        RecipeError: A step is longer than epsilon, or as `BatchedAttack`.
    """

    def _check_params(self) -> None:
        super()._check_params()
        if self.spec.step > self.epsilon:
            raise RecipeError(f"Expected a step of at most epsilon. Received: {self.spec.step} and {self.epsilon} ms")

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        best, audio = Lowest.none(x), samples(x)
        for ms in range(self.spec.step, int(self.epsilon) + 1, self.spec.step):
            for by in (ms, -ms):
                rows = best.standing(self.drop)
                if not len(rows):
                    return best.example
                tried = unit(shifted(audio[rows], by * SAMPLE_RATE // 1000))
                best.improve(rows, Lowest.judged(self.estimator, tried, y[rows], targeted=self.targeted))
        return best.example


def _tones(width: int, draws: _Draws) -> _Draws:
    """Sines [n, width] whose frequencies and phases two uniform draws [n, 2] decide."""
    frequency = _LOWEST_HZ * (_HIGHEST_HZ / _LOWEST_HZ) ** draws[:, :1]
    return np.asarray(np.sin(2 * np.pi * (frequency * np.arange(width) / SAMPLE_RATE + draws[:, 1:2])))


def _places(draw: _Draws, width: int, length: int) -> npt.NDArray[np.int64]:
    """The samples [n, width] of a window at a random place of each clip."""
    first = np.floor(draw * (length - width + 1)).astype(np.int64)
    return first[:, np.newaxis] + np.arange(width)


def _lengths(rows: _Draws) -> _Draws:
    return np.asarray(np.sqrt(np.square(rows).sum(axis=1, keepdims=True)) + _TINY)
