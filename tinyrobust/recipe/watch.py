"""`[train.watch]`: robust accuracy on validation images after every epoch, and what is done about it."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from tinyrobust.recipe.objective_table import ObjectiveTable
from tinyrobust.recipe.perturbation import Fgsm, NFgsm, Perturbation, Pgd, PgdL2, Snr
from tinyrobust.recipe.table import Count, Table

_STEPS = 10


class Watch(Table):
    """What is attacked after every epoch, and when training goes back."""

    perturbation: Perturbation | None = Field(
        None, description="None: ten steps of PGD in the ball of the first objective that attacks."
    )
    samples: Count = Field(512, description="The first of the validation images; all, where there are fewer.")
    keep: Literal["best", "last"] = Field(
        "best", description="Whose weights are the result: those of the epoch with the highest robust accuracy, or of the last."
    )
    collapse: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5,
        description="Robust accuracy below this share of the best so far (and ten points below it), while the training loss "
        "falls, is catastrophic overfitting: training goes on from the best epoch.",
    )
    rollbacks: int = Field(3, ge=0, description="So often; at the next collapse it stops.")

    def against(self, objectives: Sequence[ObjectiveTable]) -> Perturbation:
        """What attacks the network, given or not.

        Raises:
            ValueError: None is given, and no objective says in which ball; or it is one of sound: validation is on features.
        """
        attacked = [perturbation for one in objectives if (perturbation := one.perturbed_by)]
        chosen = self.perturbation or next(iter(attacked), None)
        if chosen is None or isinstance(chosen, Snr):
            raise ValueError(
                "Expected train.watch.perturbation, one of the network's input, where no objective has such a one. "
                f"Received: {chosen.kind if chosen else 'none'}"
            )
        if self.perturbation:
            return self.perturbation
        if isinstance(chosen, PgdL2):
            return PgdL2(kind="pgd-l2", epsilon=chosen.epsilon, steps=_STEPS)
        assert isinstance(chosen, Fgsm | NFgsm | Pgd)
        return Pgd(kind="pgd", epsilon=chosen.epsilon, steps=_STEPS)
