"""Protocols: named lists of attacks, or of corruptions, with all their parameters; a TOML file each in `models/protocols/`."""

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinyrobust import assets, toml
from tinyrobust.attacks.specs import Attack
from tinyrobust.choices import no_such
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.table import Table


class Convergence(Table):
    """When an attack has converged: fewer samples than this fall to a run of more steps from new starts.

    At every radius in every norm the strongest attack with gradients on each target is run on: with 2, 4, 8 ... times its
    steps, all its restarts from new random points, on the samples that still stand.
    """

    share: float = Field(0.01, gt=0, lt=1, description="Of all attacked samples: what a longer run breaks when it is the last.")
    budget: int = Field(16, ge=2, description="No run has more than so many times the steps of the attack.")


class FileSearch(Table):
    """How far attacks go on upon the file, from every example that fools the network and not the file.

    An attack stops where the network is fooled; the file rounds, so many such examples end a little before its boundary. See
    `tinyrobust.robustness.file_search`.
    """

    walks: int = Field(12, ge=1, description="From every such example, and from points close to the best so far.")
    steps: int = Field(20, ge=1, description="Gradients of a walk: forward through the file, backward through the network.")
    queries: int = Field(200, ge=1, description="Scores a sample of the file, by random squares.")


class Corruption(Table):
    """A common corruption of images (Hendrycks and Dietterich 2019, arXiv 1903.12261), with the constants of ImageNet-C.

    Weather is left out: frost is photographs that are laid over an image, snow and fog are drawn at the scale of a photograph.
    So are glass blur and elastic transforms, which move pixels by distances that are half of a small image.
    """

    kind: Literal[
        "gaussian-noise",
        "shot-noise",
        "impulse-noise",
        "defocus-blur",
        "motion-blur",
        "zoom-blur",
        "gaussian-blur",
        "brightness",
        "contrast",
        "jpeg-compression",
        "pixelate",
    ]
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field((1, 2, 3, 4, 5), min_length=1, description="Rising.")

    @model_validator(mode="after")
    def _severities_rise(self) -> Self:
        if list(self.severities) != sorted(set(self.severities)):
            raise ValueError(f"Expected severities that rise. Received: {self.severities}")
        return self


class Protocol(BaseModel):
    """A protocol; `name` is its file's name. The file's key for the attacks is `[[attack]]`, or `[[corruption]]` in its place.

    A corruption is no attack: nobody searches, and no norm bounds it. So a protocol has the one or the other.

    Attributes:
        cascade: Whether an attack gets only what the ones before it left standing within its radius, as in AutoAttack (Croce
            and Hein 2020): a row then says what stands after it. Off: every attack gets every sample.
        convergence: Whether the strongest attack is run on until it converges; absent: it is reported as it is listed.
        file_search: Whether attacks with gradients end on the file; absent: only transfers and attacks on the file itself do.
        expectation: Whether a network that is random at inference is attacked through the mean of several passes (EOT, Athalye
            et al. 2018).
        corruptions: Of images, each measured by itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    description: str
    cascade: bool = False
    expectation: bool = True
    convergence: Convergence | None = None
    file_search: FileSearch | None = None
    attacks: tuple[Attack, ...] = Field((), alias="attack")
    corruptions: tuple[Corruption, ...] = Field((), alias="corruption")

    @model_validator(mode="after")
    def _measures_one_thing(self) -> Self:
        if bool(self.attacks) == bool(self.corruptions):
            received = "both" if self.attacks else "neither"
            raise ValueError(f"Expected [[attack]], or [[corruption]] in its place. Received: {received}")
        if self.corruptions and (self.cascade or self.convergence or self.file_search):
            raise ValueError(
                "Expected cascade, convergence and file_search with attacks alone. Received: one of them with corruptions"
            )
        kinds = [corruption.kind for corruption in self.corruptions]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"Expected every corruption once, with all its severities. Received: {kinds}")
        return self

    @model_validator(mode="after")
    def _attacks_fit_together(self) -> Self:
        names = [attack.name for attack in self.attacks]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected a name of its own for every attack. Received: {names}")
        taken = [name for name in names if re.fullmatch(r".*-x\d+|.*-on-file|(longer\d*|wide)-.*", name)]
        if taken:
            raise ValueError(
                f"Expected names that no longer run has: without -x2 or -on-file at the end, longer- before. Received: {taken}"
            )
        for attack in self.attacks:
            if attack.on in attack.transfer_to:
                raise ValueError(f"Expected other targets in transfer_to. Received: {attack.name!r} is made on {attack.on!r}")
        return self


def of_attacks(source: str | Path) -> Protocol:
    """Reads a protocol that a recipe names.

    Raises:
        RecipeError: There is none, or it is one of corruptions, which have no worst case and no headline.
    """
    protocol = load(source)
    if protocol.corruptions:
        raise RecipeError(
            f"Expected a protocol of attacks: what a run claims is its worst case. Received: {protocol.name!r}, of corruptions",
            hint=f"`tinyrobust attack RUN --protocol {source}` measures them of one run (in Python: tinyrobust.corrupt), a "
            f"recipe's [robustness] corruptions = {json.dumps(str(source))} of every run.",
        )
    return protocol


def of_corruptions(source: str | Path) -> Protocol:
    """Reads a protocol of corruptions.

    Raises:
        RecipeError: There is none, or it is one of attacks.
    """
    protocol = load(source)
    if not protocol.corruptions:
        raise RecipeError(f"Expected a protocol of corruptions, such as 'corruptions'. Received: {protocol.name!r}, of attacks")
    return protocol


def load(source: str | Path) -> Protocol:
    """Reads a protocol.

    Args:
        source: A name from `models/protocols/`, or the path of a TOML file.

    Raises:
        RecipeError: There is none, or a key or value does not fit; the nearest valid name is given.
    """
    known = assets.protocols()
    path = known.get(str(source), Path(source))
    if not path.is_file():
        raise RecipeError(no_such("protocol", str(source), known, "or the path of a TOML file"))
    return toml.named(path, Protocol, RecipeError)
