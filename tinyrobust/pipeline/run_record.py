"""run.json: what was run, with what, and which stages are complete."""

from typing import ClassVar

from pydantic import Field

from tinyrobust.records import Part, Record


class StageRecord(Part):
    """A complete stage.

    A training that was interrupted took as long as all of its epochs; another stage is done again from its start, or took as
    long as what was left of it.

    Attributes:
        key: Of everything that it read, as `tinyrobust.pipeline.plan` makes it.
        finished: When it ended (UTC, ISO 8601).
        seconds: How long it took.
        files: The SHA-256 of every file that it left.
        taken_from: The run folder that computed it, where it was copied; empty where it was computed here.
    """

    key: str
    finished: str
    seconds: float
    files: dict[str, str]
    taken_from: str = ""


class RunRecord(Record):
    """The record of a run. A stage is in `stages` only when it is complete; they are in the order of a run."""

    SCHEMA: ClassVar[str] = "tinyrobust.run/2"
    name: str
    recipe_hash: str
    seed: int
    dataset: str
    dataset_fingerprint: str
    dataset_sizes: dict[str, int]
    dataset_notes: list[str]
    classes: list[str]
    input_shape: list[int]
    versions: dict[str, str]
    platform: str
    stages: dict[str, StageRecord] = Field(default_factory=dict)
