"""`[data]`: what is learned, how training images are changed, and parts for cross-validation."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.speech import Speech
from tinyrobust.recipe.table import Count, Table


class Augment(Table):
    """Random changes to training images. Images only; never to validation or test images."""

    flip: bool = Field(
        False, description="Mirror left-right with probability 1/2. Refused where a mirrored image means another class."
    )
    crop: int = Field(
        0, ge=0, description="Pad by this many pixels on every side, then cut the original size at a random place."
    )


class Fold(Table):
    """Cross-validation: a part of the training images takes the place of the test images, which are left alone."""

    of: int = Field(ge=2, le=100, description="How many parts, equal and stratified; every recipe has the same.")
    index: int = Field(ge=0, description="Which part is tested on, from 0.")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.index >= self.of:
            raise ValueError(f"Expected an index from 0 to {self.of - 1}. Received: {self.index}")
        return self


class Data(Table):
    """What is learned."""

    name: str = Field(description="A card in datasets/, or the path of a .npz file or of a folder of clips.")
    color: Literal["gray", "rgb"] = "gray"
    size: Count | None = Field(None, description="Resize to size x size pixels; the data set's own size when absent.")
    validation: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="Share of the training images kept for choices.")
    train_samples: Count | None = Field(None, description="A stratified subset of the training images.")
    test_samples: Count | None = Field(None, description="A stratified subset of the test images.")
    augment: Augment = Augment()
    fold: Fold | None = None
    speech: Speech | None = None
