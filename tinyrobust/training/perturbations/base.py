"""The loop that perturbations share."""

import abc
import pkgutil
from collections.abc import Callable

import keras
from keras import ops

from tinyrobust.gradients import Tensor, value_and_gradient
from tinyrobust.recipe.perturbation import PerturbationTable
from tinyrobust.training.objectives.base import Batch


class Perturbation(abc.ABC):
    """Inputs x near those of a batch at which the network's loss is higher.

    `d = start; steps times d = project(d + step(grad_d loss(x + d))); clip(x + d, 0, 1)`, where the loss is the cross-entropy
    of the network as it is deployed (inference mode), or another one that is given. Subclasses write `radius`, `start`, `step`
    and `project`.

    Args:
        seed: Fixes the random draws.
        steps: Gradients a batch.
    """

    def __init__(self, seed: int, steps: int) -> None:
        self.steps = steps
        self.seed_generator = keras.random.SeedGenerator(seed)

    def __call__(self, batch: Batch, loss: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The changed inputs, of the shape of `batch.inputs`, in [0, 1].

        Args:
            batch: What is changed, and the network.
            loss: Takes logits [n, classes] and returns losses [n] to be raised; None: the cross-entropy with the labels.
        """
        x = ops.convert_to_tensor(batch.inputs)
        radius = self.radius(x)
        moved = self.start(x, radius)

        def with_labels(logits: Tensor) -> Tensor:
            labels = ops.one_hot(batch.labels, logits.shape[-1], dtype=logits.dtype)
            return -ops.sum(labels * ops.log_softmax(logits), axis=-1)

        losses = loss or with_labels

        def total(inputs: Tensor) -> Tensor:
            return self.total(losses(batch.logits_of(inputs, training=False)))

        for _ in range(self.steps):
            _, gradient = value_and_gradient(total, x + moved)
            moved = self.project(moved + self.step(gradient, radius), x, radius)
        return ops.clip(x + moved, 0.0, 1.0)

    def total(self, losses: Tensor) -> Tensor:
        """One scalar of losses [n]: their sum, so that a sample's gradient does not depend on how many there are."""
        return ops.sum(losses)

    @abc.abstractmethod
    def radius(self, x: Tensor) -> Tensor:
        """Radius of the ball around each input: a number, or a tensor [n, 1, ...]."""

    @abc.abstractmethod
    def start(self, x: Tensor, radius: Tensor) -> Tensor:
        """The change, of the shape of `x`, at which the first gradient is taken."""

    @abc.abstractmethod
    def step(self, gradient: Tensor, radius: Tensor) -> Tensor:
        """What is added to the change, given the gradient of the loss there."""

    @abc.abstractmethod
    def project(self, moved: Tensor, x: Tensor, radius: Tensor) -> Tensor:
        """The nearest change that is allowed."""


def build(table: PerturbationTable, seed: int) -> Perturbation:
    """The perturbation of a table."""
    perturbation: Perturbation = pkgutil.resolve_name(table.perturbation)(table, seed)
    return perturbation
