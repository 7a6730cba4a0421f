"""FAB, the fast adaptive boundary attack (Croce & Hein 2020, ICML, algorithm 1), and FAB-T, its targeted form in AutoAttack.

It looks for the nearest adversarial example: every step projects onto the decision boundary of the network made linear, both
from where it is and from the input, and goes between the two. Where the paper leaves a choice, AutoAttack's code decides.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tinyrobust.attacks import specs
from tinyrobust.attacks.bisection import bisect
from tinyrobust.attacks.graph import compiled
from tinyrobust.attacks.hyperplanes import way_to
from tinyrobust.attacks.norms import distance, length, like, random_directions
from tinyrobust.attacks.specs import Norm
from tinyrobust.attacks.target import FloatArray, IntArray
from tinyrobust.attacks.walk import Best, GradientAttack, repeat, slope

_TOWARDS_INPUT = 0.1  # alpha_max: the largest weight of the way from the input (eq. 9)
_OVERSHOOT = 1.05  # eta: a little beyond the linear boundary
_BACK = 0.9  # beta: an adversarial example is drawn back towards the input by this factor (eq. 10)
_DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}


class _State(NamedTuple):
    centre: tf.Tensor
    label: tf.Tensor
    goal: tf.Tensor
    x: tf.Tensor
    best: Best  # its score is minus the distance; broken: adversarial, at any distance


class FastAdaptiveBoundary(GradientAttack[specs.Fab]):
    """FAB, and with `targets` FAB-T.

    FAB takes the gradients of all logits in every step and goes for the nearest boundary; FAB-T goes for one wrong class after
    the other and takes one gradient in every step. The examples are the nearest found, at any distance.

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: As `BatchedAttack`.
    """

    def _runs(self, x: FloatArray, y: IntArray) -> Sequence[tuple[int, IntArray]]:
        goals = [y] if self.spec.targets is None else self._wrong_classes(x, y, self.spec.targets)
        restarts = self.spec.restarts
        return [(place * restarts + run, goal) for place, goal in enumerate(goals) for run in range(restarts)]

    def _restart(self, run: int) -> int:
        return run % self.spec.restarts

    def _walk(self, x: FloatArray, y: IntArray, goal: IntArray, run: int, best: Best) -> Best:
        start = x
        if run % self.spec.restarts:
            across = distance(np.full_like(x, self._bounds[1] - self._bounds[0]), self.norm)
            reach = np.minimum(np.minimum(-best.score, across), np.float32(self.epsilon)) / 2
            away = random_directions(x.shape[1:], self.norm, self._generators(x, run))
            start = np.clip(x + reach.reshape(-1, *[1] * (x.ndim - 1)) * away, *self._bounds)
        advance = compiled(self._target, ("fab", self.norm, self.spec.targets is None), self._advance)
        empty = Best(tf.constant(x), tf.fill([len(x)], -np.inf), tf.zeros([len(x)], tf.bool))
        state = _State(tf.constant(x), tf.constant(y), tf.constant(goal), tf.constant(start), empty)
        gradients, steps = 1 if self.spec.targets is not None else self.estimator.nb_classes, self.spec.steps
        self._target.count(2 * steps * len(x), gradients * steps * len(x))
        nearest = advance(state, tf.constant(0), tf.constant(steps)).best
        example = self._drawn_back(x, y, nearest.example.numpy(), np.flatnonzero(nearest.broken))
        # The loop's distances are single precision sums; success is decided on those that the caller will measure.
        away_by = np.where(nearest.broken.numpy(), distance(example - x, self.norm), np.float32(np.inf))
        return Best(example, -away_by, away_by <= self.epsilon)

    def _drawn_back(self, x: FloatArray, y: IntArray, example: FloatArray, rows: IntArray) -> FloatArray:
        """Algorithm 1's final search, by bisection: the samples `rows`, which have an example, go back to the boundary."""
        if len(rows):
            example[rows] = bisect(x[rows], example[rows], lambda tried: self.estimator.predict(tried).argmax(1) != y[rows])
        return example

    def _advance(self, state: _State, first: tf.Tensor, last: tf.Tensor) -> _State:
        def body(_: tf.Tensor, now: _State) -> _State:
            value, normal = self._boundary(now)
            value = tf.where(tf.math.is_finite(value), value, 0.0)  # no boundary to go to: a little towards the input
            from_here = way_to(now.x, normal, -value, self.norm, self._bounds)
            # The same hyperplane, seen from the input.
            apart = tf.reduce_sum(normal * (now.x - now.centre), list(range(1, normal.shape.rank)))
            from_input = way_to(now.centre, normal, apart - value, self.norm, self._bounds)
            far, near = (tf.maximum(length(way, self.norm), 1e-8) for way in (from_here, from_input))
            weight = tf.minimum(far / (far + near), _TOWARDS_INPUT)
            x = (1 - weight) * (now.x + _OVERSHOOT * from_here) + weight * (now.centre + _OVERSHOOT * from_input)
            return self._judged(now, tf.clip_by_value(x, *self._bounds))

        return repeat(body, state, first, last)

    def _judged(self, now: _State, x: tf.Tensor) -> _State:
        """Keeps `x` where it is the nearest adversarial example yet; where it is one, goes on nearer to the input."""
        adversarial = self._is_broken(self._target.logits(x), now.label)
        away = tf.reshape(length(x - now.centre, self.norm), [-1])
        best = now.best.or_else(x, tf.where(adversarial, -away, -np.inf), adversarial)
        back = now.centre + _BACK * (x - now.centre)
        return now._replace(x=tf.where(like(adversarial, x), back, x), best=best)

    def _boundary(self, now: _State) -> tuple[tf.Tensor, tf.Tensor]:
        """A boundary at `now.x`: another class's logit minus the label's [n], and its gradient [n, ...]."""
        if self.spec.targets is not None:
            here = slope(self._target, _lead, now.x, now.label, now.goal)
            return here.value, here.gradient
        classes = self.estimator.nb_classes
        with tf.GradientTape(watch_accessed_variables=False, persistent=True) as tape:
            tape.watch(now.x)
            logits = self._target.logits(now.x)
            leads = [
                _lead(logits, now.label, tf.fill(tf.shape(now.label), tf.cast(other, tf.int64))) for other in range(classes)
            ]
        gradients = [tape.gradient(lead, now.x, unconnected_gradients=tf.UnconnectedGradients.ZERO) for lead in leads]
        values, normals = tf.stack(leads, axis=1), tf.stack(gradients, axis=1)
        normals = tf.where(tf.math.is_finite(normals), normals, 0.0)
        flat = tf.reshape(normals, (-1, *normals.shape[2:]))
        steepness = tf.reshape(length(flat, _DUAL[self.norm]), tf.shape(values))
        own = tf.one_hot(now.label, classes, on_value=True, off_value=False)
        # A flat difference of logits has no boundary in sight.
        seen = ~own & (steepness > 0) & tf.math.is_finite(values)
        nearest = tf.argmin(tf.where(seen, tf.math.divide_no_nan(tf.abs(values), steepness), np.inf), axis=1)
        return tf.gather(values, nearest, batch_dims=1), tf.gather(normals, nearest, batch_dims=1)


def _lead(logits: tf.Tensor, label: tf.Tensor, goal: tf.Tensor) -> tf.Tensor:
    """How far one other class is ahead of the label [n]."""
    own, other = (tf.gather(logits, index, axis=1, batch_dims=1) for index in (label, goal))
    return other - own
