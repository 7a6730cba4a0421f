"""`[export]` and `[footprint]`: how the artefact is made, and what it is compared with."""

from pydantic import Field

from tinyrobust.recipe.table import Count, Share, Table


class Export(Table):
    """How the artefact is made, and what disagreement is tolerated."""

    calibration_samples: Count = 500
    parity_samples: Count = 1000
    accuracy_drop: float = Field(0.5, ge=0, description="Largest loss of accuracy from QKeras to int8, in points.")
    agreement: Share = Field(0.985, description="Smallest share of images on which both name the same class.")


class Footprint(Table):
    """Which boards the report compares with."""

    boards: tuple[str, ...] = Field((), description="Names from export/boards/; all of them when empty.")
