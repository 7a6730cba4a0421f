"""The sweep file: a base recipe, axes crossed or zipped, seeds, and the columns of the comparison."""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tinyrobust import assets, toml
from tinyrobust.choices import no_such
from tinyrobust.errors import RecipeError
from tinyrobust.pipeline import plan
from tinyrobust.sweep import columns

_Scalar = str | int | float | bool


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Point(_Table):
    """One place on an axis."""

    label: str
    recipe: str | None = Field(None, description="Instead of the sweep's base: a name from the zoo, or a path.")
    name: str | None = Field(None, pattern=r"^[\w.-]+$", description="Of its runs; their recipe's when absent.")
    set: tuple[str, ...] = Field((), description='Settings as `--set` takes them, such as "train.epochs=3".')


class Axis(_Table):
    """What is varied: points, or the values of one key of the recipe."""

    name: str
    key: str | None = Field(None, description="A key of the recipe, such as train.epochs.")
    values: tuple[_Scalar | tuple[_Scalar, ...], ...] = ()
    points: tuple[Point, ...] = Field((), alias="point")

    @model_validator(mode="after")
    def _has_places(self) -> Self:
        if bool(self.points) == bool(self.values) or bool(self.key) != bool(self.values):
            raise ValueError(f"Expected either points, or a key and values, for axis {self.name!r}.")
        if self.key and self.key.startswith(("seed", "data.fold")):
            raise ValueError(f"Expected seeds and folds as keys of the sweep. Received: axis {self.name!r} over {self.key!r}")
        labels = [point.label for point in self.places()]
        if len(set(labels)) < len(labels):
            raise ValueError(f"Expected labels that differ for axis {self.name!r}. Received: {', '.join(labels)}")
        return self

    def places(self) -> tuple[Point, ...]:
        """The points, whichever way they are written."""
        if self.points:
            return self.points
        # JSON's numbers, texts and lists are TOML's too.
        values = [(value if isinstance(value, str) else json.dumps(value), json.dumps(value)) for value in self.values]
        return tuple(Point(label=label, set=(f"{self.key}={text}",)) for label, text in values)


class Reference(_Table):
    """Somebody else's figures for a row: shown beside ours, never mixed with them."""

    row: dict[str, str] = Field(description="Labels by axis; the rows that have all of them.")
    figures: dict[str, float] = Field(description="By column; shares in [0, 1], sizes in bytes.")


class Sweep(_Table):
    """A sweep. `name` is the file's name; it is no key of the file."""

    name: str
    description: str = ""
    base: str = Field(description="A recipe: a name from the zoo, or a path, beside the file or from here.")
    set: tuple[str, ...] = Field((), description='Settings of every run, such as "train.epochs=6"; a point\'s own come after.')
    combine: Literal["cross", "zip"] = Field("cross", description="Every combination of the axes, or point by point.")
    axes: tuple[Axis, ...] = Field((), alias="axis")
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field((7,), min_length=1)
    folds: int | None = Field(None, ge=2, le=100, description="Cross-validation on the training images, in so many parts.")
    protocol: str | None = Field(None, description="Instead of the recipes' own: a file in models/protocols/.")
    until: str = Field("report", description="The last stage of every run.")
    columns: tuple[str, ...] = Field(("accuracy", "robust", "packed", "file"), min_length=1)
    pareto: tuple[str, str] | None = Field(
        None, description="Two of the columns, plotted against each other: a cost (less is better), a share (more is)."
    )
    source: str = Field("", description="Where the figures of `reference` are from.")
    references: tuple[Reference, ...] = Field((), alias="reference")

    @field_validator("until")
    @classmethod
    def _is_a_stage(cls, value: str) -> str:
        if value not in plan.NAMES:
            raise ValueError(no_such("stage", value, plan.NAMES))
        return value

    @model_validator(mode="after")
    def _columns_are_there(self) -> Self:
        for name in (*self.columns, *(column for reference in self.references for column in reference.figures)):
            try:
                columns.named(name)
            except KeyError:
                known = (*columns.COLUMNS, "robust@8/255 (any epsilon)")
                raise ValueError(no_such("column", name, known)) from None
        late = [name for name in self.columns if plan.NAMES.index(columns.named(name).stage) > plan.NAMES.index(self.until)]
        if late:
            raise ValueError(f"Expected columns of the stages until {self.until!r}. Received: {', '.join(late)}")
        return self

    @model_validator(mode="after")
    def _a_front_weighs_a_cost_and_a_share(self) -> Self:
        for name, is_share in zip(self.pareto or (), (False, True), strict=False):
            if name not in self.columns or (columns.named(name).unit == "share") != is_share:
                wanted = "a share, such as accuracy" if is_share else "a cost, such as packed"
                raise ValueError(f"Expected {wanted}, from the columns of the sweep, in pareto. Received: {name!r}")
        return self

    @model_validator(mode="after")
    def _rows_fit_together(self) -> Self:
        for values, what in ((self.seeds, "seeds"), (self.columns, "columns"), ([a.name for a in self.axes], "names of axes")):
            if len(set(values)) < len(values):
                raise ValueError(f"Expected {what} that differ. Received: {', '.join(map(str, values))}")
        lengths = {len(axis.places()) for axis in self.axes}
        if self.combine == "zip" and len(lengths) > 1:
            raise ValueError(f"Expected axes of one length to zip. Received: {sorted(lengths)}")
        return self

    @model_validator(mode="after")
    def _references_have_rows(self) -> Self:
        labels = {axis.name: {point.label for point in axis.places()} for axis in self.axes}
        for reference in self.references:
            for axis, label in reference.row.items():
                if label not in labels.get(axis, ()):
                    raise ValueError(f"Expected a reference to a row that is there. Received: {axis} = {label!r}")
        if self.references and not self.source:
            raise ValueError("Expected a source for the figures of reference. Received: none")
        return self


def load(source: str | Path) -> tuple[Sweep, Path]:
    """A sweep file, validated, and its path.

    Args:
        source: A name from `models/papers/`, or a path.

    Raises:
        RecipeError: There is no such file, or a key or value does not fit; every one is listed.
    """
    known = assets.sweeps()
    path = known.get(str(source), Path(source))
    if not path.is_file():
        raise RecipeError(
            no_such("sweep", str(source), known, "or the path of a TOML file"), hint="The README shows how one is written."
        )
    return toml.named(path, Sweep, RecipeError), path
