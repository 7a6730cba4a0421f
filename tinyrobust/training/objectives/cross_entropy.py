"""Cross-entropy with the labels."""

from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.recipe import objectives as tables
from tinyrobust.training.objectives.base import Batch, Objective, Supplies


class CrossEntropy(Objective):
    """Cross-entropy with the labels at temperature T: `-log softmax(z / T)[y]`.

    T > 1 trains the teacher of defensive distillation (Papernot et al. 2016, arXiv 1511.04508, section IV).
    """

    def __init__(self, table: tables.CrossEntropy, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.temperature = table.temperature
        self.label_smoothing = supplies.label_smoothing

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        return with_labels(batch.labels, batch.logits / self.temperature, self.label_smoothing)


def with_labels(labels: Tensor, logits: Tensor, label_smoothing: float) -> Tensor:
    """The mean cross-entropy of logits [n, classes] with class indices [n], a share of the target spread over all classes."""
    classes = logits.shape[-1]
    targets = ops.one_hot(labels, classes, dtype=logits.dtype)
    return with_targets(targets * (1 - label_smoothing) + label_smoothing / classes, logits)


def with_targets(targets: Tensor, logits: Tensor) -> Tensor:
    """The mean cross-entropy of logits [n, classes] with probabilities [n, classes]."""
    return -ops.mean(ops.sum(targets * ops.log_softmax(logits), axis=-1))
