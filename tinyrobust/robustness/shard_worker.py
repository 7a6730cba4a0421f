"""One process that makes pieces: `python -m tinyrobust.robustness.shard_worker`, started by `tinyrobust.robustness.shards`.

Tasks come in on stdin and answers go out on stdout, a JSON object a line. It makes pieces of the same job as the evaluation
that started it; pieces of another one would be refused.
"""

import json
import sys
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from tinyrobust import workers
from tinyrobust.attacks.specs import Attack, AttackSpec
from tinyrobust.errors import TinyRobustError
from tinyrobust.robustness import job_files
from tinyrobust.robustness.crafting import Crafter
from tinyrobust.robustness.subject import EvaluationTargets
from tinyrobust.robustness.subset import Subset
from tinyrobust.training.fit import seed_everything


def main(folder: str, cores: str) -> int:
    """Makes pieces until stdin ends; returns the exit status where that cannot be."""
    teller, lines = workers.begin(cores)
    try:
        crafter = _crafter(Path(folder))
        kinds: TypeAdapter[AttackSpec] = TypeAdapter(Attack)
        while True:
            task = json.loads(lines.get())
            crafter.make(kinds.validate_python(task["attack"]), task["epsilon"], task["number"], np.asarray(task["rows"]))
            teller.tell({"made": task["name"]})
    except TinyRobustError as error:
        teller.tell({"error": error.message, "hint": error.hint})
        return 1


def _crafter(folder: Path) -> Crafter:
    job = job_files.read(folder)
    seed_everything(job.plan.seed)
    # All samples of this job are attacked; what the targets say of them without attack is the evaluation's affair.
    subset = Subset(np.arange(len(job.data.labels)), job.data.samples[:], job.data.labels, {})
    targets = EvaluationTargets(job.subject, job.plan.seed)
    targets.fit(job.plan, subset.image, subset.label)
    return Crafter(job, targets, subset)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
