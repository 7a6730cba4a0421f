"""ART's black-box attacks, made repeatable: Boundary and HopSkipJump (decisions only), ZOO (scores only).

ART's own have traps: a random start that no seed reaches, a targeted Boundary by default, examples at any distance that count
as success; in ZOO, finite differences far below a step of the sensor's grid, and a search that loses what it has found.
"""

import abc
import math
from typing import Any, ClassVar

import numpy as np
from art.attacks.evasion import BoundaryAttack, ZooAttack
from art.attacks.evasion import HopSkipJump as ArtHopSkipJump

from tinyrobust.attacks.base import BatchedAttack, FloatArray, IntArray
from tinyrobust.attacks.nearer import BoolArray, nearer
from tinyrobust.attacks.norms import Norm, distance
from tinyrobust.attacks.seeds import seeded
from tinyrobust.errors import RecipeError


class _OneByOne(BatchedAttack):
    """An attack of ART's on one sample at a time, each with a seed of its own: neighbours change nothing.

    Subclasses write `_attack`.
    """

    minimal: ClassVar[bool] = True

    def _check_params(self) -> None:
        super()._check_params()
        counts = {name: value for name in self.attack_params if isinstance(value := getattr(self, name, None), int)}
        if self.targeted or min(value for name, value in counts.items() if name not in ("seed", "drop")) < 1:
            raise RecipeError(f"Expected counts of at least 1 and an untargeted attack. Received: {counts}")

    @abc.abstractmethod
    def _attack(self, x: FloatArray, y: IntArray, generator: np.random.Generator) -> FloatArray:
        """ART's answer for one sample, [1, ...]."""

    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        found = x.copy()
        for row, generator in enumerate(self._generators(x, 0)):
            one = slice(row, row + 1)
            with seeded(int(generator.integers(2**32))):
                found[one] = np.clip(self._attack(x[one], y[one], generator), *self._bounds)
        broken = np.flatnonzero(self._broken(found, y))
        if len(broken):
            found[broken] = nearer(x[broken], found[broken], lambda tried: self._broken(tried, y[broken]))
        kept = np.zeros(len(x), np.bool_)
        kept[broken] = distance(found[broken] - x[broken], self.norm) <= self.epsilon * (1 + 1e-6)
        return np.where(kept.reshape(-1, *[1] * (x.ndim - 1)), found, x)

    def _broken(self, x: FloatArray, y: IntArray) -> BoolArray:
        return np.asarray(np.argmax(self.estimator.predict(x), axis=1) != y)

    def _start(self, x: FloatArray, y: IntArray, generator: np.random.Generator, draws: int) -> FloatArray | None:
        """The image blended with noise, the nearest of some draws that breaks it, [1, ...]; None when no draw does."""
        low, high = self._bounds
        shares = np.arange(1, draws + 1, dtype=np.float32).reshape(-1, *[1] * (x.ndim - 1)) / draws
        noise = generator.uniform(low, high, (draws, *x.shape[1:])).astype(np.float32)
        tried = x + shares * (noise - x)
        tried = tried[self._broken(tried, np.repeat(y, draws))]
        if not len(tried):
            return None
        image, label = np.repeat(x, len(tried), axis=0), np.repeat(y, len(tried))
        closer = nearer(image, tried, lambda points: self._broken(points, label))
        best = int(np.argmin(distance(closer - image, self.norm)))
        return closer[best : best + 1]


class Boundary(_OneByOne):
    """ART's Boundary attack (Brendel et al. 2018, arXiv 1712.04248): a walk along the decision boundary, towards the image.

    Args:
        estimator: The target; needs `predict` only.
        norm: In which `epsilon` is measured; the walk itself shortens the L2 distance.
        epsilon: Examples farther away count as failed: the image itself comes back.
        steps: Steps of the walk.
        trials: Tries for the size of each of the two parts of a step.
        samples: Directions tried per trial.
        draws: Random starts tried.
        settings: batch_size, drop, seed; see `BatchedAttack`. Untargeted only.

    Raises:
        RecipeError: A parameter is out of its range.
    """

    attack_params: ClassVar[list[str]] = [*BatchedAttack.attack_params, "steps", "trials", "samples", "draws"]

    def __init__(
        self,
        estimator: Any,
        *,
        norm: Norm = "l2",
        epsilon: float = math.inf,
        steps: int = 500,
        trials: int = 25,
        samples: int = 20,
        draws: int = 100,
        **settings: Any,
    ) -> None:
        self.steps = steps
        self.trials = trials
        self.samples = samples
        self.draws = draws
        super().__init__(estimator, norm=norm, epsilon=epsilon, **settings)

    def _attack(self, x: FloatArray, y: IntArray, generator: np.random.Generator) -> FloatArray:
        start = self._start(x, y, generator, self.draws)
        if start is None:
            return x
        attack = BoundaryAttack(
            self.estimator,
            targeted=False,
            max_iter=self.steps,
            num_trial=self.trials,
            sample_size=self.samples,
            verbose=False,
        )
        return np.asarray(attack.generate(x, y, x_adv_init=start), dtype=np.float32)


class HopSkipJump(_OneByOne):
    """ART's HopSkipJump (Chen et al. 2020, arXiv 1904.02144): the boundary's normal from decisions, then a step along it.

    Args:
        estimator: The target; needs `predict` only.
        norm: "l2" or "linf": what is shortened, and in which `epsilon` is measured.
        epsilon: Examples farther away count as failed: the image itself comes back.
        steps: Steps.
        queries: The most decisions for one normal.
        first_queries: Decisions for the first one.
        draws: Random starts tried.
        settings: batch_size, drop, seed; see `BatchedAttack`. Untargeted only.

    Raises:
        RecipeError: A parameter is out of its range.
    """

    attack_params: ClassVar[list[str]] = [*BatchedAttack.attack_params, "steps", "queries", "first_queries", "draws"]
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "linf")

    def __init__(
        self,
        estimator: Any,
        *,
        norm: Norm = "l2",
        epsilon: float = math.inf,
        steps: int = 20,
        queries: int = 1000,
        first_queries: int = 100,
        draws: int = 100,
        **settings: Any,
    ) -> None:
        self.steps = steps
        self.queries = queries
        self.first_queries = first_queries
        self.draws = draws
        super().__init__(estimator, norm=norm, epsilon=epsilon, **settings)

    def _attack(self, x: FloatArray, y: IntArray, generator: np.random.Generator) -> FloatArray:
        start = self._start(x, y, generator, self.draws)
        if start is None:
            return x
        attack = ArtHopSkipJump(
            self.estimator,
            norm=2 if self.norm == "l2" else np.inf,
            max_iter=self.steps,
            max_eval=self.queries,
            init_eval=self.first_queries,
            verbose=False,
        )
        return np.asarray(attack.generate(x, y, x_adv_init=start), dtype=np.float32)


class ZeroOrder(_OneByOne):
    """ART's ZOO (Chen et al. 2017, arXiv 1708.03999): Carlini and Wagner's L2 attack with gradients by finite differences.

    Args:
        estimator: The target; needs `predict` only.
        norm: In which `epsilon` is measured; what is shortened is the L2 distance.
        epsilon: Examples farther away count as failed: the image itself comes back.
        steps: Steps a search, each on `coordinates` values at two queries a value.
        searches: Searches for the constant that weighs the margin.
        coordinates: Values moved in a step, no more than there are.
        difference: Of the finite differences; below half a step of the sensor's grid (0.002) an int8 file does not see them.
        learning_rate: Adam's step.
        constant: The first one.
        settings: batch_size, drop, seed; see `BatchedAttack`. Untargeted only.

    Raises:
        RecipeError: A parameter is out of its range.
    """

    attack_params: ClassVar[list[str]] = [
        *BatchedAttack.attack_params,
        "steps",
        "searches",
        "coordinates",
        "difference",
        "learning_rate",
        "constant",
    ]

    def __init__(
        self,
        estimator: Any,
        *,
        norm: Norm = "l2",
        epsilon: float = math.inf,
        steps: int = 100,
        searches: int = 4,
        coordinates: int = 128,
        difference: float = 0.01,
        learning_rate: float = 0.1,
        constant: float = 1.0,
        **settings: Any,
    ) -> None:
        self.steps = steps
        self.searches = searches
        self.coordinates = coordinates
        self.difference = difference
        self.learning_rate = learning_rate
        self.constant = constant
        super().__init__(estimator, norm=norm, epsilon=epsilon, **settings)

    def _attack(self, x: FloatArray, y: IntArray, generator: np.random.Generator) -> FloatArray:  # noqa: ARG002
        nearest, far = x, math.inf
        constant, fails, works = self.constant, 0.0, math.inf
        # ART's own search for the constant forgets an example when a later search fails.
        for _ in range(self.searches):
            found = self._descent(constant).generate(x, np.eye(self.estimator.nb_classes, dtype=np.float32)[y])
            broken, length = self._broken(found, y)[0], float(distance(found - x, "l2")[0])
            if broken:
                works = constant
                nearest, far = (found, length) if length < far else (nearest, far)
            else:
                fails = constant
            known = fails > 0 and works < math.inf
            constant = math.sqrt(fails * works) if known else constant * (0.1 if broken else 10)
        return np.asarray(nearest, dtype=np.float32)

    def _descent(self, constant: float) -> ZooAttack:
        return ZooAttack(
            self.estimator,
            learning_rate=self.learning_rate,
            max_iter=self.steps,
            binary_search_steps=1,
            initial_const=constant,
            use_resize=False,  # its sizes are fixed: 32, 64, 128
            nb_parallel=min(self.coordinates, math.prod(self.estimator.input_shape)),
            variable_h=self.difference,
            verbose=False,
        )
