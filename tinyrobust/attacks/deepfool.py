"""DeepFool (Moosavi-Dezfooli et al. 2016, arXiv 1511.04599): steps to the nearest boundary of the linearised network."""

import math
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tinyrobust.attacks.base import BatchedAttack, FloatArray, IntArray
from tinyrobust.attacks.graph import compiled, graph_target
from tinyrobust.attacks.nearer import nearer
from tinyrobust.attacks.norms import Norm, length, like
from tinyrobust.errors import RecipeError

# A step goes beyond the boundary by this distance: exactly on it nothing would be broken.
_BEYOND = 1e-6


class DeepFool(BatchedAttack):
    """Every step goes to the nearest of the linearised boundaries with the likeliest other classes (algorithm 2).

    Different from the paper, values at the edge of the box that would leave it are left out of the linearisation, and the
    example is drawn back towards the image while it stays adversarial. It looks for the nearest example at any distance;
    `epsilon` plays no part.

    Args:
        estimator: The target, with gradients.
        steps: The most steps; a sample stops when it is broken.
        overshoot: Share by which a step is longer than the linearisation says.
        candidates: Other classes looked at: those with the highest logits in every step. One gradient each.
        settings: norm ("l2" or "linf"), batch_size, drop, seed; see `BatchedAttack`. Untargeted only.

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: A parameter is out of its range.
    """

    attack_params: ClassVar[list[str]] = [*BatchedAttack.attack_params, "steps", "overshoot", "candidates"]
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")
    minimal: ClassVar[bool] = True

    def __init__(
        self,
        estimator: Any,
        *,
        norm: Norm = "l2",
        epsilon: float = math.inf,
        steps: int = 50,
        overshoot: float = 0.02,
        candidates: int = 9,
        **settings: Any,
    ) -> None:
        self.steps = steps
        self.overshoot = overshoot
        self.candidates = candidates
        super().__init__(estimator, norm=norm, epsilon=epsilon, **settings)
        self._target = graph_target(estimator)

    def _check_params(self) -> None:
        super()._check_params()
        if self.steps < 1 or self.overshoot < 0 or self.candidates < 1 or self.targeted:
            raise RecipeError(
                "Expected steps >= 1, overshoot >= 0, candidates >= 1 and an untargeted attack. Received: "
                f"steps={self.steps}, overshoot={self.overshoot}, candidates={self.candidates}, targeted={self.targeted}"
            )

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        others = min(self.candidates, self.estimator.nb_classes - 1)
        step = compiled(self._target, ("deepfool", self.norm, others), lambda *state: self._step(others, *state))
        reach = tf.constant(1 + self.overshoot, tf.float32)
        found, rows, point = x.copy(), np.arange(len(x)), x
        broken = np.zeros(len(x), np.bool_)
        for _ in range(self.steps):
            self._target.count(len(rows), others * len(rows))
            moved = step(tf.constant(point), tf.constant(y[rows]), reach).numpy()
            done = self._broken(moved, y[rows])
            found[rows[done]], broken[rows[done]] = moved[done], True
            rows, point = rows[~done], moved[~done]
            if not len(rows):
                break
        if broken.any():
            label = y[broken]
            found[broken] = nearer(x[broken], found[broken], lambda tried: self._broken(tried, label))
        return found

    def _broken(self, x: FloatArray, label: IntArray) -> Any:
        return np.argmax(self.estimator.predict(x), axis=1) != label

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
