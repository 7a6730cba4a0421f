"""Robust soft label adversarial distillation: a robust teacher's soft labels in every term, and in the perturbation."""

from functools import partial

from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import objectives as tables
from tinyrobust.training.objectives.base import Batch, Supplies
from tinyrobust.training.objectives.taught import RobustTransfer


class Rslad(RobustTransfer):
    """RSLAD (Zi et al. 2021, arXiv 2108.07969).

    forward: `(1 - a) KL(T(x) || S(x)) + a KL(T(x) || S(x'))`, where T and S are the probabilities of teacher and student and x'
    raises `KL(T(x) || S(x'))` in the ball of the perturbation; labels are not looked at. The paper writes the arguments of KL
    the other way round, as PyTorch's `kl_div` takes them: its code (`rslad_loss.py`) has the teacher's probabilities as the
    weights, and so has this. That code averages over the classes too; here they are summed, which is a factor and no other
    minimum. The paper's settings are the defaults: a = 5/6, temperature 1, ten steps of PGD at 8/255 from beside the input.
    """

    def __init__(self, table: tables.Rslad, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.alpha = table.alpha

    def examples(self, batch: Batch) -> Tensor:
        """Inputs as `batch.inputs`, at which the divergence from the teacher's answers is higher."""
        return ops.stop_gradient(self.perturbation(batch, partial(self.divergences, batch)))

    def value(self, batch: Batch, logits: Tensor) -> Tensor:
        """See the class."""
        clean, attacked = (ops.mean(self.divergences(batch, one)) for one in (batch.logits, logits))
        return (1 - self.alpha) * clean + self.alpha * attacked
