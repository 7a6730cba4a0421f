"""Adversarial training: the network learns on inputs that are changed against it in every step."""

from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import objectives as tables
from tinyrobust.training import perturbations
from tinyrobust.training.front_end import is_sound
from tinyrobust.training.objectives.base import Batch, Objective, Supplies
from tinyrobust.training.objectives.cross_entropy import with_labels


class Adversarial(Objective):
    """Cross-entropy with the labels on perturbed inputs (Madry et al. 2018, eq. 2.1).

    The perturbation is made against the network as it is deployed (inference mode: every channel quantized, batch-norm
    statistics held); the loss, and so the update, sees it in training mode. Batch-norm statistics follow the clean and the
    attacked inputs, in turn. Labels are smoothed in the loss, not in the attack. Where sound is perturbed, validation is on
    features, which are not.
    """

    def __init__(self, table: tables.Adversarial, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.perturbation = perturbations.build(table.perturbation, supplies.seed)
        self.seed_generator = self.perturbation.seed_generator
        self.label_smoothing = supplies.label_smoothing

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        if "front-end" in self.needs and not is_sound(batch.inputs):
            return with_labels(batch.labels, batch.logits, self.label_smoothing)
        examples = ops.stop_gradient(self.perturbation(batch))
        return with_labels(batch.labels, batch.logits_of(examples, training=batch.training), self.label_smoothing)
