"""How robust a teacher is, measured before a student learns from it."""

from functools import partial

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tinyrobust.data.arrays import Split, scale
from tinyrobust.gradients import Tensor
from tinyrobust.progress import Progress
from tinyrobust.recipe.perturbation import Pgd
from tinyrobust.training import perturbations
from tinyrobust.training.objectives import Batch
from tinyrobust.training.perturbations.base import cross_entropies
from tinyrobust.training.teacher_record import TeacherRecord, TeacherRobustness

_IMAGES, _BATCH, _STEPS = 512, 256, 20


def check(
    teacher: keras.Model,
    validation: Split,
    epsilons: tuple[float, ...],
    seed: int,
    progress: Progress,
    temperature: float = 1.0,
) -> TeacherRecord:
    """Its accuracy on the first 512 validation images, clean and under PGD of 20 steps from a random start at every radius.

    Args:
        teacher: A network with logits.
        validation: Images, or features of clips.
        epsilons: Radii, L-inf, in input units.
        seed: Of the attack's starts.
        progress: Called with a label, steps done and all steps.
        temperature: That the teacher is trained at. The attack is on logits / T: its gradients vanish elsewhere.
    """
    few = validation.take(np.arange(min(_IMAGES, len(validation))))
    batches = [(scale(few.x[start : start + _BATCH]), few.y[start : start + _BATCH]) for start in range(0, len(few), _BATCH)]
    attacks = [perturbations.build(Pgd(kind="pgd", epsilon=epsilon, steps=_STEPS), seed) for epsilon in epsilons]
    right = np.zeros(1 + len(attacks), np.int64)
    for number, (x, y) in enumerate(batches):
        progress("teacher check", number, len(batches))
        logits = teacher(x, training=False)
        batch = Batch(x, y, logits, teacher, training=False)
        losses = partial(_losses, y, temperature)
        every = [logits, *(teacher(attack(batch, losses), training=False) for attack in attacks)]
        right += [int((ops.convert_to_numpy(one).argmax(axis=1) == y).sum()) for one in every]
    accuracy, *robust = (right / len(few)).tolist()
    record = TeacherRecord(
        images=len(few),
        accuracy=accuracy,
        chance=float(np.bincount(few.y).max() / len(few)),
        steps=_STEPS,
        robust=tuple(TeacherRobustness(epsilon=one, accuracy=left) for one, left in zip(epsilons, robust, strict=True)),
    )
    progress(f"teacher check: {' '.join(record.warnings) or record.in_words}", len(batches), len(batches))
    return record


def _losses(labels: npt.NDArray[np.int64], temperature: float, logits: Tensor) -> Tensor:
    return cross_entropies(labels, logits / temperature)
