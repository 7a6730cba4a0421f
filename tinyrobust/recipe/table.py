"""What every table of a recipe has in common, and the number types that they share."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue


def _expression(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"Expected a regular expression. Received: {value!r} ({error})") from error
    return value


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[float, Field(gt=0, le=4)]
Decibels = Annotated[float, Field(ge=-20, le=80)]
Expression = Annotated[str, AfterValidator(_expression)]


class Table(BaseModel):
    """A table of a TOML file: frozen, unknown keys refused, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def with_tuples(table: JsonValue) -> object:
    """Lists as tuples: pydantic's strict mode takes the former for the latter from JSON only, not from a validator."""
    if not isinstance(table, dict):
        return table
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
