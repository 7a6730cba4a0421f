"""What objectives have in common that attack the network in every step."""

import abc

from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import objectives as tables
from tinyrobust.training import perturbations
from tinyrobust.training.front_end import is_sound
from tinyrobust.training.objectives.base import Batch, Objective, Supplies


class Attacking(Objective):
    """A term of the network's logits for inputs that are changed against it; subclasses write `value`.

    The examples are made against the network as it is deployed (inference mode: every channel quantized, batch-norm statistics
    held); the logits, and so the update, are those of training mode, and batch-norm statistics follow the examples. Where sound
    is perturbed, validation is on features, which are not.

    Attributes:
        perturbation: Makes the examples.
    """

    def __init__(self, table: tables.AttackingTable, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.perturbation = perturbations.build(table.perturbation, supplies.seed)
        self.seed_generator = self.perturbation.seed_generator

    def examples(self, batch: Batch) -> Tensor | None:
        """Inputs as `batch.inputs`, changed; None where there is no sound to change. It does not look at `Batch.logits`."""
        return ops.stop_gradient(self.perturbation(batch)) if self.attacks(batch) else None

    def attacks(self, batch: Batch) -> bool:
        """Whether the batch has what is perturbed: where that is sound, validation has not."""
        return "front-end" not in self.needs or is_sound(batch.inputs)

    def logits(self, batch: Batch, examples: Tensor | None) -> Tensor:
        """What the network makes of the examples, [n, classes]; where there are none, of the inputs."""
        return batch.logits if examples is None else batch.logits_of(examples, training=batch.training)

    @abc.abstractmethod
    def value(self, batch: Batch, logits: Tensor) -> Tensor:
        """The mean over the batch, a scalar.

        Args:
            batch: As it is.
            logits: For its examples, [n, classes].
        """

    def __call__(self, batch: Batch) -> Tensor:
        """See the base class."""
        return self.value(batch, self.logits(batch, self.examples(batch)))


def divergences(target: Tensor, logits: Tensor) -> Tensor:
    """`KL(p || q) = sum_k p_k (log p_k - log q_k)` [n] of the softmaxes p and q of two tensors of logits [n, classes]."""
    log_target = ops.log_softmax(target)
    return ops.sum(ops.exp(log_target) * (log_target - ops.log_softmax(logits)), axis=-1)
