"""What every table of a recipe has in common, and the number types that they share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[float, Field(gt=0, le=4)]
Decibels = Annotated[float, Field(ge=-20, le=80)]


class Table(BaseModel):
    """A table of a TOML file: frozen, unknown keys refused, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def with_tuples(table: JsonValue) -> object:
    """Lists as tuples: pydantic's strict mode takes the former for the latter from JSON only, not from a validator."""
    if not isinstance(table, dict):
        return table
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
