"""Objectives of `[[train.objective]]` whose ensemble is draws of one network that is random (`[[stochastic]]`)."""

from typing import ClassVar, Literal

from pydantic import Field

from tinyrobust.recipe.objective_table import ObjectiveTable


class SampledTable(ObjectiveTable):
    """What objectives have whose ensemble is draws of one network that is random; it needs `[[stochastic]]`."""

    members: int = Field(ge=2, le=64, examples=[2], description="Draws of every image, in one pass of so many times the batch.")

    @property
    def samples(self) -> int:
        """See the base class."""
        return self.members


class Ensemble(SampledTable):
    """Cross-entropy of the ensemble and of its members, less beta times their mutual information (Farkya et al. 2023)."""

    objective: ClassVar[str] = "tinyrobust.training.objectives.ensemble:Ensemble"
    kind: Literal["ensemble"]
    beta: float = Field(1.0, ge=0, le=100, description="Weight of the mutual information, in nats a feature; 0: it has none.")

    @property
    def reads_features(self) -> bool:
        """See the base class."""
        return self.beta > 0


class Adp(SampledTable):
    """Adaptive diversity promoting (Pang et al. 2019): members whose wrong answers differ; a baseline."""

    objective: ClassVar[str] = "tinyrobust.training.objectives.ensemble:Adp"
    kind: Literal["adp"]
    alpha: float = Field(2.0, ge=0, le=100, description="Weight of the entropy of the mean prediction.")
    beta: float = Field(0.5, ge=0, le=100, description="Weight of the logarithm of the members' diversity.")

    def check_classes(self, classes: int) -> None:
        """See the base class."""
        if self.members >= classes:
            raise ValueError(
                f"Expected fewer members than classes for adp: so many non-maximal predictions are never independent. "
                f"Received: members = {self.members} for {classes} classes"
            )
