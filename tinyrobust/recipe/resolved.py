"""The resolved recipe: all tables together, what must fit between them, and the hash that names a run."""

import hashlib
import json
from typing import Self

import tomli_w
from pydantic import Field, model_validator

from tinyrobust.choices import members
from tinyrobust.recipe.activations import ActivationFormat, Activations
from tinyrobust.recipe.data import Data
from tinyrobust.recipe.export import Export, Footprint
from tinyrobust.recipe.frontend import with_gradients
from tinyrobust.recipe.listening import Listening
from tinyrobust.recipe.network import Network, Stqnet
from tinyrobust.recipe.objective_table import needs
from tinyrobust.recipe.objectives import Distillation, Jacobian
from tinyrobust.recipe.precision import FLOAT, Precision
from tinyrobust.recipe.robustness import Robustness
from tinyrobust.recipe.start import without_paths
from tinyrobust.recipe.stochastic import StochasticQuantizer, check_places, check_sampled
from tinyrobust.recipe.table import Table
from tinyrobust.recipe.train import Train

# Raised when the meaning of a key or of a default changes: runs from before are other runs.
SCHEMA = 2
_MEMBERS = 16  # of an ensemble of draws, where neither training nor evaluation says how many


class Recipe(Table):
    """A resolved recipe. `name` is the folder's or file's name; it is no key of the file."""

    name: str
    description: str = ""
    seed: int = Field(7, ge=0, lt=2**31)
    data: Data
    network: Network = Stqnet(kind="stqnet")
    precision: Precision
    train: Train
    export: Export = Export()
    robustness: Robustness = Robustness()
    footprint: Footprint = Footprint()
    listening: Listening | None = None
    stochastic: tuple[StochasticQuantizer, ...] = Field((), description="Quantizers that draw, at inference too.")

    @model_validator(mode="after")
    def _sound_is_of_speech(self) -> Self:
        teaching = self.train.teaching
        of_teachers = needs(teaching.objectives) if teaching else frozenset()
        learns_sound = "front-end" in self.train.needs | self.train.of_float_network.needs | of_teachers
        if (self.robustness.waveform or learns_sound) and not self.data.speech:
            raise ValueError("Expected [data.speech] where sound is attacked or learned from. Received: none")
        if learns_sound and self.data.speech and not self.data.speech.frontend.differentiable:
            raise ValueError(
                f"Expected the front end {with_gradients()} for training on attacked sound. "
                f"Received: {self.data.speech.frontend.kind}: it has no gradients"
            )
        return self

    @model_validator(mode="after")
    def _corruptions_are_of_images(self) -> Self:
        if self.robustness.corruptions and self.data.speech:
            raise ValueError(
                "Expected no robustness.corruptions beside [data.speech]: they are those of a camera. Received: both"
            )
        return self

    @model_validator(mode="after")
    def _listens_to_speech(self) -> Self:
        if self.listening and not self.data.speech:
            raise ValueError("Expected [data.speech] beside [listening]. Received: none: only a spotter of words can listen")
        if self.listening and self.data.speech and self.listening.hop_ms % self.data.speech.frontend.row_ms:
            raise ValueError(
                f"Expected a listening.hop_ms that is a multiple of {self.data.speech.frontend.row_ms}, "
                f"the front end's step. Received: {self.listening.hop_ms}"
            )
        return self

    @model_validator(mode="after")
    def _draws_where_it_can(self) -> Self:
        check_places(self.stochastic)
        check_sampled(self.stochastic, self.train.objectives)
        settings = {
            "train.quantization = 'after'": self.train.quantization == "after",
            "train.start": self.train.start,
            "train.watch": self.train.watch,
            "an objective with a teacher": self.train.teaching,
            "the objective jacobian": any(isinstance(one, Jacobian) for one in self.train.objectives),
            "precision.budget": self.precision.budget,
            "robustness.corruptions": self.robustness.corruptions,
            "robustness.waveform": self.robustness.waveform,
            "listening": self.listening,
        }
        given = [name for name, value in settings.items() if value]
        if self.robustness.members and not self.stochastic:
            raise ValueError(
                "Expected robustness.members beside [[stochastic]] only: another network has one answer. "
                f"Received: {self.robustness.members}"
            )
        if self.stochastic and given:
            raise ValueError(
                "Expected nothing beside [[stochastic]] that takes the network's answers for a function of its inputs, or "
                f"needs its file, which is not made yet. Received: {', '.join(given)}"
            )
        return self

    @model_validator(mode="after")
    def _is_trained_by_somebody(self) -> Self:
        if self.train.epochs == 0 and not (self.network.trained or (self.train.start and self.train.start.trained)):
            raise ValueError(
                "Expected at least one epoch for a network that comes without trained weights. "
                f"Received: epochs = 0 and network.kind = {self.network.kind!r}"
            )
        return self

    @model_validator(mode="after")
    def _has_teachers_of_that_width(self) -> Self:
        settings = self.train.distillation
        if settings and settings.teacher_width is not None:
            self.network.scaled(settings.teacher_width)
        return self

    @model_validator(mode="after")
    def _activations_get_their_ranges(self) -> Self:
        missing, instead = {
            "aware": ("calibration", 'quantization = "after", which calibrates'),
            "after": ("training", 'quantization = "aware", which learns them'),
        }[self.train.quantization]
        tables = ((kind, one) for kind, one in members(Activations).items() if issubclass(one, ActivationFormat))
        able = ", ".join(kind for kind, one in tables if one.range_from != missing)
        for rule in self.precision.rules:
            if rule.activations.range_from == missing:
                raise ValueError(
                    f"Expected activations whose range train.quantization = {self.train.quantization!r} can set ({able}), "
                    f"or {instead}. Received: {rule.activations.kind!r} for layers {rule.layers!r}, "
                    f"whose range comes from {missing}"
                )
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the resolved form without name and description, in hex: equal hashes mean equal runs.

        What says the same as the default is left out, so a new key with a default changes no hash.
        """
        values = self.model_dump(mode="json", by_alias=True, exclude={"name", "description"}, exclude_defaults=True)
        return hashlib.sha256(json.dumps({"schema": SCHEMA, **without_paths(values)}, sort_keys=True).encode()).hexdigest()

    @property
    def run_name(self) -> str:
        """The name of the run's folder: `<recipe>-<hash8>`."""
        return f"{self.name}-{self.hash[:8]}"

    @property
    def has_float_network(self) -> bool:
        """Whether one is trained first: to be quantized after training, measured for a budget, or started from."""
        return self.train.quantization == "after" or self.train.start is not None or self.precision.budget is not None

    @property
    def of_float_network(self) -> "Recipe":
        """The same for that network, which has no quantizers."""
        return self.model_copy(update={"precision": FLOAT, "train": self.train.of_float_network})

    @property
    def members(self) -> int:
        """How many draws make an answer of a network that is random at inference."""
        return self.robustness.members or max(one.samples for one in self.train.objectives) or _MEMBERS

    @property
    def temperature(self) -> float | None:
        """The temperature that the network is distilled at; None where it is not.

        What ard and rslad teach has logits of the teacher's size, and the teacher's are those of an ordinary network.
        """
        return next((one.temperature for one in self.train.objectives if isinstance(one, Distillation)), None)

    def to_toml(self) -> str:
        """The resolved recipe as TOML; `load` reads it back to an equal recipe."""
        return tomli_w.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name"}))
