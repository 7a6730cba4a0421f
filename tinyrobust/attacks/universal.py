"""A universal perturbation: one sound (or picture) that is added to every sample."""

import numpy as np
import tensorflow as tf

from tinyrobust.attacks import losses, specs
from tinyrobust.attacks.base import WhiteBoxAttack
from tinyrobust.attacks.graph import compiled
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.target import FloatArray, IntArray
from tinyrobust.attacks.walk import slope
from tinyrobust.errors import RecipeError

_MOMENTUM = 0.9
# Losses above this count as this (Shafahi et al. 2020, section 4): samples that are fooled already must not lead.
_ENOUGH = 3.0
_TINY = 1e-12


class Universal(WhiteBoxAttack[specs.Universal]):
    """Gradient ascent on one delta over many samples (Moosavi-Dezfooli et al. 2017; this way, Shafahi et al. 2020, alg. 2).

    It learns on samples that are not attacked (`learn`), and is then added to those that are. In L-inf delta is the same for
    all. In "snr" it is one direction u of length 1, and a sample x gets `epsilon |x| u`: the same sound, as loud as the ratio
    says. The steps have momentum; what counts is the delta that fooled most of the samples that it learned on.

    Attributes:
        delta: What `learn` found; None before.

    Raises:
        ModelFileError: The target has no gradients.
        RecipeError: As `BatchedAttack`.
    """

    delta: FloatArray | None = None

    def learn(self, x: FloatArray, y: IntArray) -> FloatArray:
        """Finds the delta.

        Args:
            x: Samples [n, ...] that are not the attacked ones.
            y: Their classes [n].

        Returns:
            Delta, of the shape of one sample: in L-inf at most epsilon, in "snr" of length 1. Also kept as `self.delta`.
        """
        random = np.random.default_rng(self.seed)
        climb = compiled(self._target, ("universal", self.norm), self._climb)
        radius = np.float32(self.epsilon if self.norm == "linf" else 1.0)
        self.delta = delta = self._in_ball(random.uniform(-radius, radius, x.shape[1:]).astype(np.float32))
        speed, fooled = np.zeros_like(delta), -1.0
        for epoch in range(self.spec.epochs):
            # Short steps at the end, as the swings around the best delta are as wide as a step.
            length = radius * self.spec.relative_step * (1 - epoch / self.spec.epochs)
            order = random.permutation(len(x))
            for rows in np.array_split(order, -(-len(x) // self.spec.step_samples)):
                self._target.count(len(rows), len(rows))
                batch = (self._changed(x[rows], delta), self._weights(x[rows]), y[rows])
                uphill = climb(*(tf.constant(array) for array in batch))
                speed = _MOMENTUM * speed + uphill.numpy() / max(float(np.abs(uphill).sum()), _TINY)
                delta = self._in_ball(delta + length * self._direction(speed))
            now = float(np.mean(np.argmax(self.estimator.predict(self._changed(x, delta)), axis=1) != y))
            if now > fooled:
                fooled, self.delta = now, delta
        return self.delta

    def _climb(self, x: tf.Tensor, weight: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """The gradient of the mean of the bounded losses with respect to delta."""
        entropy = losses.function("ce", self.estimator.nb_classes)
        here = slope(self._target, lambda *answer: tf.minimum(entropy(*answer), _ENOUGH), x, y, y)
        return tf.tensordot(weight, here.gradient, 1)

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:  # noqa: ARG002 - the same for every class
        if self.delta is None:
            raise RecipeError("Expected a delta: learn(x, y) finds one. Received: none")
        return self._changed(x, self.delta)

    def _weights(self, x: FloatArray) -> FloatArray:
        """How loud delta is for every sample [n]."""
        return np.ones(len(x), np.float32) if self.norm == "linf" else self._radii(x, self.epsilon)

    def _changed(self, x: FloatArray, delta: FloatArray) -> FloatArray:
        added = self._weights(x).reshape(-1, *[1] * (x.ndim - 1)) * delta
        return np.asarray(np.clip(x + added, *self._bounds), dtype=np.float32)

    def _direction(self, speed: FloatArray) -> FloatArray:
        return np.sign(speed) if self.norm == "linf" else speed / (np.float32(_TINY) + distance(speed[np.newaxis], "l2")[0])

    def _in_ball(self, delta: FloatArray) -> FloatArray:
        if self.norm == "linf":
            return np.clip(delta, -np.float32(self.epsilon), np.float32(self.epsilon))
        return np.asarray(delta / (np.float32(_TINY) + distance(delta[np.newaxis], "l2")[0]), dtype=np.float32)
