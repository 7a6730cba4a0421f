"""The base of every JSON file that a run leaves: validated, versioned by a `schema` field, written atomically."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tinyrobust.errors import RunFolderError
from tinyrobust.files import write_atomic
from tinyrobust.toml import explain


class Part(BaseModel):
    """A piece of a record: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")


class Record(Part):
    """A JSON file. A subclass sets `SCHEMA` (`tinyrobust.footprint/1`) and raises its number when fields change.

    `HINT` says what to do about one that cannot be read.
    """

    SCHEMA: ClassVar[str]
    HINT: ClassVar[str] = "Delete the file and run the stage again."
    schema_: str = Field(default="", alias="schema", serialization_alias="schema")

    @model_validator(mode="before")
    @classmethod
    def _schema_is_ours(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        found = values.setdefault("schema", cls.SCHEMA)
        if found != cls.SCHEMA:
            raise ValueError(f"Expected schema {cls.SCHEMA!r}. Received: {found!r}")
        return values

    def to_json(self) -> str:
        """The record as indented JSON with a trailing newline."""
        return self.model_dump_json(indent=2, by_alias=True) + "\n"

    def save(self, path: Path) -> None:
        """Writes the record to `path` atomically."""
        write_atomic(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a record.

        Raises:
            RunFolderError: The file is missing, not JSON, or of another schema.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = f"\n{explain(error, cls)}" if isinstance(error, ValidationError) else f" {error}."
            raise RunFolderError(
                f"Cannot read {path} as {cls.SCHEMA}:{reason}",
                hint=cls.HINT,
            ) from error
