"""What a report needs to know about a run that no other record says."""

from typing import Literal

from pydantic import Field

from tinyrobust.recipe import Recipe
from tinyrobust.records import Part


class StageTime(Part):
    """How long a stage took, in seconds of wall-clock time."""

    name: str
    seconds: float


class DataFacts(Part):
    """The data as they were used: names of the classes, shape of an input [h, w, c], numbers of samples."""

    name: str
    title: str = ""
    licence: str = ""
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    train: int
    validation: int
    test: int
    fingerprint: str = Field(description="Hash of the arrays.")


class RunFacts(Part):
    """One run, or one evaluation of somebody's file.

    Attributes:
        name: Of the run's folder, or of the model.
        recipe: The resolved recipe.
        versions: Package or tool to version.
        seeds: What is drawn at random to its seed.
        data: The data set; None where it was never loaded.
        stages: The stages in the order they ran.
        command: What to type to get this again.
        pipeline_tag: The Hugging Face task, where it is known.
        licence: SPDX identifier of the model's licence.
        notes: What was found out about the recipe beside this run, in Markdown, by its authors.
    """

    name: str
    recipe: Recipe
    versions: dict[str, str] = Field(default_factory=dict)
    seeds: dict[str, int] = Field(default_factory=dict)
    data: DataFacts | None = None
    stages: tuple[StageTime, ...] = ()
    command: str = ""
    pipeline_tag: Literal["image-classification", "audio-classification"] | None = "image-classification"
    licence: str = "apache-2.0"
    notes: str = ""
