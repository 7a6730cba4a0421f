"""Adversarially robust distillation: a robust teacher's soft labels of clean inputs, on attacked ones."""

from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import objectives as tables
from tinyrobust.training.objectives.base import Batch, Supplies
from tinyrobust.training.objectives.cross_entropy import with_labels
from tinyrobust.training.objectives.taught import RobustTransfer


class Ard(RobustTransfer):
    """ARD (Goldblum et al. 2020, arXiv 1905.09747).

    forward: `(1 - a) CE(z(x), y) + a T^2 KL(softmax(t(x) / T) || softmax(z(x') / T))`, where t are the teacher's logits and x'
    raises the student's cross-entropy with the labels in the ball of the perturbation, made as for adversarial training
    (`adversarial.py`). T^2 keeps the size of the gradient whatever T is. The labels of the first term are smoothed as the
    recipe says, those that the perturbation raises are not. The paper's settings are the defaults: a = 1, T = 30, ten steps of
    PGD at 8/255.
    """

    def __init__(self, table: tables.Ard, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.alpha = table.alpha
        self.label_smoothing = supplies.label_smoothing
        self.sees_clean = table.alpha < 1

    def value(self, batch: Batch, logits: Tensor) -> Tensor:
        """See the class."""
        transfer = self.alpha * self.temperature**2 * ops.mean(self.divergences(batch, logits))
        if not self.sees_clean:
            return transfer
        return (1 - self.alpha) * with_labels(batch.labels, batch.logits, self.label_smoothing) + transfer
