"""DeepFool (Moosavi-Dezfooli et al. 2016, arXiv 1511.04599): steps to the nearest boundary of the linearised network."""

import numpy as np
import tensorflow as tf

from tinyrobust.attacks import specs
from tinyrobust.attacks.base import WhiteBoxAttack
from tinyrobust.attacks.bisection import bisect
from tinyrobust.attacks.graph import compiled
from tinyrobust.attacks.norms import length, like
from tinyrobust.attacks.specs import Norm
from tinyrobust.attacks.target import BoolArray, FloatArray, IntArray

# A step goes beyond the boundary by this distance: exactly on it nothing would be broken.
_BEYOND = 1e-6


class DeepFool(WhiteBoxAttack[specs.DeepFool]):
    """Every step goes to the nearest of the linearised boundaries with the likeliest other classes (algorithm 2).

    Different from the paper, values at the edge of the box that would leave it are left out of the linearisation, and the
    example is drawn back towards the image while it stays adversarial. It looks for the nearest example at any distance;
    `epsilon` plays no part.

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: As `BatchedAttack`.
    """

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        others = min(self.spec.candidates, self.estimator.nb_classes - 1)
        step = compiled(self._target, ("deepfool", self.norm, others), lambda *state: self._step(others, *state))
        reach = tf.constant(1 + self.spec.overshoot, tf.float32)
        examples, rows, point = x.copy(), np.arange(len(x)), x
        broken = np.zeros(len(x), np.bool_)
        for _ in range(self.spec.steps):
            self._target.count(len(rows), others * len(rows))
            moved = step(tf.constant(point), tf.constant(y[rows]), reach).numpy()
            done = self._broken(moved, y[rows])
            examples[rows[done]], broken[rows[done]] = moved[done], True
            rows, point = rows[~done], moved[~done]
            if not len(rows):
                break
        if broken.any():
            label = y[broken]
            examples[broken] = bisect(x[broken], examples[broken], lambda tried: self._broken(tried, label))
        return examples

    def _broken(self, x: FloatArray, label: IntArray) -> BoolArray:
        return np.asarray(np.argmax(self.estimator.predict(x), axis=1) != label)

    def _step(self, others: int, point: tf.Tensor, label: tf.Tensor, reach: tf.Tensor) -> tf.Tensor:
        """One step from every point [n, ...]."""
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(point)
            logits = self._target.logits(point)
            own = tf.gather(logits, label, axis=1, batch_dims=1)
            hidden = tf.one_hot(label, logits.shape[-1], on_value=True, off_value=False)
            classes = tf.math.top_k(tf.where(hidden, -float("inf"), logits), others).indices
            gaps = [own - tf.gather(logits, classes[:, place], axis=1, batch_dims=1) for place in range(others)]
        low, high = self._bounds
        dual: Norm = "l2" if self.norm == "l2" else "l1"
        best, shortest = tf.zeros_like(point), tf.fill(tf.shape(gaps[0]), float("inf"))
        for gap in gaps:
            slope = -tape.gradient(gap, point, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            blocked = ((point >= high) & (slope > 0)) | ((point <= low) & (slope < 0)) | ~tf.math.is_finite(slope)
            slope = tf.where(blocked, 0.0, slope)
            size = length(slope, dual)
            # A flat logit difference has no boundary in sight.
            steepness = tf.reshape(size, [-1])
            seen = (steepness > 0) & tf.math.is_finite(gap)
            far = tf.where(seen, tf.math.divide_no_nan(tf.abs(gap), steepness) + _BEYOND, float("inf"))
            way = tf.math.divide_no_nan(slope, size) if self.norm == "l2" else tf.sign(slope)
            best = tf.where(like(far < shortest, point), like(far, point) * way, best)
            shortest = tf.minimum(far, shortest)
        return tf.clip_by_value(point + reach * best, low, high)
