"""Protocols: named lists of attacks with all their parameters, one TOML file each in `models/protocols/`."""

import re
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tinyrobust import assets, toml
from tinyrobust.attacks.specs import Attack
from tinyrobust.choices import no_such
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.table import Table


class Convergence(Table):
    """When an attack has converged: fewer samples than this fall to a run of more steps from new starts.

    At every epsilon of the headline's norm the strongest attack with gradients on each target is run on: with 2, 4, 8 ... times
    its steps, all its restarts from new random points, on the samples that still stand.
    """

    share: float = Field(0.01, gt=0, lt=1, description="Of all attacked samples: what a longer run breaks when it is the last.")
    budget: int = Field(16, ge=2, description="No run has more than so many times the steps of the attack.")


class Protocol(BaseModel):
    """A protocol; `name` is its file's name. The file's key for the attacks is `[[attack]]`.

    Attributes:
        cascade: Whether an attack gets only what the ones before it left standing within its radius, as in AutoAttack (Croce
            and Hein 2020): a row then says what stands after it. Off: every attack gets every sample.
        convergence: Whether the strongest attack is run on until it converges; absent: it is reported as it is listed.
        expectation: Whether a network that is random at inference is attacked through the mean of several passes (EOT, Athalye
            et al. 2018).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    description: str
    cascade: bool = False
    expectation: bool = True
    convergence: Convergence | None = None
    attacks: tuple[Attack, ...] = Field(alias="attack", min_length=1)

    @model_validator(mode="after")
    def _attacks_fit_together(self) -> Self:
        names = [attack.name for attack in self.attacks]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected a name of its own for every attack. Received: {names}")
        taken = [name for name in names if re.fullmatch(r".*-x\d+|(longer\d*|wide)-.*", name)]
        if taken:
            raise ValueError(
                f"Expected names that no longer run has: without -x2 at the end, longer- before. Received: {taken}"
            )
        for attack in self.attacks:
            if attack.on in attack.transfer_to:
                raise ValueError(f"Expected other targets in transfer_to. Received: {attack.name!r} is made on {attack.on!r}")
        return self


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
