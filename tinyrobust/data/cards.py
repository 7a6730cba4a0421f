"""The cards in `datasets/`: what each data set is, whose it is, and how it is loaded."""

import difflib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tinyrobust import assets, toml
from tinyrobust.errors import DataError


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScikitLearn(_Table):
    """The digits that scikit-learn carries, split here."""

    kind: Literal["scikit-learn"]
    split_seed: int = Field(ge=0, description="Draws the test images; not the recipe's seed, so they never change.")


class Tfds(_Table):
    """A set of tensorflow-datasets, prepared on disk."""

    kind: Literal["tfds"]
    name: str
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")


class Card(_Table):
    """One data set. `name` is the file's name; it is no key of the file."""

    name: str
    title: str
    source: str
    url: str
    licence: str
    citation: str
    classes: tuple[str, ...] = Field(min_length=2)
    image: tuple[int, int, Literal[1, 3]] = Field(description="Height, width and channels before preprocessing.")
    train_images: int = Field(ge=1, description="Before the validation images are taken from them.")
    test_images: int = Field(ge=1)
    flip_allowed: bool = Field(description="Whether a mirrored image is still of its class.")
    splits: str
    preprocessing: str
    loader: Annotated[ScikitLearn | Tfds, Field(discriminator="kind")]


def cards() -> dict[str, Card]:
    """Every card, by name.

    Raises:
        DataError: A card is not valid.
    """
    return {name: toml.named(path, Card, DataError) for name, path in assets.dataset_cards().items()}


def read_card(name: str) -> Card:
    """The card of the data set `name`.

    Raises:
        DataError: There is no such card (the message names the nearest), or it is not valid.
    """
    paths = assets.dataset_cards()
    if name not in paths:
        nearest = difflib.get_close_matches(name, paths, n=1, cutoff=0.4)
        did_you_mean = f"Did you mean {nearest[0]!r}? " if nearest else ""
        raise DataError(
            f"Expected data.name to be a data set ({', '.join(paths)}) or the path of a .npz file. Received: {name!r}",
            hint=did_you_mean + "`tinyrobust list datasets` shows them.",
        )
    return toml.named(paths[name], Card, DataError)
