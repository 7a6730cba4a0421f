"""Auto-PGD: projected gradient descent that sets its own step size (Croce & Hein 2020, algorithm 1), and its targeted form.

L-inf and L2 follow the paper. L1 follows Croce & Hein 2021 ("Mind the box", algorithm 1): sparse steps, and a ball that shrinks
from 3 epsilon over 2 epsilon to epsilon. Where the papers leave a choice, AutoAttack's code decides; but the part of an L1 step
that would leave the box goes to other entries.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tinyrobust.attacks import losses, specs
from tinyrobust.attacks.graph import compiled
from tinyrobust.attacks.hyperplanes import farthest_in_l1
from tinyrobust.attacks.norms import like, project, random_directions, steepest
from tinyrobust.attacks.target import FloatArray, IntArray
from tinyrobust.attacks.walk import Best, GradientAttack, Slope, repeat, slope

_MOMENTUM = 0.75  # weight of the new step; the rest goes on as before (eq. 2)
_RISING = 0.75  # a step stays as long as this share of the steps since the last checkpoint raised the loss (condition 1)
_FEWEST = 10.0  # L1: steps shrink to a tenth at most
_SHRINK = 1.5  # L1: by this factor, and the number of entries that move falls to 1/1.5 of those in use
_SCHEDULE = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))  # L1: radius in epsilons, share of the steps


class _Step(NamedTuple):
    """What decides the length of a sample's steps; all [n].

    Attributes:
        length: In input units.
        share: L1 only: the share of the entries that move.
        value: The loss at the last point.
        rises: Steps since the last checkpoint that raised the loss.
        before: The highest loss at the last checkpoint.
        reduced: Whether the step was cut there (L-inf, L2).
        changed: L1 only: entries of the best point that differed from the input at the last checkpoint.
    """

    length: tf.Tensor
    share: tf.Tensor
    value: tf.Tensor
    rises: tf.Tensor
    before: tf.Tensor
    reduced: tf.Tensor
    changed: tf.Tensor


class _State(NamedTuple):
    centre: tf.Tensor
    label: tf.Tensor
    goal: tf.Tensor
    radius: tf.Tensor  # [n]
    x: tf.Tensor
    last: tf.Tensor
    gradient: tf.Tensor
    top: tf.Tensor  # the point of highest loss: steps are cut and taken up again from there
    top_gradient: tf.Tensor
    top_value: tf.Tensor
    step: _Step
    best: Best


class AutoProjectedGradient(GradientAttack[specs.Apgd | specs.ApgdT]):
    """APGD (Croce & Hein 2020): with the cross-entropy APGD-CE, with the difference of logits ratio APGD-DLR.

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: The target has a single class, or as `BatchedAttack`.
    """

    def _check_params(self) -> None:
        super()._check_params()
        losses.function(self.spec.loss, self.estimator.nb_classes)

    def _runs(self, x: FloatArray, y: IntArray) -> Sequence[tuple[int, IntArray]]:  # noqa: ARG002
        return [(run, y) for run in range(self.spec.restarts)]

    def _walk(self, x: FloatArray, y: IntArray, goal: IntArray, run: int, best: Best) -> Best:
        draws = self._generators(x, run)
        if self.norm == "l1":  # far outside of the ball: projected, a sparse point
            start = x + np.stack([draw.normal(size=x.shape[1:]) for draw in draws]).astype(np.float32)
        else:
            radius = self._radii(x, self.epsilon).reshape(-1, *[1] * (x.ndim - 1))
            start = x + radius * random_directions(x.shape[1:], self._ball, draws)
        best = Best(x, np.full(len(x), -np.inf, np.float32), np.zeros(len(x), np.bool_))
        for far, steps in _stages(self.norm, self.epsilon, self.spec.steps):
            rows = np.flatnonzero(~best.broken) if self.drop else np.arange(len(x))
            if not len(rows):
                break
            last = far == self.epsilon
            state = self._stage(x[rows], y[rows], goal[rows], start[rows], far, steps, leave=last)
            start[rows] = state.top.numpy()
            if last:  # only these are inside of the ball
                best = Best(*(tensor.numpy() for tensor in state.best))
        return best

    def _stage(
        self, x: FloatArray, y: IntArray, goal: IntArray, start: FloatArray, far: float, steps: int, *, leave: bool
    ) -> _State:
        """All steps in balls of the radius `far`, from the projection of `start`."""
        key = (self.norm, self.spec.loss, self.targeted)
        begin = compiled(self._target, ("apgd begin", *key), self._begin)
        advance = compiled(self._target, ("apgd", *key), self._advance)
        radius, checks = tf.constant(self._radii(x, far)), tf.constant(_checkpoints(self.norm, steps))
        self._target.count(len(x), len(x))
        state = begin(tf.constant(x), tf.constant(y), tf.constant(goal), tf.constant(start), radius)
        if not leave:
            self._target.count(steps * len(x), steps * len(x))
            return advance(state, tf.constant(0), tf.constant(steps), checks)
        return self._steps(lambda now, first, last: advance(now, first, last, checks), state, steps)

    def _loss(self) -> losses.Function:
        return losses.function(self.spec.loss, self.estimator.nb_classes, targeted=self.targeted)

    def _begin(self, centre: tf.Tensor, label: tf.Tensor, goal: tf.Tensor, start: tf.Tensor, radius: tf.Tensor) -> _State:
        x = project(start, centre, radius, self._ball, self._bounds)
        here = slope(self._target, self._loss(), x, label, goal)
        changed = _changed(x, centre)
        step = _Step(
            length=radius * (1.0 if self.norm == "l1" else 2.0),
            share=changed / float(np.prod(x.shape[1:])) / _SHRINK,
            value=here.value,
            rises=tf.zeros_like(label),
            before=here.value,
            reduced=tf.ones_like(label, tf.bool),
            changed=changed,
        )
        best = Best(x, here.value, self._is_broken(here.logits, label))
        return _State(centre, label, goal, radius, x, x, here.gradient, x, here.gradient, here.value, step, best)

    def _advance(self, state: _State, first: tf.Tensor, last: tf.Tensor, checks: tf.Tensor) -> _State:
        loss = self._loss()

        def body(index: tf.Tensor, now: _State) -> _State:
            x = self._moved(now, index)
            here = slope(self._target, loss, x, now.label, now.goal)
            walked = _walked(now, x, here, self._is_broken(here.logits, now.label))
            window = checks[index]
            check = _check_l1 if self.norm == "l1" else _check
            return tf.cond(window > 0, lambda: check(walked, window), lambda: walked)  # type: ignore[no-any-return]

        return repeat(body, state, first, last)

    def _moved(self, now: _State, index: tf.Tensor) -> tf.Tensor:
        by = like(now.step.length, now.x)
        if self.norm == "l1":
            moved = now.x + farthest_in_l1(now.x, now.gradient, now.step.length, self._bounds, now.step.share)
            return project(moved, now.centre, now.radius, "l1", self._bounds)
        moved = now.x + by * steepest(now.gradient, self._ball)
        moved = project(moved, now.centre, now.radius, self._ball, self._bounds)
        new = tf.where(index > 0, _MOMENTUM, 1.0)
        moved = now.x + new * (moved - now.x) + (1 - new) * (now.x - now.last)
        return project(moved, now.centre, now.radius, self._ball, self._bounds)


class TargetedAutoProjectedGradient(AutoProjectedGradient):
    """APGD-T (Croce & Hein 2020, section 4.2): APGD on the targeted DLR, one wrong class after the other, the likeliest first.

    It is untargeted towards the outside: `y` are true classes, and any wrong class counts.

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: The target has a single class, or as `BatchedAttack`.
    """

    spec: specs.ApgdT

    def _runs(self, x: FloatArray, y: IntArray) -> Sequence[tuple[int, IntArray]]:
        goals, restarts = self._wrong_classes(x, y, self.spec.targets), self.spec.restarts
        return [(place * restarts + run, goal) for place, goal in enumerate(goals) for run in range(restarts)]

    def _restart(self, run: int) -> int:
        return run % self.spec.restarts


def _walked(now: _State, x: tf.Tensor, here: Slope, broken: tf.Tensor) -> _State:
    """The state after a step to `x`, before the length of steps is looked at."""
    higher = here.value > now.top_value
    rises = now.step.rises + tf.cast(here.value > now.step.value, now.step.rises.dtype)
    return now._replace(
        x=x,
        last=now.x,
        gradient=here.gradient,
        top=tf.where(like(higher, x), x, now.top),
        top_gradient=tf.where(like(higher, x), here.gradient, now.top_gradient),
        top_value=tf.where(higher, here.value, now.top_value),
        step=now.step._replace(value=here.value, rises=rises),
        best=now.best.or_else(x, here.value, broken),
    )


def _check(now: _State, window: tf.Tensor) -> _State:
    """A checkpoint in L-inf and L2 (section 3.2): halve the steps of samples that do not rise and send them to their top."""
    step = now.step
    few = tf.cast(step.rises, tf.float32) <= _RISING * tf.cast(window, tf.float32)
    stuck = ~step.reduced & (step.before >= now.top_value)
    cut = few | stuck
    return _sent_to_top(now, cut)._replace(
        step=step._replace(
            length=tf.where(cut, step.length / 2, step.length),
            rises=tf.zeros_like(step.rises),
            before=now.top_value,
            reduced=cut,
        )
    )


def _check_l1(now: _State, window: tf.Tensor) -> _State:  # noqa: ARG001 - one signature for both
    """A checkpoint in L1: where the best point became sparser, start again from it with long steps; else shorten them."""
    changed = _changed(now.top, now.centre)
    sparser = changed < 0.95 * now.step.changed
    shorter = tf.maximum(now.step.length / _SHRINK, now.radius / _FEWEST)
    share = changed / float(np.prod(now.x.shape[1:])) / _SHRINK
    step = now.step._replace(length=tf.where(sparser, now.radius, shorter), share=share, changed=changed)
    return _sent_to_top(now, sparser)._replace(step=step)


def _changed(x: tf.Tensor, centre: tf.Tensor) -> tf.Tensor:
    """How many entries [n] differ."""
    return tf.reduce_sum(tf.cast(tf.not_equal(x, centre), tf.float32), list(range(1, x.shape.rank)))


def _sent_to_top(now: _State, who: tf.Tensor) -> _State:
    chosen = like(who, now.x)
    return now._replace(x=tf.where(chosen, now.top, now.x), gradient=tf.where(chosen, now.top_gradient, now.gradient))


def _stages(norm: specs.Norm, epsilon: float, steps: int) -> list[tuple[float, int]]:
    """Radii and steps at each."""
    if norm != "l1":
        return [(epsilon, steps)]
    counts = [math.ceil(share * steps) for _, share in _SCHEDULE[:-1]]
    counts.append(max(1, steps - sum(counts)))
    return [(radius * epsilon, count) for (radius, _), count in zip(_SCHEDULE, counts, strict=True)]


def _checkpoints(norm: specs.Norm, steps: int) -> npt.NDArray[np.int32]:
    """For every step, the steps since the last checkpoint if this is one, else 0 (eq. 3, in AutoAttack's whole numbers)."""
    window = max(int((0.04 if norm == "l1" else 0.22) * steps), 1)
    shortening = 0 if norm == "l1" else max(int(0.03 * steps), 1)
    least = max(int(0.06 * steps), 1)
    table = np.zeros(steps, np.int32)
    at = window - 1
    while at < steps:
        table[at] = window
        if norm != "l1":
            window = max(window - shortening, least)
        at += window
    return table
