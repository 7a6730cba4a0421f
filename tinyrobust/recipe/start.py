"""`[train.start]`: the float network whose weights training with the recipe's quantizers starts from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tinyrobust.files import sha256
from tinyrobust.recipe.objectives import LABELS, Need, Objective
from tinyrobust.recipe.table import Count, Table


class ModelFile(Table):
    """What names a `.keras` file."""

    path: str = Field(description="Of a .keras file, as Keras 3 saves it; looked for beside the recipe first.")
    sha256: str | None = Field(
        None,
        validate_default=True,
        description="Of the file, in hex: another file is refused. When absent, that of the file as it is.",
    )

    @field_validator("sha256")
    @classmethod
    def _of_the_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        """The recipe's hash is that of what is learned, so it covers what the file says."""
        if value is not None or "path" not in info.data:
            return value
        path = Path(info.data["path"]).expanduser()
        if not path.is_file():
            raise ValueError(f"Expected path to be that of a .keras file. Received: {str(path)!r}: there is no such file")
        return sha256(path)


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
    def _has_no_teachers(self) -> Self:
        if "teacher" in needs(self.objectives):
            kinds = ", ".join(objective.kind for objective in self.objectives)
            raise ValueError(f"Expected objectives without teachers for the float network of [train.start]. Received: {kinds}")
        return self


class StartFile(ModelFile):
    """The `float_model.keras` of an earlier run with the same network, `runs/<name>-<hash8>/float_model.keras`."""

    trained: ClassVar[bool] = True
    kind: Literal["keras-file"]


Start = Annotated[FloatNetwork | StartFile, Field(discriminator="kind")]


def needs(objectives: tuple[Objective, ...]) -> frozenset[Need]:
    """What objectives need, together."""
    return frozenset[Need]().union(*(objective.needs for objective in objectives))


def naming_files(tables: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those tables of a recipe that may name a file, as they are: `[network]` and `[train.start]`, where there are any."""
    train = tables.get("train")
    found = (tables.get("network"), train.get("start") if isinstance(train, dict) else None)
    return [table for table in found if isinstance(table, dict)]


def without_paths(tables: dict[str, Any]) -> dict[str, Any]:
    """Tables of a recipe as a run's hash covers them: of a file that they name, its hash and not where it lies."""
    for table in naming_files(tables):
        table.pop("path", None)
    return tables
