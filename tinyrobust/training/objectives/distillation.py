"""Cross-entropy with a teacher's soft labels."""

from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.training.objectives.base import Batch
from tinyrobust.training.objectives.cross_entropy import with_targets
from tinyrobust.training.objectives.taught import Taught


class Distillation(Taught):
    """Cross-entropy with the teacher's soft labels, both at temperature T (Papernot et al. 2016, eq. 6).

    forward: `-sum_k softmax(t / T)_k log softmax(z / T)_k`. The student is deployed at T = 1, where its logits are T times as
    large as those of an ordinary network: its softmax saturates, and gradients of the loss vanish without the network being
    robust. Attack logits or logits / T, never the probabilities.
    """

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        return with_targets(ops.softmax(self.softened(batch)), batch.logits / self.temperature)
