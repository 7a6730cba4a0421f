"""Perturbations of every input value by at most epsilon."""

import keras
from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import perturbation as tables
from tinyrobust.training.perturbations.base import Perturbation

# Standard deviation of a start beside the input (Zhang et al. 2019, section 5.1).
_NEARBY = 1e-3


class Fgsm(Perturbation):
    """FGSM from a random start (Wong, Rice and Kolter 2020, arXiv 2001.03994, algorithm 3).

    forward: `d = U(-e, e); d = clip(d + s e sign(grad_d loss(x + d)), -e, e)`. The random start and a step beyond the radius
    (s = 1.25) are what keeps one-step training from collapsing to a network that only withstands one step; check with an attack
    of many steps.
    """

    def __init__(self, table: tables.Fgsm | tables.NFgsm | tables.Pgd, seed: int, steps: int = 1) -> None:
        super().__init__(table, seed, steps)
        self._epsilon = table.epsilon
        self._step = table.step

    def total(self, losses: Tensor) -> Tensor:
        """Their mean: only signs count, and those of tiny gradients are the sum's but for rounding."""
        return ops.mean(losses)

    def radius(self, x: Tensor) -> float:
        """Epsilon."""
        del x
        return self._epsilon

    def start(self, x: Tensor, radius: float) -> Tensor:
        """Uniform in the ball."""
        return keras.random.uniform(ops.shape(x), -radius, radius, dtype=x.dtype, seed=self.seed_generator)

    def step(self, gradient: Tensor, radius: float) -> Tensor:
        """Along the sign."""
        return self._step * radius * ops.sign(gradient)

    def project(self, moved: Tensor, x: Tensor, radius: float) -> Tensor:
        """Into the ball; into the range of inputs only at the end."""
        del x
        return ops.clip(moved, -radius, radius)


class NFgsm(Fgsm):
    """Noise FGSM (de Jorge et al. 2022, arXiv 2202.01181, algorithm 1).

    forward: `d = U(-k e, k e); d = d + s e sign(grad_d loss(x + d))`, with k = 2 and s = 1, clipped to the range of inputs
    alone: a value may change by (k + s) e. Noise beyond the ball around which the step is taken, and no projection, are what
    prevents catastrophic overfitting at the cost of FGSM.
    """

    def __init__(self, table: tables.NFgsm, seed: int) -> None:
        super().__init__(table, seed)
        self._noise = table.noise

    def start(self, x: Tensor, radius: float) -> Tensor:
        """Uniform in k balls."""
        return super().start(x, self._noise * radius)

    def project(self, moved: Tensor, x: Tensor, radius: float) -> Tensor:
        """As it is; into the range of inputs only at the end."""
        del x, radius
        return moved


class Pgd(Fgsm):
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083, section 2.1).

    forward: `d = U(-e, e), 0.001 N(0, 1) or 0; k times d = P(d + s e sign(grad_d loss(x + d)))`, where P projects into the
    ball, and x + d into [0, 1]. The evaluator's PGD (`attacks/pgd.py`) takes the same steps, and returns the best point of the
    walk, not the last. A loss with its minimum at the input, such as that of TRADES, has no gradient there: start beside it.
    """

    def __init__(self, table: tables.Pgd, seed: int) -> None:
        super().__init__(table, seed, table.steps)
        self._start = table.start

    def start(self, x: Tensor, radius: float) -> Tensor:
        """In the ball and the range of inputs, or the input itself."""
        if self._start == "input":
            return ops.zeros_like(x)
        if self._start == "gaussian":
            noise = keras.random.normal(ops.shape(x), stddev=_NEARBY, dtype=x.dtype, seed=self.seed_generator)
            return self.project(noise, x, radius)
        return self.project(super().start(x, radius), x, radius)

    def project(self, moved: Tensor, x: Tensor, radius: float) -> Tensor:
        """Into the ball and the range of inputs."""
        return ops.clip(super().project(moved, x, radius), -x, 1.0 - x)
