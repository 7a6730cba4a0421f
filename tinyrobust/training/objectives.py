"""Training objectives: terms that see a batch and return a scalar; they add up, each with a weight and a logged curve.

Written in `keras.ops`, so that they run on every backend.
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from keras import ops

Tensor = Any


@dataclass(frozen=True)
class Batch:
    """What an objective sees.

    Attributes:
        inputs: Float images [n, h, w, c] in [0, 1].
        labels: Class indices [n].
        logits: The network's outputs [n, classes].
        network: The network itself, for objectives that call it again or look inside.
        training: False when the value is only monitored, on validation images.
    """

    inputs: Tensor
    labels: Tensor
    logits: Tensor
    network: keras.Model
    training: bool


class Objective(abc.ABC):
    """A term of the training loss. `name` is its key in the history; `weight` multiplies it in the sum.

    An objective that draws at random has a `seed_generator`: the learner stores its state, so that a resumed run draws on.
    """

    name: ClassVar[str]
    seed_generator: keras.random.SeedGenerator | None = None

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @abc.abstractmethod
    def __call__(self, batch: Batch) -> Tensor:
        """The mean over the batch, a scalar."""


class CrossEntropy(Objective):
    """Cross-entropy with the labels at temperature T: `-log softmax(z / T)[y]`.

    Args:
        label_smoothing: Share of the target spread evenly over the classes, in [0, 1).
        temperature: T > 1 trains the teacher of defensive distillation (Papernot et al. 2016, arXiv 1511.04508, section IV).
        weight: Factor in the sum.
    """

    name = "cross_entropy"

    def __init__(self, label_smoothing: float = 0.0, temperature: float = 1.0, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.label_smoothing = label_smoothing
        self.temperature = temperature

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        classes = batch.logits.shape[-1]
        targets = ops.one_hot(batch.labels, classes, dtype=batch.logits.dtype)
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / classes
        return _cross_entropy(targets, batch.logits / self.temperature)


class Distillation(Objective):
    """Cross-entropy with the teacher's soft labels, both at temperature T (Papernot et al. 2016, eq. 6).

    forward: `-sum_k softmax(t / T)_k log softmax(z / T)_k`. The student is deployed at T = 1, where its logits are T times as
    large as those of an ordinary network: its softmax saturates, and gradients of the loss vanish without the network being
    robust. Attack logits or logits / T, never the probabilities.

    Args:
        teacher: A trained network with logits; it is not trained and not stored with the student.
        temperature: T.
        weight: Factor in the sum.
    """

    name = "distillation"

    def __init__(self, teacher: keras.Model, temperature: float, weight: float = 1.0) -> None:
        super().__init__(weight)
        teacher.trainable = False
        self.teacher = teacher
        self.temperature = temperature

    def __call__(self, batch: Batch) -> Tensor:
        """See the class."""
        soft = ops.softmax(ops.stop_gradient(self.teacher(batch.inputs, training=False)) / self.temperature)
        return _cross_entropy(soft, batch.logits / self.temperature)


def _cross_entropy(targets: Tensor, logits: Tensor) -> Tensor:
    return -ops.mean(ops.sum(targets * ops.log_softmax(logits), axis=-1))
