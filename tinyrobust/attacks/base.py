"""What all attacks of this package share: labels, batches, samples that are broken already, seeds.

Interface: ART's `EvasionAttack`. Different from ART's own attacks, every one here gives the same result for a sample whatever
its neighbours in the batch are: random numbers belong to the image, not to its place.
"""

import abc
import functools
import math
import zlib
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from art.attacks.attack import EvasionAttack
from art.estimators.classification import ClassifierMixin
from art.estimators.estimator import BaseEstimator

from tinyrobust.attacks.graph import graph_target
from tinyrobust.attacks.norms import geometry, radii
from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.attacks.target import Differentiable, FloatArray, IntArray, Target
from tinyrobust.errors import DataError, RecipeError

SpecT = TypeVar("SpecT", bound=AttackSpec)
# What an attack is given besides its spec.
_RUN = ("epsilon", "batch_size", "drop", "seed")


class BatchedAttack(EvasionAttack, Generic[SpecT]):
    """An attack on batches of samples that are still classified as they should be; `AttackSpec.build` makes it.

    Subclasses write `_perturb`, and check in `_check_params` what depends on the target; the spec has checked the rest. ART
    reads and sets the fields of the spec as if they were the attack's own (`attack_params`, `set_params`).

    Args:
        estimator: The target, an ART classifier.
        spec: All parameters.
        epsilon: Radius of the ball around each input, in input units. Of an attack that looks for the nearest adversarial
            example, however far, success at a radius is for the caller to judge by the distance.
        targeted: Whether `y` of `generate` are the classes to reach rather than those to leave.
        batch_size: Samples that are attacked side by side.
        drop: Leave samples alone as soon as they are broken. Off: every sample gets the whole budget, and the example is the
            one of highest loss, which transfers better.
        seed: Fixes every random draw.

    Raises:
        RecipeError: The attack cannot be run on this target, or not with these arguments.
    """

    estimator: Target
    _estimator_requirements: ClassVar[tuple[type, ...]] = (BaseEstimator, ClassifierMixin)

    def __init__(
        self, estimator: Target, spec: SpecT, *, epsilon: float, targeted: bool, batch_size: int, drop: bool, seed: int
    ) -> None:
        super().__init__(estimator=estimator)
        self.spec = spec
        self.epsilon = epsilon
        self.batch_size = batch_size
        self.drop = drop
        self.seed = seed
        self._targeted = targeted
        self._check_params()

    def __getattr__(self, name: str) -> Any:
        """ART reads parameters as attributes."""
        spec = self.__dict__.get("spec")
        if spec is None or name not in self._parameters:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(spec, name)

    @property
    def attack_params(self) -> list[str]:
        """Names of all parameters, as ART has it."""
        return [*self._parameters, *_RUN]

    def set_params(self, **kwargs: Any) -> None:
        """Sets parameters by name.

        Raises:
            RecipeError: A value is out of its range.
            ValueError: There is no such parameter.
        """
        fields = {name: kwargs.pop(name) for name in self._parameters if name in kwargs}
        self.spec = type(self.spec).of(**{**self.spec.model_dump(), **fields})
        super().set_params(**kwargs)

    @property
    def norm(self) -> Norm:
        """How distances are measured."""
        return self.spec.norm

    @property
    def _parameters(self) -> list[str]:
        return ["norm", *self.spec.parameter_names()]

    def _check_params(self) -> None:
        super()._check_params()
        if self.targeted and not self.spec.targetable:
            raise RecipeError("Expected true classes: this attack is untargeted. Received: targeted=True")
        if not self.epsilon > 0 or (math.isinf(self.epsilon) and not self.spec.minimal) or self.batch_size < 1:
            received = f"epsilon={self.epsilon}, batch_size={self.batch_size}"
            raise RecipeError(f"Expected epsilon > 0 (and finite) and batch_size >= 1. Received: {received}")

    def generate(self, x: npt.ArrayLike, y: npt.ArrayLike | None = None, **kwargs: object) -> FloatArray:  # noqa: ARG002
        """Adversarial examples.

        Args:
            x: Inputs [n, ...] within the target's `clip_values`.
            y: Classes [n] or one-hot rows [n, classes]: the true ones, or with `targeted` those to reach. Absent: what the
                target predicts.
            kwargs: Ignored.

        Returns:
            float32 [n, ...]. A sample that is broken without attack (and with `drop`) comes back as it is. One that was not
            broken comes back as the best attempt; from an attack that is `minimal`, as it is.

        Raises:
            DataError: `x` holds values that are no finite numbers, or is of another shape than the target's inputs; `x` and
                `y` do not fit together, `y` names a class that there is not, or a targeted attack got no `y`.
        """
        x = np.ascontiguousarray(x, dtype=np.float32)
        if not np.isfinite(x).all():
            raise DataError(f"Expected finite inputs. Received: NaN or infinite values in an array of shape {x.shape}")
        predicted = np.argmax(self.estimator.predict(x), axis=1) if y is None or self.drop else None
        labels = self._labels(x, y, predicted)
        alive = np.arange(len(x))
        if self.drop and predicted is not None:
            alive = np.flatnonzero((predicted == labels) != self.targeted)
        examples = x.copy()
        for start in range(0, len(alive), self.batch_size):
            rows = alive[start : start + self.batch_size]
            examples[rows] = self._perturb(x[rows], labels[rows])
        return examples

    @abc.abstractmethod
    def _perturb(self, x: FloatArray, y: IntArray) -> FloatArray:
        """Examples for one batch.

        Args:
            x: Inputs [b, ...], 1 <= b <= batch_size; with `drop`, none is broken yet.
            y: Classes [b] to leave, or with `targeted` to reach.
        """

    @property
    def _ball(self) -> Norm:
        """What the balls are like: L-inf, L2 or L1."""
        return geometry(self.norm)

    def _radii(self, x: FloatArray, epsilon: float) -> FloatArray:
        """The radius [n] of every sample's ball, for `epsilon` in the attack's norm."""
        return radii(x, epsilon, self.norm, sum(self._bounds) / 2)

    @property
    def _bounds(self) -> tuple[float, float]:
        """Lowest and highest value of an input."""
        low, high = self.estimator.clip_values
        return float(np.min(low)), float(np.max(high))

    def _generators(self, x: FloatArray, *run: int) -> list[np.random.Generator]:
        """A random generator for every sample: a function of the seed, the image and `run` (restart, ...), nothing else."""
        return [np.random.default_rng((self.seed, *run, zlib.crc32(row.tobytes()))) for row in x]

    def _labels(self, x: FloatArray, y: npt.ArrayLike | None, predicted: IntArray | None) -> IntArray:
        if y is None:
            if self.targeted or predicted is None:
                raise DataError("Expected the classes to reach as y: the attack is targeted. Received: None")
            return predicted
        labels = np.asarray(y)
        labels = np.argmax(labels, axis=1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1)
        if len(labels) != len(x):
            raise DataError(f"Expected a label for each of {len(x)} inputs. Received: {len(labels)} labels")
        classes = self.estimator.nb_classes
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise DataError(f"Expected labels from 0 to {classes - 1}. Received: {labels.min()} to {labels.max()}")
        return labels.astype(np.int64)


class WhiteBoxAttack(BatchedAttack[SpecT]):
    """An attack on gradients.

    Raises:
        ModelFileError: The target has none.
        RecipeError: As `BatchedAttack`.
    """

    def _check_params(self) -> None:
        super()._check_params()
        graph_target(self.estimator)

    @functools.cached_property
    def _target(self) -> Differentiable:
        return graph_target(self.estimator)
