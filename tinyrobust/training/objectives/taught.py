"""What objectives have in common that learn from a teacher."""

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import objectives as tables
from tinyrobust.training.objectives.attacking import Attacking, divergences
from tinyrobust.training.objectives.base import Batch, Objective, Supplies


class Taught(Objective):
    """An objective that needs a teacher, which is not trained and not stored with the student.

    Raises:
        ValueError: There is no teacher.
    """

    def __init__(self, table: tables.TaughtTable, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        if supplies.teacher is None:
            raise ValueError(f"Expected a teacher for {table.model_dump()['kind']}. Received: none")
        self.teacher = supplies.teacher
        self.teacher.trainable = False
        self.temperature = table.temperature

    def softened(self, batch: Batch) -> Tensor:
        """The teacher's logits for the batch, divided by T: `t / T`, [n, classes]."""
        assert batch.teacher_logits is not None
        return batch.teacher_logits / self.temperature


class RobustTransfer(Taught, Attacking):
    """One that learns on inputs which are changed against the student, by the teacher's answers to those that are not."""

    def divergences(self, batch: Batch, logits: Tensor) -> Tensor:
        """How far logits are from the batch's teacher at temperature T: `KL(softmax(t / T) || softmax(z / T))`, [n]."""
        return divergences(self.softened(batch), logits / self.temperature)
