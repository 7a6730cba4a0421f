"""The recipe: one TOML file that says everything about a run, validated, resolved and hashed.

A recipe may extend another (`extends = "digits-stq"`, a name from `models/` or a path beside it): tables are merged key by key,
arrays (such as `[[precision]]`) are replaced whole. What `without = ["train.distillation"]` names is left out before.
`overrides` (`train.epochs=3`) are applied last.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tinyrobust import assets, toml
from tinyrobust.errors import RecipeError
from tinyrobust.robustness_recipe import AdversarialSound, Adversary, Robustness
from tinyrobust.speech_recipe import Listening, Speech, frame_ms

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[float, Field(gt=0, le=4)]
# Keys that recipes had not from the start.
_LATER_DISTILLATION = ("teacher_width", "teacher_temperature", "teachers")
_LATER_SPEECH = ("validation_speakers",)
_LATER_ROBUSTNESS = ("l2", "l1", "l0", "grid", "waveform")
WeightFormat = Literal["stochastic-ternary", "ternary", "binary", "fixed-point", "float"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Augment(_Table):
    """Random changes to training images. Images only; never to validation or test images."""

    flip: bool = Field(
        False, description="Mirror left-right with probability 1/2. Refused where a mirrored image means another class."
    )
    crop: int = Field(
        0, ge=0, description="Pad by this many pixels on every side, then cut the original size at a random place."
    )


class Fold(_Table):
    """Cross-validation: a part of the training images takes the place of the test images, which are left alone."""

    of: int = Field(ge=2, le=100, description="How many parts, equal and stratified; every recipe has the same.")
    index: int = Field(ge=0, description="Which part is tested on, from 0.")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.index >= self.of:
            raise ValueError(f"Expected an index from 0 to {self.of - 1}. Received: {self.index}")
        return self


class Data(_Table):
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


class Network(_Table):
    """What learns."""

    name: str = "stqnet"
    width: Width = Field(1.0, description="Multiplies the number of channels of every layer.")


class PrecisionRule(_Table):
    """How the layers whose whole name matches the regular expression `layers` store weights and activations."""

    layers: str
    weights: WeightFormat
    bits: int = Field(8, ge=2, le=8, description="Bits of fixed-point weights; the other formats have their own.")
    activations: Literal["relu6", "pact", "float"] = Field(
        "relu6", description="Range of the 8-bit activations: [0, 6], learned (PACT), or ReLU6 left in float."
    )

    @field_validator("layers")
    @classmethod
    def _is_a_regular_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"Expected a regular expression. Received: {value!r} ({error})") from error
        return value


FLOAT = (PrecisionRule(layers=".*", weights="float", activations="float"),)


class Stochastic(_Table):
    """The schedule of stochastic quantization (Dong et al., BMVC 2017): which share of channels is quantized from when on."""

    fractions: tuple[Share, ...] = (0.5, 0.75, 0.875, 1.0)
    starts: tuple[Share, ...] = Field((0.0, 0.25, 0.5, 0.75), description="Where each phase starts, as a share of all steps.")

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if len(self.fractions) != len(self.starts):
            raise ValueError(f"Expected as many starts as fractions. Received: {self.starts} and {self.fractions}")
        if not self.starts or self.starts[0] != 0 or list(self.starts) != sorted(set(self.starts)):
            raise ValueError(f"Expected starts that rise from 0. Received: {self.starts}")
        if list(self.fractions) != sorted(self.fractions) or self.fractions[-1] != 1:
            raise ValueError(f"Expected fractions that rise to 1. Received: {self.fractions}")
        return self


class Distillation(_Table):
    """The network learns the soft labels of a float teacher at temperature T, and is deployed at T = 1.

    With a temperature alone this is defensive distillation (Papernot et al. 2016): one teacher of the student's size, itself
    trained at T. Teachers that are wider, several, and trained at 1 make a small network better (Hinton et al. 2015).
    """

    temperature: float = Field(gt=0)
    teacher_epochs: Count | None = Field(None, description="Epochs of the teacher; as many as the student's when absent.")
    teacher_width: Width | None = Field(None, description="The teacher's network.width; the student's when absent.")
    teacher_temperature: float | None = Field(
        None, gt=0, description="That the teacher is trained at; the student's when absent, 1 for ordinary training."
    )
    teachers: int = Field(1, ge=1, le=16, description="So many, of this recipe's seed and the next; their logits are averaged.")


class Train(_Table):
    """How it learns."""

    epochs: Count
    batch_size: Count = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(6e-3, ge=0, description="Peak of the schedule.")
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    warmup: Share = Field(0.3, description="Share of the steps in which the one-cycle schedule rises.")
    weight_decay: float = Field(1e-4, ge=0, description="Decoupled decay of the latent weights, not of biases and scales.")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Momentum of an average of the latent weights; 0: none.")
    quantization: Literal["aware", "after"] = Field(
        "aware", description="In training, or after it: a float network is trained, then its weights are quantized."
    )
    stochastic: Stochastic = Stochastic()
    distillation: Distillation | None = None
    adversarial: Adversary | None = None

    @model_validator(mode="after")
    def _one_way_of_learning(self) -> Self:
        if self.distillation and self.adversarial:
            raise ValueError("Expected distillation or adversarial. Received: both: soft labels are those of clean images")
        if self.distillation and self.quantization == "after":
            raise ValueError("Expected quantization in training with distillation: its student is quantized. Received: after")
        return self


class Export(_Table):
    """How the artefact is made, and what disagreement is tolerated."""

    calibration_samples: Count = 500
    parity_samples: Count = 1000
    accuracy_drop: float = Field(0.5, ge=0, description="Largest loss of accuracy from QKeras to int8, in points.")
    agreement: Share = Field(0.985, description="Smallest share of images on which both name the same class.")


class Footprint(_Table):
    """Which boards the report compares with."""

    boards: tuple[str, ...] = Field((), description="Names from export/boards/; all of them when empty.")


class Recipe(_Table):
    """A resolved recipe. `name` is the folder's or file's name; it is no key of the file."""

    name: str
    description: str = ""
    seed: int = Field(7, ge=0, lt=2**31)
    data: Data
    network: Network = Network()
    precision: tuple[PrecisionRule, ...]
    train: Train
    export: Export = Export()
    robustness: Robustness = Robustness()
    footprint: Footprint = Footprint()
    listening: Listening | None = None

    @model_validator(mode="after")
    def _hears_speech(self) -> Self:
        adversarial = self.train.adversarial if isinstance(self.train.adversarial, AdversarialSound) else None
        if (self.robustness.waveform or adversarial) and not self.data.speech:
            raise ValueError("Expected [data.speech] where sound is attacked or learned from. Received: none")
        if adversarial and self.data.speech and self.data.speech.frontend.kind != "mfcc":
            raise ValueError("Expected the front end mfcc for training on attacked sound. Received: micro: it has no gradients")
        return self

    @model_validator(mode="after")
    def _listens_to_speech(self) -> Self:
        if self.listening and not self.data.speech:
            raise ValueError("Expected [data.speech] beside [listening]. Received: none: only a spotter of words can listen")
        if self.listening and self.data.speech and self.listening.hop_ms % frame_ms(self.data.speech.frontend):
            raise ValueError(
                f"Expected a listening.hop_ms that is a multiple of {frame_ms(self.data.speech.frontend)}, "
                f"the front end's step. Received: {self.listening.hop_ms}"
            )
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of the resolved form without name and description, in hex: equal hashes mean equal runs."""
        values = self.model_dump(mode="json", exclude={"name", "description"})
        if self.train.adversarial is None:  # runs from before there was such a table keep their hash
            del values["train"]["adversarial"]
        if self.train.quantization == "aware":  # likewise
            del values["train"]["quantization"]
        if self.train.distillation:
            _drop_defaults(values["train"]["distillation"], self.train.distillation, _LATER_DISTILLATION)
        if self.data.fold is None:  # likewise
            del values["data"]["fold"]
        if self.data.speech is None:  # likewise
            del values["data"]["speech"]
        else:
            _drop_defaults(values["data"]["speech"], self.data.speech, _LATER_SPEECH)
        if self.listening is None:  # likewise
            del values["listening"]
        _drop_defaults(values["robustness"], self.robustness, _LATER_ROBUSTNESS)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def run_name(self) -> str:
        """The name of the run's folder: `<recipe>-<hash8>`."""
        return f"{self.name}-{self.hash[:8]}"

    @property
    def temperature(self) -> float | None:
        """The temperature that the network is distilled at; None where it is not."""
        return self.train.distillation.temperature if self.train.distillation else None

    def to_toml(self) -> str:
        """The resolved recipe as TOML; `load` reads it back to an equal recipe."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True, exclude={"name"}))


def _drop_defaults(values: dict[str, Any], table: BaseModel, keys: Iterable[str]) -> None:
    """Takes keys that came later out of what is hashed where they say nothing: runs from before them keep their hash."""
    for key in keys:
        if getattr(table, key) == type(table).model_fields[key].default:
            del values[key]


def load(source: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Resolves a recipe.

    Args:
        source: A name from `models/`, or the path of a TOML file or of a folder with a `recipe.toml`.
        overrides: Settings such as `"train.epochs=3"`; the value is TOML, or text where it is not.

    Raises:
        RecipeError: There is no such recipe, it is not TOML, or a key or value does not fit.
    """
    path = find(source)
    values = _extended(path, ())
    for override in overrides:
        toml.assign(values, override, RecipeError)
    if "name" in values:
        raise RecipeError(f"{path}: 'name' is not a key of a recipe: its folder names it.", hint="Remove the line.")
    return toml.validated(Recipe, {"name": _name(path), **values}, f"Recipe {path}", RecipeError)


def find(source: str | Path) -> Path:
    """The path of the recipe that `source` names.

    Raises:
        RecipeError: There is none; the message names the nearest.
    """
    zoo = assets.recipes()
    if str(source) in zoo:
        return zoo[str(source)]
    path = Path(source)
    if path.is_dir():
        path /= "recipe.toml"
    if path.is_file():
        return path
    nearest = difflib.get_close_matches(str(source), zoo, n=1, cutoff=0.4)
    hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
    raise RecipeError(
        f"There is no recipe {str(source)!r}: expected a name from the zoo ({', '.join(zoo)}) or the path of a TOML file.",
        hint=hint + "`tinyrobust list recipes` shows them.",
    )


def _name(path: Path) -> str:
    return path.parent.name if path.name == "recipe.toml" else path.stem


def _extended(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in seen:
        raise RecipeError(f"Recipes extend each other in a circle: {' -> '.join(map(_name, (*seen, path)))}.")
    values = toml.values(path, RecipeError)
    parent, without = values.pop("extends", None), values.pop("without", [])
    if parent is None and not without:
        return values
    if parent is None or not isinstance(without, list):
        raise RecipeError(f"{path}: Expected without = [keys of the recipe that it extends]. Received: {without!r}")
    beside = path.parent / str(parent)
    below = _extended(beside if beside.is_file() else find(str(parent)), (*seen, path))
    for key in without:
        if not toml.removed(below, str(key)):
            raise RecipeError(f"{path}: Expected without to name keys of the recipe that it extends. Received: {key!r}")
    return toml.merged(below, values)
