"""Perturbations of a whole input by at most a Euclidean length."""

import keras
from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import perturbation as tables
from tinyrobust.training.perturbations.base import Perturbation

_TINY = 1e-12


class L2(Perturbation):
    """Steps along the gradient in the ball of a Euclidean norm; subclasses say its `radius`.

    forward: `d = r u; k times d = P(d + s r g / |g|), g = grad_d loss(x + d)`, where P projects onto the ball, |.| is the norm
    over all values of an input, and u a point of the unit ball in a random direction, at a distance that is uniform in [0, 1].

    Args:
        table: Its settings.
        seed: Fixes the random draws.
    """

    def __init__(self, table: tables.PgdL2 | tables.Snr, seed: int) -> None:
        super().__init__(table, seed, table.steps)
        self._step = table.step

    def start(self, x: Tensor, radius: Tensor) -> Tensor:
        """In a random direction, at a random distance."""
        direction = keras.random.normal(ops.shape(x), dtype=x.dtype, seed=self.seed_generator)
        shape = (ops.shape(x)[0], *[1] * (len(x.shape) - 1))
        share = keras.random.uniform(shape, dtype=x.dtype, seed=self.seed_generator)
        return radius * share * direction / (length(direction) + _TINY)

    def step(self, gradient: Tensor, radius: Tensor) -> Tensor:
        """Along the gradient, as a share of the radius."""
        return self._step * radius * gradient / (length(gradient) + _TINY)

    def project(self, moved: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        """Onto the ball; into the range of inputs only at the end."""
        del x
        return moved * ops.minimum(1.0, radius / (length(moved) + _TINY))


class PgdL2(L2):
    """Projected gradient descent in L2 (Madry et al. 2018, arXiv 1706.06083, section 2.1).

    forward: see `L2`, with r = epsilon; after the ball, P clips x + d into [0, 1], which makes no change longer.
    """

    def __init__(self, table: tables.PgdL2, seed: int) -> None:
        super().__init__(table, seed)
        self._epsilon = table.epsilon

    def radius(self, x: Tensor) -> float:
        """Epsilon."""
        del x
        return self._epsilon

    def project(self, moved: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        """Onto the ball, then into the range of inputs."""
        return ops.clip(super().project(moved, x, radius), -x, 1.0 - x)


def length(inputs: Tensor) -> Tensor:
    """Euclidean norms [n, 1, ...] of inputs [n, ...]."""
    return ops.sqrt(ops.sum(ops.square(inputs), axis=tuple(range(1, len(inputs.shape))), keepdims=True))
