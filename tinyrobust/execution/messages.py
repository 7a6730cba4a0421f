"""What a local executor and its workers write to each other: a JSON object a line."""

import pkgutil
from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter, ValidationError

from tinyrobust import errors
from tinyrobust.errors import TinyRobustError
from tinyrobust.execution.executor import Task
from tinyrobust.records import Part


class Order(Part):
    """A task for a worker: its class, `module:class`, and its values."""

    task: str
    values: dict[str, JsonValue]

    @classmethod
    def of(cls, task: Task) -> "Order":
        """The order to do `task`."""
        kind = type(task)
        return cls(task=f"{kind.__module__}:{kind.__qualname__}", values=task.model_dump(mode="json", by_alias=True))

    def read(self) -> Task:
        """The task."""
        kind: type[Task] = pkgutil.resolve_name(self.task)
        return kind.model_validate(self.values)


class Progressed(Part):
    """How far a task is."""

    kind: Literal["progress"] = "progress"
    label: str
    done: int
    total: int


class Announced(Part):
    """An event that others may be waiting for."""

    kind: Literal["announced"] = "announced"
    event: str


class Done(Part):
    """A task is done."""

    kind: Literal["done"] = "done"
    result: JsonValue


class Failed(Part):
    """A task ended with an error: its type's name in `tinyrobust.errors`, what it said, and its hint."""

    kind: Literal["failed"] = "failed"
    error: str
    message: str
    hint: str | None

    def exception(self) -> TinyRobustError:
        """The error, to be raised."""
        kind = getattr(errors, self.error, TinyRobustError)
        return kind(self.message, hint=self.hint) if issubclass(kind, TinyRobustError) else TinyRobustError(self.message)


Message = Annotated[Progressed | Announced | Done | Failed, Field(discriminator="kind")]
_MESSAGE: TypeAdapter[Progressed | Announced | Done | Failed] = TypeAdapter(Message)


def read(line: str) -> Progressed | Announced | Done | Failed | None:
    """A line of a worker; None where it was killed in the middle of one."""
    try:
        return _MESSAGE.validate_json(line)
    except ValidationError:
        return None
