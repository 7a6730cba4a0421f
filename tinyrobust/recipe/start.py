"""`[train.start]`: the float network whose weights training with the recipe's quantizers starts from."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.model_file import ModelFile
from tinyrobust.recipe.objective_table import check_together, needs
from tinyrobust.recipe.objectives import LABELS, Objective
from tinyrobust.recipe.table import Count, Table


class FloatNetwork(Table):
    """A float network of the recipe, trained first. Adversarial objectives make a robust start."""

    trained: ClassVar[bool] = False
    kind: Literal["float-network"]
    epochs: Count = Field(examples=[16], description="Of the float network.")
    learning_rate: float | None = Field(None, ge=0, description="Peak of its schedule; that of [train] when absent.")
    objectives: tuple[Objective, ...] = Field(
        LABELS, alias="objective", min_length=1, description="What the float network is trained for."
    )

    @model_validator(mode="after")
    def _has_objectives_without_teachers(self) -> Self:
        check_together(self.objectives)
        if "teacher" in needs(self.objectives):
            kinds = ", ".join(objective.kind for objective in self.objectives)
            raise ValueError(f"Expected objectives without teachers for the float network of [train.start]. Received: {kinds}")
        return self


class StartFile(ModelFile):
    """The network of an earlier run: its `float_model.keras`, or its `network.npz`, whose weights are quantized already.

    So is a model of the zoo: `path = "network.npz"`, beside its recipe.
    """

    trained: ClassVar[bool] = True
    kind: Literal["keras-file"]


Start = Annotated[FloatNetwork | StartFile, Field(discriminator="kind")]


def naming_files(tables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those tables of a recipe that may name a file, as they are, where there are any.

    They are `[network]`, `[train.start]`, and `teacher_file` of every `[[train.objective]]`.
    """
    train = tables.get("train")
    train = train if isinstance(train, dict) else {}
    objectives = train.get("objective")
    taught = [one.get("teacher_file") for one in (objectives if isinstance(objectives, list) else ()) if isinstance(one, dict)]
    return [table for table in (tables.get("network"), train.get("start"), *taught) if isinstance(table, dict)]


def without_paths(tables: dict[str, Any]) -> dict[str, Any]:
    """Tables of a recipe as a run's hash covers them: of a file that they name, its hash and not where it lies."""
    for table in naming_files(tables):
        table.pop("path", None)
    return tables
