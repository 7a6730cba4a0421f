"""Adversarial training: the network learns on inputs that are changed against it in every step."""

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import objectives as tables
from tinyrobust.training.objectives.attacking import Attacking
from tinyrobust.training.objectives.base import Batch, Supplies
from tinyrobust.training.objectives.cross_entropy import with_labels


class Adversarial(Attacking):
    """Cross-entropy with the labels on perturbed inputs (Madry et al. 2018, eq. 2.1).

    Labels are smoothed in the loss, not in the attack. Batch-norm statistics follow clean and attacked inputs, in turn, or
    without `clean_statistics` the examples alone, as in the published recipes of fast adversarial training.
    """

    def __init__(self, table: tables.Adversarial, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.sees_clean = table.clean_statistics
        self.label_smoothing = supplies.label_smoothing

    def value(self, batch: Batch, logits: Tensor) -> Tensor:
        """See the class."""
        return with_labels(batch.labels, logits, self.label_smoothing)
