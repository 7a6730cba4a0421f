"""Objectives of an ensemble whose members are draws of one network that is random at inference."""

import abc

from keras import ops

from tinyrobust.gradients import Tensor
from tinyrobust.graphs.members import Answers, Members
from tinyrobust.recipe import ensembles as tables
from tinyrobust.training.objectives.base import Batch, Objective, Supplies
from tinyrobust.training.objectives.cross_entropy import with_labels

# Added to the diagonal of the members' similarities before their determinant.
_DIAGONAL = 1e-4


class Sampled(Objective):
    """A term of what M members say of every input, drawn in one pass of M times the batch; subclasses write `value`.

    Batch-norm statistics follow that pass. Accuracy is that of the ensemble, whose probabilities are the members' mean.

    Attributes:
        members: M.
    """

    sees_clean = False

    def __init__(self, table: tables.SampledTable, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.members = table.members
        self.label_smoothing = supplies.label_smoothing

    def answers(self, batch: Batch) -> Answers:
        """What the members say of the batch."""
        return Members(batch.network, self.members)(batch.front_end(batch.inputs), training=batch.training)

    @abc.abstractmethod
    def value(self, batch: Batch, answers: Answers) -> Tensor:
        """The mean over the batch, a scalar."""

    def __call__(self, batch: Batch) -> Tensor:
        """See the base class."""
        return self.value(batch, self.answers(batch))

    def of_members(self, batch: Batch, answers: Answers) -> Tensor:
        """The mean cross-entropy of the members with the labels, a scalar."""
        rows = ops.reshape(answers.logits, (-1, answers.logits.shape[-1]))
        return with_labels(ops.tile(batch.labels, (self.members,)), rows, self.label_smoothing)


class Ensemble(Sampled):
    """Members that are right together and alone, and differ in their features (Farkya et al. 2023, arXiv 2312.00105).

    forward: `CE(y, mean_m p_m) + mean_m CE(y, p_m) - beta MI`, p_m the members' probabilities and MI the mutual information of
    members and binary final features (`quantizers.stochastic.mutual_information`), the means over the batch. Labels are
    smoothed in both cross-entropies. With beta = 0 the features are not looked at.

    The value may be negative: MI is at most ln 2.
    """

    def __init__(self, table: tables.Ensemble, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.beta = table.beta

    def value(self, batch: Batch, answers: Answers) -> Tensor:
        """See the class."""
        together = with_labels(batch.labels, answers.together, self.label_smoothing)
        value = together + self.of_members(batch, answers)
        return value - self.beta * ops.mean(answers.information) if self.beta else value


class Adp(Sampled):
    """Adaptive diversity promoting (Pang et al. 2019, arXiv 1901.08846, eqs. 4 to 6).

    forward: `sum_m CE(y, p_m) - alpha H(mean_m p_m) - beta log det(F F^T)`, the mean over the batch. H is the entropy in nats;
    the rows of F, one a member, are the probabilities without that of the label, each of length 1. The determinant is the
    square of the volume that they span: 1 where the members' wrong answers have nothing in common, 0 where two are the same.
    1e-4 is added to the diagonal, where the authors add 1e-6: in single precision, the matrix of equal members stays positive
    definite so.
    """

    def __init__(self, table: tables.Adp, supplies: Supplies) -> None:
        super().__init__(table, supplies)
        self.alpha, self.beta = table.alpha, table.beta

    def value(self, batch: Batch, answers: Answers) -> Tensor:
        """See the class."""
        mean = ops.exp(answers.together)
        entropy = -ops.mean(ops.sum(mean * answers.together, axis=-1))
        diversity = ops.mean(log_diversity(ops.softmax(answers.logits), batch.labels))
        return self.members * self.of_members(batch, answers) - self.alpha * entropy - self.beta * diversity


def log_diversity(probabilities: Tensor, labels: Tensor) -> Tensor:
    """`log det(F F^T)` [n] of probabilities [members, n, classes] and labels [n]; see `Adp`."""
    classes = probabilities.shape[-1]
    others = ops.transpose(probabilities * (1 - ops.one_hot(labels, classes, dtype=probabilities.dtype)), (1, 0, 2))
    length = ops.sqrt(ops.sum(ops.square(others), axis=-1, keepdims=True) + 1e-20)
    rows = others / length
    alike = ops.matmul(rows, ops.transpose(rows, (0, 2, 1))) + _DIAGONAL * ops.eye(rows.shape[1], dtype=rows.dtype)
    # The determinant of a positive definite matrix is the squared product of the diagonal of its Cholesky factor.
    return 2 * ops.sum(ops.log(ops.diagonal(ops.cholesky(alike), axis1=-2, axis2=-1)), axis=-1)
