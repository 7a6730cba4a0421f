"""The cards in `datasets/`: what each data set is, whose it is, and how it is loaded."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinyrobust import assets, toml
from tinyrobust.choices import no_such
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
    config: str = Field("", description="Of sets that have several, such as sizes.")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    test: str = Field("test", description="Its split whose images are the test images.")
    split_seed: int | None = Field(
        None, ge=0, description="The set has training images only: draws the test images from them, the same for every recipe."
    )
    sizes_vary: bool = Field(
        False, description="Images differ in size: the square in their middle is resized to data.size, else to the card's size."
    )


class SpeechTfds(Tfds):
    """Spoken words that tensorflow-datasets prepared."""

    kind: Literal["tfds-speech"]  # type: ignore[assignment] # tells the two apart in a card


class Npz(_Table):
    """One's own images, packed into a .npz (`tinyrobust datasets add`)."""

    kind: Literal["npz"]
    file: str = Field(description="Its path, relative to the card's folder.")
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of its training and test images.")


class SpeechFolder(_Table):
    """Clips of spoken words, unpacked from the upstream archive: a folder for every word."""

    kind: Literal["speech"]
    archive: str = Field(description="Where the archive is downloaded.")
    folders: tuple[str, ...] = Field(min_length=1, description="Names that the folder may have; the first is proposed.")
    words: tuple[str, ...] = Field(min_length=1, description="Words that tell the set from other folders.")


class Card(_Table):
    """One data set. `name` is the file's name; it is no key of the file."""

    name: str
    title: str
    source: str
    url: str = ""
    licence: str
    citation: str = ""
    classes: tuple[str, ...] = Field(min_length=2)
    image: tuple[int, int, Literal[1, 3]] = Field(
        description="Height, width and channels before preprocessing; where sizes vary, what recipes without data.size get."
    )
    train_images: int = Field(ge=1, description="Before the validation images are taken from them.")
    test_images: int = Field(ge=1)
    flip_allowed: bool = Field(description="Whether a mirrored image is still of its class.")
    splits: str
    preprocessing: str
    loader: Annotated[ScikitLearn | Tfds | SpeechTfds | Npz | SpeechFolder, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _varying_images_become_squares(self) -> Self:
        height, width, _ = self.image
        if isinstance(self.loader, Tfds) and self.loader.sizes_vary and height != width:
            raise ValueError(f"Expected square images where sizes vary. Received: {height} x {width}")
        return self


def cards() -> dict[str, Card]:
    """Every card, by name.

    Raises:
        DataError: A card is not valid.
    """
    return {name: toml.named(path, Card, DataError) for name, path in assets.dataset_cards().items()}


def read_card(name: str) -> Card:
    """The card of the data set `name`, see `find_card`."""
    path = find_card(name)
    return toml.named(path, Card, DataError)


def find_card(name: str) -> Path:
    """Where the card of a data set is: one of `datasets/`, by name, or any, by its path, which ends in .toml.

    Raises:
        DataError: There is no such card; the message names the nearest.
    """
    if name.endswith(".toml"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise DataError(f"Expected a data set's card at {path}. Received: there is no such file.", hint="Check data.name.")
        return path
    paths = assets.dataset_cards()
    if name not in paths:
        raise DataError(
            no_such("data set", name, paths, "or the path of a .npz, of a folder of clips or of a card"),
            hint="`tinyrobust list datasets` shows them, `tinyrobust datasets add` makes one.",
        )
    return paths[name]
