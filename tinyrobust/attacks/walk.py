"""The loop that gradient attacks share: runs (restarts, target classes), steps in one graph, samples that leave when broken."""

import abc
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import tensorflow as tf

from tinyrobust.attacks.base import SpecT, WhiteBoxAttack
from tinyrobust.attacks.graph import named
from tinyrobust.attacks.losses import Function
from tinyrobust.attacks.norms import like
from tinyrobust.attacks.target import Differentiable, FloatArray, IntArray

# Steps between two looks at who is broken: fewer looks cost little, more make broken samples wait.
_PIECE = 10


class Best(NamedTuple):
    """The best example of every sample so far, as tensors in graphs and as arrays between them.

    Attributes:
        example: [n, ...].
        score: [n], larger is better: the loss, or minus the distance.
        broken: [n], whether the example does what the attack is for. One that does goes before one that does not.
    """

    example: tf.Tensor
    score: tf.Tensor
    broken: tf.Tensor

    def or_else(self, example: tf.Tensor, score: tf.Tensor, broken: tf.Tensor) -> "Best":
        """Per sample the better one of what is known and what is new."""
        better = (broken & ~self.broken) | ((broken == self.broken) & (score > self.score))
        return Best(
            tf.where(like(better, example), example, self.example),
            tf.where(better, score, self.score),
            self.broken | broken,
        )


class Walking(Protocol):
    """Where a walk is: nested tensors whose first axis is that of the samples."""

    @property
    def best(self) -> Best:
        """The best examples so far."""


_State = TypeVar("_State")
_Walking = TypeVar("_Walking", bound=Walking)


class Slope(NamedTuple):
    """A loss at some points: logits [n, classes], values [n], gradients [n, ...]."""

    logits: tf.Tensor
    value: tf.Tensor
    gradient: tf.Tensor


def slope(target: Differentiable, loss: Function, x: tf.Tensor, label: tf.Tensor, goal: tf.Tensor) -> Slope:
    """The loss and its gradient; entries of the gradient that are not finite count as zero, a loss that is none as -inf."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        logits = target.logits(x)
        value = loss(logits, label, goal)
    gradient = tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return Slope(logits, ranked(value), tf.where(tf.math.is_finite(gradient), gradient, 0.0))


def ranked(value: tf.Tensor) -> tf.Tensor:
    """Losses [n] that can be compared: what is not a number is lower than everything, or no later point would replace it."""
    return tf.where(tf.math.is_nan(value), -np.float32(np.inf), value)


def repeat(body: Callable[[tf.Tensor, _State], _State], state: _State, first: tf.Tensor, last: tf.Tensor) -> _State:
    """`body(step, state)` for every step from `first` to `last - 1`, as a loop in the graph."""
    start = (tf.convert_to_tensor(first), state)
    end: _State = tf.while_loop(lambda step, _: step < last, lambda step, now: (step + 1, body(step, now)), start)[1]
    return end


class GradientAttack(WhiteBoxAttack[SpecT]):
    """An attack that walks along gradients, once or several times; the best of all walks counts.

    Subclasses write `_runs` and `_walk`. Arguments are those of `BatchedAttack`.

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: The attack cannot be run on this target, or not with these arguments.
    """

    @abc.abstractmethod
    def _runs(self, x: FloatArray, y: IntArray) -> Sequence[tuple[int, IntArray]]:
        """The runs: a number for the random draws of each, and the class [b] that it goes for (where that matters)."""

    @abc.abstractmethod
    def _walk(self, x: FloatArray, y: IntArray, goal: IntArray, run: int, best: Best) -> Best:
        """One run on samples [n, ...], given the best (arrays) of the runs before; arrays."""

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        best = Best(x.copy(), np.full(len(x), -np.inf, np.float32), np.zeros(len(x), np.bool_))
        try:
            for run, goal in self._runs(x, y):
                rows = np.flatnonzero(~best.broken) if self.drop else np.arange(len(x))
                if not len(rows):
                    break
                known = Best(*(array[rows] for array in best))
                self._target.redraw(self._restart(run))
                walked = self._walk(x[rows], y[rows], goal[rows], run, known)
                for kept, new in zip(best, known.or_else(*walked), strict=True):
                    kept[rows] = np.asarray(new)
        finally:
            self._target.redraw(0)
        return np.asarray(best.example)

    def _restart(self, run: int) -> int:
        """Which restart a run is, of those with the same goal."""
        return run

    def _wrong_classes(self, x: FloatArray, y: IntArray, count: int) -> IntArray:
        """The classes [count, b] other than `y` with the highest logits, the highest first; no more than there are."""
        logits = self.estimator.predict(x).copy()
        logits[np.arange(len(x)), y] = -np.inf
        order = np.argsort(-logits, axis=1, kind="stable")
        return np.ascontiguousarray(order[:, : min(count, logits.shape[1] - 1)].T, dtype=np.int64)

    def _is_broken(self, logits: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        reached = named(logits) == label
        return reached if self.targeted else ~reached

    def _steps(self, advance: Callable[[_Walking, tf.Tensor, tf.Tensor], _Walking], state: _Walking, steps: int) -> _Walking:
        """Takes `steps` steps by `advance(state, first, last)`; with `drop`, broken samples leave between pieces.

        Args:
            advance: From a state (nested tensors, first axis samples, `state.best` a `Best`) to the state after steps first to
                last - 1, each of them one gradient.
            state: The first one.
            steps: How many.

        Returns:
            The state [n] in which every sample stopped.
        """
        if not self.drop:
            self._target.count(steps * len(state.best.score), steps * len(state.best.score))
            return advance(state, tf.constant(0), tf.constant(steps))
        index = np.arange(len(state.best.score))
        pieces = []
        for first in range(0, steps, _PIECE):
            last = min(first + _PIECE, steps)
            self._target.count((last - first) * len(index), (last - first) * len(index))
            state = advance(state, tf.constant(first), tf.constant(last))
            leaves = np.ones(len(index), np.bool_) if last == steps else state.best.broken.numpy()
            pieces.append((index[leaves], _rows(state, np.flatnonzero(leaves))))
            state, index = _rows(state, np.flatnonzero(~leaves)), index[~leaves]
            if not len(index):
                break
        order = np.argsort(np.concatenate([place for place, _ in pieces]))
        end: _Walking = tf.nest.map_structure(
            lambda *parts: tf.gather(tf.concat(parts, 0), order), *(rows for _, rows in pieces)
        )
        return end


def _rows(state: _State, index: IntArray) -> _State:
    chosen: _State = tf.nest.map_structure(lambda tensor: tf.gather(tensor, index), state)
    return chosen
