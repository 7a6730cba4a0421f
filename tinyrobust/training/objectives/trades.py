"""TRADES: accuracy on inputs as they are, and answers that stay the same near them."""

from functools import partial

from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import objectives as tables
from tinyrobust.training.objectives.attacking import Attacking, divergences
from tinyrobust.training.objectives.base import Batch, Supplies
from tinyrobust.training.objectives.cross_entropy import with_labels


class Trades(Attacking):
    """Cross-entropy on clean inputs and divergence of the answers near them (Zhang et al. 2019, arXiv 1901.08573, eq. 5).

    forward: `CE(y, z(x)) + beta KL(softmax z(x) || softmax z(x'))`, the means over the batch, where x' raises the divergence
    from the softmax of x, both in inference mode. The gradient goes through z(x) and z(x'), as in the authors' code. Labels are
    smoothed in the first term. With beta = 0 nothing is attacked.
    """

    def __init__(self, table: tables.Trades, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.beta = table.beta
        self.label_smoothing = supplies.label_smoothing

    def examples(self, batch: Batch) -> Tensor | None:
        """Inputs as `batch.inputs`, at which the divergence is higher; None where there is nothing to change."""
        if not self.beta or not self.attacks(batch):
            return None
        clean = ops.stop_gradient(batch.logits_of(batch.inputs, training=False))
        return ops.stop_gradient(self.perturbation(batch, partial(divergences, clean)))

    def value(self, batch: Batch, logits: Tensor) -> Tensor:
        """See the class."""
        clean = with_labels(batch.labels, batch.logits, self.label_smoothing)
        return clean + self.beta * ops.mean(divergences(batch.logits, logits)) if self.beta else clean
