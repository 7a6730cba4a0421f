"""Projected gradient descent, and its one-step forms: FGSM (L-inf) and FGM (L2, L1)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tinyrobust.attacks import losses, specs
from tinyrobust.attacks.graph import compiled
from tinyrobust.attacks.hyperplanes import farthest_in_l1
from tinyrobust.attacks.norms import like, project, random_points, steepest
from tinyrobust.attacks.target import FloatArray, IntArray
from tinyrobust.attacks.walk import Best, GradientAttack, ranked, repeat, slope

_SHARE = 0.01


class _State(NamedTuple):
    centre: tf.Tensor
    label: tf.Tensor
    radius: tf.Tensor  # [n], as is the length of a step
    length: tf.Tensor
    x: tf.Tensor
    best: Best


class ProjectedGradient(GradientAttack[specs.Pgd | specs.Fgsm]):
    """PGD (Madry et al. 2018, eq. 3): steps of fixed length along the steepest ascent of a loss, projected into ball and box.

    The example is the best point of the whole walk, not its last one: that costs nothing and is never weaker.

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: The target has a single class, or as `BatchedAttack`.
    """

    def _check_params(self) -> None:
        super()._check_params()
        losses.function(self.spec.loss, self.estimator.nb_classes)

    def _runs(self, x: FloatArray, y: IntArray) -> Sequence[tuple[int, IntArray]]:  # noqa: ARG002
        return [(run, y) for run in range(max(1, self.spec.random_starts))]

    def _walk(self, x: FloatArray, y: IntArray, goal: IntArray, run: int, best: Best) -> Best:  # noqa: ARG002
        offset = self._offset(x, run) if self.spec.random_starts else np.zeros_like(x)
        return self._from(x, y, np.clip(x + offset, *self._bounds))

    def continued(self, x: FloatArray, y: IntArray, start: FloatArray, *, noise: float = 0.0, run: int = 0) -> FloatArray:
        """One walk from given points of the balls around `x` [n, ...]: the best point of each, the first one included.

        Args:
            x: The inputs, float32 within the target's `clip_values`.
            y: Their classes [n].
            start: Where the walks begin, [n, ...].
            noise: As a share of the radius, how far from there they really begin, at random.
            run: Of several from one start: each draws another point.
        """
        if noise:
            start = start + noise * self._offset(x, run)
            ball, radius = self._ball, tf.constant(self._radii(x, self.epsilon))
            start = project(tf.constant(start), tf.constant(x), radius, ball, self._bounds).numpy()
        return np.asarray(self._from(x, y, start).example)

    def _offset(self, x: FloatArray, run: int) -> FloatArray:
        """Random points [n, ...] of balls around 0."""
        radius = self._radii(x, self.epsilon).reshape(-1, *[1] * (x.ndim - 1))
        return np.asarray(radius * random_points(x.shape[1:], self._ball, self._generators(x, run)), dtype=np.float32)

    def _from(self, x: FloatArray, y: IntArray, start: FloatArray) -> Best:
        """The best points of walks from `start`."""
        key = (type(self).__name__, self.norm, self.spec.loss, self.targeted)
        advance = compiled(self._target, key, self._advance)
        judge = compiled(self._target, ("judge", *key), self._judge)
        radius, length = (self._radii(x, far) for far in (self.epsilon, self.spec.step_share * self.epsilon))
        empty = Best(tf.constant(x), tf.fill([len(x)], -np.inf), tf.zeros([len(x)], tf.bool))
        centre, label, first = tf.constant(x), tf.constant(y), tf.constant(start)
        state = _State(centre, label, tf.constant(radius), tf.constant(length), first, empty)
        state = self._steps(advance, state, self.spec.steps)
        self._target.count(len(x))
        return Best(*(tensor.numpy() for tensor in judge(state)))

    def _advance(self, state: _State, first: tf.Tensor, last: tf.Tensor) -> _State:
        loss = losses.function(self.spec.loss, self.estimator.nb_classes, targeted=self.targeted)

        def body(_: tf.Tensor, now: _State) -> _State:
            here = slope(self._target, loss, now.x, now.label, now.label)
            best = now.best.or_else(now.x, here.value, self._is_broken(here.logits, now.label))
            return now._replace(x=self._moved(now, here.gradient), best=best)

        return repeat(body, state, first, last)

    def _judge(self, state: _State) -> Best:
        """The last point counts too; it needs no gradient."""
        loss = losses.function(self.spec.loss, self.estimator.nb_classes, targeted=self.targeted)
        logits = self._target.logits(state.x)
        value = ranked(loss(logits, state.label, state.label))
        return state.best.or_else(state.x, value, self._is_broken(logits, state.label))

    def _moved(self, now: _State, gradient: tf.Tensor) -> tf.Tensor:
        """Where a step from `now.x` leads; in L1 a hundredth of the entries moves, as in Tramer & Boneh 2019."""
        if self.norm == "l1":
            share = tf.fill(tf.shape(now.label), _SHARE)
            step = farthest_in_l1(now.x, gradient, now.length, self._bounds, share)
        else:
            step = like(now.length, now.x) * steepest(gradient, self._ball)
        return project(now.x + step, now.centre, now.radius, self._ball, self._bounds)


class FastGradient(ProjectedGradient):
    """One step of length epsilon from the input: FGSM (Goodfellow et al. 2015, section 4) in L-inf, FGM in L2 and L1.

    In L1 to the point of ball and box where the loss, were it linear, would be highest: the steepest entry goes to the edge of
    the box, then the next, while the budget lasts. (A single entry by epsilon, the textbook's answer, ends outside of the box.)

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: The target has a single class, or as `BatchedAttack`.
    """

    def _moved(self, now: _State, gradient: tf.Tensor) -> tf.Tensor:
        if self.norm == "l1":
            return now.x + farthest_in_l1(now.x, gradient, now.radius, self._bounds)
        return super()._moved(now, gradient)
