"""What a process that makes pieces does: it makes those of the same job as the evaluation; others would be refused."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from tinyrobust.attacks.specs import Attack, AttackSpec
from tinyrobust.execution.executor import Channel
from tinyrobust.robustness import job_files
from tinyrobust.robustness.crafting import Crafter
from tinyrobust.robustness.shards import Piece
from tinyrobust.robustness.subject import EvaluationTargets
from tinyrobust.robustness.subset import Subset
from tinyrobust.training.fit import seed_everything


def make(piece: Piece, channel: Channel) -> None:
    """Makes a piece."""
    del channel
    specs: TypeAdapter[AttackSpec] = TypeAdapter(Attack)
    attack = specs.validate_python(piece.attack)
    _crafter(piece.folder).make(attack, piece.epsilon, piece.number, np.asarray(piece.rows))


@lru_cache(maxsize=1)  # networks are loaded once in a process
def _crafter(folder: Path) -> Crafter:
    job = job_files.read(folder)
    seed_everything(job.plan.seed)
    # All samples of this job are attacked; what the targets say of them without attack is the evaluation's affair.
    subset = Subset(np.arange(len(job.data.labels)), job.data.samples[:], job.data.labels, {})
    targets = EvaluationTargets(job.subject, job.plan.seed)
    targets.fit(job.plan, subset.image, subset.label)
    crafter = Crafter(job, targets, subset)
    crafter.learn()
    return crafter
