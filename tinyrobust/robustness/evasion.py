"""An attacker who knows of a detector: misclassification, and a mutual information that raises no alarm."""

import numpy as np
import tensorflow as tf

from tinyrobust.attacks.graph import any_size
from tinyrobust.gradients import value_and_gradient
from tinyrobust.graphs.members import Members
from tinyrobust.robustness.distance import Floats, Ints


class Evasion:
    """PGD (Madry et al. 2018) in L-inf that maximises `CE(y, p(x)) - weight MI(x)` over the mean of draws.

    p are the probabilities of an ensemble and MI its mutual information, both of the same draws, new ones in every step. Steps
    are of 2.5 radii over their number, from a random point of the ball; the last point is the example, as the value of a point
    is as random as the draws.

    Args:
        members: The network; its final features must be made binary.
        batch: Samples in one pass.
        steps: Of a walk.
    """

    def __init__(self, members: Members, batch: int, steps: int) -> None:
        self.steps, self._batch = steps, batch

        def gradient(x: tf.Tensor, label: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
            def value(inputs: tf.Tensor) -> tf.Tensor:
                answers = members(inputs)
                fooled = tf.nn.sparse_softmax_cross_entropy_with_logits(label, answers.together)
                return tf.reduce_sum(fooled - weight * answers.information)

            return value_and_gradient(value, x)[1]

        self._gradient = any_size(gradient)

    def __call__(self, x: Floats, y: Ints, epsilon: float, weight: float, seed: int) -> Floats:
        """Examples [n, ...] for inputs in [0, 1] and their classes [n]."""
        parts = range(self._batch, len(x), self._batch)
        noise = np.random.default_rng(seed).uniform(-epsilon, epsilon, x.shape).astype(np.float32)
        walks = zip(np.array_split(x, parts), np.array_split(y, parts), np.array_split(noise, parts), strict=True)
        return np.concatenate([self._walk(some, labels, off, epsilon, weight) for some, labels, off in walks])

    def _walk(self, x: Floats, y: Ints, noise: Floats, epsilon: float, weight: float) -> Floats:
        low, high = np.maximum(x - np.float32(epsilon), 0), np.minimum(x + np.float32(epsilon), 1)
        now, step = np.clip(x + noise, low, high), np.float32(min(1.0, 2.5 / self.steps) * epsilon)
        for _ in range(self.steps):
            slope = self._gradient(tf.constant(now), tf.constant(y), tf.constant(weight, tf.float32)).numpy()
            now = np.clip(now + step * np.sign(slope), low, high)
        return np.asarray(now, np.float32)
