"""What every table of `[[train.objective]]` has; the tables are in `objectives.py`."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from tinyrobust.recipe.perturbation import PerturbationTable
from tinyrobust.recipe.table import Table

Need = Literal["activations", "features", "teacher", "input-gradient", "front-end"]


class ObjectiveTable(Table):
    """What all objectives have.

    Attributes:
        objective: The class, `module:class`, imported when a network is trained.
        penalty: Whether it teaches nothing, and can only stand beside an objective that does.
    """

    objective: ClassVar[str]
    penalty: ClassVar[bool] = False
    weight: float = Field(1.0, gt=0, description="Factor in the sum of all objectives.")

    @property
    def needs(self) -> frozenset[Need]:
        """What it needs beside inputs, labels and logits.

        - "activations": what the hidden layers put out in the forward pass that made the logits;
        - "features": what the network itself is given, which is not the inputs where those are sound;
        - "teacher": a network that is trained before, in the stage `teacher`;
        - "input-gradient": gradients with respect to the inputs;
        - "front-end": sound for inputs, and a front end with gradients before the network.
        """
        return frozenset()

    @property
    def samples(self) -> int:
        """How many draws of a random network it looks at, as the members of an ensemble; 0: it takes one as it comes."""
        return 0

    @property
    def reads_features(self) -> bool:
        """Whether it looks at the final features that a `[[stochastic]]` makes binary."""
        return False

    def check_classes(self, classes: int) -> None:
        """Refuses a number of classes that it makes no sense for.

        Raises:
            ValueError: It makes none.
        """

    @property
    def perturbed_by(self) -> PerturbationTable | None:
        """How its inputs are changed; None where they are taken as they are."""
        return None


def needs(objectives: Sequence[ObjectiveTable]) -> frozenset[Need]:
    """What objectives need, together."""
    return frozenset[Need]().union(*(objective.needs for objective in objectives))


def check_together(objectives: Sequence[ObjectiveTable]) -> None:
    """What must hold of all objectives of one training.

    Raises:
        ValueError: None of them teaches, or some perturb the network's input and others the sound before the front end.
    """
    if objectives and all(objective.penalty for objective in objectives):
        raise ValueError(
            "Expected an objective that learns from labels or a teacher beside penalties. "
            f"Received: {', '.join(map(_kind, objectives))}"
        )
    attacked = [perturbation for one in objectives if (perturbation := one.perturbed_by)]
    if len({perturbation.domain for perturbation in attacked}) > 1:
        raise ValueError(
            "Expected perturbations of the network's input or of the sound before the front end, not both in one training. "
            f"Received: {', '.join(map(_kind, attacked))}"
        )


def _kind(table: Table) -> str:
    return str(table.model_dump()["kind"])
