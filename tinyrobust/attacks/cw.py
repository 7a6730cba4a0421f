"""Carlini and Wagner (2017, arXiv 1608.04644) in L2, L-inf and L0: the nearest adversarial example by optimisation."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tinyrobust.attacks import losses, specs
from tinyrobust.attacks.base import WhiteBoxAttack
from tinyrobust.attacks.bisection import bisect
from tinyrobust.attacks.graph import compiled, named
from tinyrobust.attacks.norms import CHANGED, length, like
from tinyrobust.attacks.scores import Lowest
from tinyrobust.attacks.searches import SEARCHES
from tinyrobust.attacks.target import BoolArray, FloatArray, IntArray
from tinyrobust.attacks.walk import repeat, slope

_BETA1, _BETA2 = 0.9, 0.999  # Adam's
_TINY = 1e-12


class _Task(NamedTuple):
    """What a descent is given for every sample: image, class, box, weight of the margin, Adam's first step, unit of slopes."""

    x: tf.Tensor
    label: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor
    weight: tf.Tensor
    rate: tf.Tensor
    unit: tf.Tensor


class _Path(NamedTuple):
    """Where a descent is, Adam's averages, and the nearest adversarial example on the way (`far`: its norm, or inf)."""

    point: tf.Tensor
    mean: tf.Tensor
    square: tf.Tensor
    nearest: tf.Tensor
    far: tf.Tensor


class CarliniWagner(WhiteBoxAttack[specs.CarliniWagner]):
    """Minimises `|d|^2 + c max(margin + confidence, 0)` (L2), or the margin alone within a shrinking budget (L-inf, L0).

    The margin is the paper's f6, on logits. Adam, with a step that falls to zero, keeps the nearest adversarial example that it
    passes. Between `searches` descents a number is halved in on for every sample: L2 the constant c (section VI.A), L-inf the
    largest change tau (VI.C), L0 how many values may change (VI.B): those that did most for the margin in the last success.
    Different from the paper:

    - The box is kept by projection (the first way of its section V.B): `tanh` stands still where pixels are black or white.
    - c, tau and the step start from what a linear network with the same gradient would need: the scale of the logits does not
      matter.
    - tau and the set of values bound the descent instead of being paid for: no second constant is searched.
    - Last, what is too much is taken back: by bisection between image and example (L2, L-inf), value by value (L0).

    It looks for the nearest example at any distance; `epsilon` plays no part.

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: As `BatchedAttack`.
    """

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        key = ("carlini-wagner", self.norm, self.targeted)
        descend = compiled(self._target, key, self._descend)
        gap, gradient, unit = self._in_units(*self._slope(x, y))
        search = SEARCHES[self.norm](x, self._bounds, gap, gradient)
        nearest, far = x.copy(), np.full(len(x), np.inf, np.float32)
        steps, confidence = tf.constant(self.spec.steps), tf.constant(self.spec.confidence, tf.float32)
        for _ in range(self.spec.searches):
            low, high = search.box()
            numbers = (search.weight.astype(np.float32), np.float32(self.spec.learning_rate) * search.change.astype(np.float32))
            task = _Task(*(tf.constant(value) for value in (x, y, low, high, *numbers, unit)))
            self._target.count((self.spec.steps + 1) * len(x), self.spec.steps * len(x))
            path = descend(task, tf.constant(np.clip(search.start(nearest), low, high)), steps, confidence)
            examples, reached = path.nearest.numpy(), path.far.numpy()
            closer = reached < far
            nearest[closer], far[closer] = examples[closer], reached[closer]
            search.learn(np.isfinite(reached), nearest, far, lambda: self._slope(nearest, y)[1])
        self._take_back(x, y, nearest, np.flatnonzero(np.isfinite(far)))
        return nearest

    def _in_units(self, rise: FloatArray, gradient: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What the margin has to rise by [n] and its slopes [n, ...], both in units of the largest slope [n], and these.

        Squares of slopes, which Adam averages, then fit into single precision whatever the scale of the logits. A margin that
        is not finite says nothing about the way: as if there were no slope.
        """
        axes = tuple(range(1, gradient.ndim))
        unit = np.abs(gradient).max(axis=axes, keepdims=True)
        unit[unit == 0] = 1
        known = np.isfinite(rise)
        gap = np.where(known, self.spec.confidence - rise, 0) / unit.ravel()
        slope = np.where(known.reshape(unit.shape), gradient / unit, 0)
        return gap.astype(np.float32), slope.astype(np.float32), unit.ravel()

    def _descend(self, task: _Task, start: tf.Tensor, steps: tf.Tensor, confidence: tf.Tensor) -> _Path:
        """One descent."""
        none = tf.fill(tf.shape(task.label), float("inf"))
        path = _Path(start, tf.zeros_like(start), tf.zeros_like(start), task.x, none)

        def body(step: tf.Tensor, now: _Path) -> _Path:
            here = slope(self._target, self._margin, now.point, task.label, task.label)
            now = self._kept(now, task, here.logits, here.value, confidence)
            pull = like(tf.where(here.value < confidence, task.weight, 0.0), start)
            downhill = -pull * (here.gradient / like(task.unit, start))
            if self.norm == "l2":
                downhill += 2 * (now.point - task.x)
            return self._moved(now, task, downhill, tf.cast(step, tf.float32), tf.cast(steps, tf.float32))

        path = repeat(body, path, tf.constant(0), steps)
        logits = self._target.logits(path.point)
        return self._kept(path, task, logits, self._margin(logits, task.label, task.label), confidence)

    def _moved(self, path: _Path, task: _Task, gradient: tf.Tensor, step: tf.Tensor, steps: tf.Tensor) -> _Path:
        """A step of Adam; its length falls to zero along half a cosine."""
        mean = _BETA1 * path.mean + (1 - _BETA1) * gradient
        square = _BETA2 * path.square + (1 - _BETA2) * gradient**2
        corrected = tf.sqrt(square / (1 - _BETA2 ** (step + 1))) + _TINY
        rate = like(task.rate, gradient) * 0.5 * (1 + tf.cos(math.pi * step / steps))
        moved = path.point - rate * mean / (1 - _BETA1 ** (step + 1)) / corrected
        return path._replace(point=tf.clip_by_value(moved, task.low, task.high), mean=mean, square=square)

    def _kept(self, path: _Path, task: _Task, logits: tf.Tensor, value: tf.Tensor, confidence: tf.Tensor) -> _Path:
        """Takes over the point where it is adversarial and nearer."""
        reached = named(logits) == task.label
        broken = (reached if self.targeted else ~reached) & (value >= confidence)
        far = tf.where(broken, tf.reshape(length(path.point - task.x, self.norm), [-1]), float("inf"))
        closer = far < path.far
        return path._replace(
            nearest=tf.where(like(closer, path.point), path.point, path.nearest), far=tf.minimum(far, path.far)
        )

    @property
    def _margin(self) -> losses.Function:
        return losses.function("margin", self.estimator.nb_classes, targeted=self.targeted)

    def _slope(self, x: FloatArray, y: IntArray) -> tuple[FloatArray, FloatArray]:
        """The margin [n] and its gradient [n, ...]: it rises from negative to positive where the sample breaks."""

        def at(point: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            here = slope(self._target, self._margin, point, label, label)
            return here.value, here.gradient

        self._target.count(len(x), len(x))
        there = compiled(self._target, ("margin slope", self.targeted), at)(tf.constant(x), tf.constant(y))
        return there[0].numpy(), there[1].numpy()

    def _broken(self, x: FloatArray, y: IntArray) -> BoolArray:
        judged = Lowest.judged(self.estimator, x, y, targeted=self.targeted)
        return judged.broken & (-judged.margin >= self.spec.confidence)

    def _take_back(self, x: FloatArray, y: IntArray, nearest: FloatArray, rows: IntArray) -> None:
        """Undoes in `nearest` what is not needed, in the samples `rows` that have an example."""
        if not len(rows):
            return
        if self.norm != "l0":
            nearest[rows] = bisect(x[rows], nearest[rows], lambda tried: self._broken(tried, y[rows]))
            return
        original, example = x.reshape(len(x), -1), nearest.reshape(len(x), -1)
        difference = np.abs(example - original)
        effect = np.where(difference > CHANGED, difference * np.abs(self._slope(nearest, y)[1].reshape(len(x), -1)), np.inf)
        order = np.argsort(effect, axis=1, kind="stable")
        counts = (difference > CHANGED).sum(axis=1)
        for place in range(min(self.spec.steps, int(counts[rows].max()))):
            rows = rows[counts[rows] > place]
            value = order[rows, place]
            before = example[rows, value]
            example[rows, value] = original[rows, value]
            needed = ~self._broken(nearest[rows], y[rows])
            example[rows[needed], value[needed]] = before[needed]
