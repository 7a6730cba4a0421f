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
    minimum. The paper's settings are the defaults: a = 5/6, temperature 1, ten steps of PGD at 8/255; its start is normal noise
    of deviation 0.001, where ours is a random point of the ball, or the input (`random_start`).
    """

    def __init__(self, table: tables.Rslad, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.alpha = table.alpha

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        divergences = partial(self.divergences, batch)
        examples = ops.stop_gradient(self.perturbation(batch, divergences))
        attacked = batch.logits_of(examples, training=batch.training)
        return (1 - self.alpha) * ops.mean(divergences(batch.logits)) + self.alpha * ops.mean(divergences(attacked))
