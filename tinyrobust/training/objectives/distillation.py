"""Cross-entropy with a teacher's soft labels."""

from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import objectives as tables
from tinyrobust.training.objectives.base import Batch, Objective, Supplies
from tinyrobust.training.objectives.cross_entropy import with_targets


class Distillation(Objective):
    """Cross-entropy with the teacher's soft labels, both at temperature T (Papernot et al. 2016, eq. 6).

    forward: `-sum_k softmax(t / T)_k log softmax(z / T)_k`. The student is deployed at T = 1, where its logits are T times as
    large as those of an ordinary network: its softmax saturates, and gradients of the loss vanish without the network being
    robust. Attack logits or logits / T, never the probabilities.

    The teacher is not trained and not stored with the student.

    Raises:
        ValueError: There is no teacher.
    """

    def __init__(self, table: tables.Distillation, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        if supplies.teacher is None:
            raise ValueError("Expected a teacher for distillation. Received: none")
        self.teacher = supplies.teacher
        self.teacher.trainable = False
        self.temperature = table.temperature

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        soft = ops.softmax(ops.stop_gradient(self.teacher(batch.features, training=False)) / self.temperature)
        return with_targets(soft, batch.logits / self.temperature)
