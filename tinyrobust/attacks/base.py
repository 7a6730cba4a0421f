"""What all attacks of this package share: labels, batches, samples that are broken already, seeds.

Interface: ART's `EvasionAttack`. Different from ART's own attacks, every one here gives the same result for a sample whatever
its neighbours in the batch are: random numbers belong to the image, not to its place.
"""

import abc
import math
import zlib
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from art.attacks.attack import EvasionAttack
from art.estimators.classification import ClassifierMixin
from art.estimators.estimator import BaseEstimator

from tinyrobust.attacks.norms import Norm, geometry, radii
from tinyrobust.errors import DataError, RecipeError

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class BatchedAttack(EvasionAttack):
    """An attack on batches of samples that are still classified as they should be.

    Subclasses write `_perturb`.

    Args:
        estimator: The target, an ART classifier.
        norm: How distances are measured; one of `norms`.
        epsilon: Radius of the ball around each input, in input units.
        targeted: Whether `y` of `generate` are the classes to reach rather than those to leave.
        batch_size: Samples that are attacked side by side.
        drop: Leave samples alone as soon as they are broken. Off: every sample gets the whole budget, and the example is the
            one of highest loss, which transfers better.
        seed: Fixes every random draw.

    Attributes:
        minimal: Whether the attack looks for the nearest adversarial example, however far, instead of staying within
            `epsilon`: its success at a radius is then for the caller to judge by the distance.

    Raises:
        RecipeError: A parameter is out of its range.
    """

    attack_params: ClassVar[list[str]] = [*EvasionAttack.attack_params, "norm", "epsilon", "batch_size", "drop", "seed"]
    _estimator_requirements = (BaseEstimator, ClassifierMixin)
    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2", "l1", "snr")
    minimal: ClassVar[bool] = False

    def __init__(
        self,
        estimator: Any,
        *,
        norm: Norm = "linf",
        epsilon: float,
        targeted: bool = False,
        batch_size: int = 256,
        drop: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(estimator=estimator)
        self.norm = norm
        self.epsilon = epsilon
        self.batch_size = batch_size
        self.drop = drop
        self.seed = seed
        self._targeted = targeted
        self._check_params()

    def _check_params(self) -> None:
        super()._check_params()
        if self.norm not in self.norms:
            raise RecipeError(f"Expected norm to be one of {', '.join(self.norms)}. Received: {self.norm!r}")
        if not self.epsilon > 0 or (math.isinf(self.epsilon) and not self.minimal) or self.batch_size < 1:
            received = f"epsilon={self.epsilon}, batch_size={self.batch_size}"
            raise RecipeError(f"Expected epsilon > 0 (and finite) and batch_size >= 1. Received: {received}")

    def generate(self, x: npt.NDArray[Any], y: npt.NDArray[Any] | None = None, **kwargs: Any) -> FloatArray:  # noqa: ARG002
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
        found = x.copy()
        for start in range(0, len(alive), self.batch_size):
            rows = alive[start : start + self.batch_size]
            found[rows] = self._perturb(x[rows], labels[rows])
        return found

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

    def _labels(self, x: FloatArray, y: npt.NDArray[Any] | None, predicted: IntArray | None) -> IntArray:
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
