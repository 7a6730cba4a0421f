"""The stages of a run, as a graph: what each reads, what it leaves, and the key that says whether that has changed.

A stage is done again when what it reads has changed, and only then. What it reads is a part of the recipe, the data, and files
that other stages left. So the files make the graph: a stage depends on those that leave what it reads. To add a stage, enter it
in `STAGES` and write the function that it names; nothing here needs TensorFlow.
"""

import hashlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tinyrobust.choices import no_such
from tinyrobust.errors import RecipeError, TinyRobustError
from tinyrobust.pipeline import reads
from tinyrobust.pipeline.reads import Reads
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.recipe import Recipe
from tinyrobust.robustness.amplification_record import AMPLIFICATION
from tinyrobust.robustness.information_record import INFORMATION

if TYPE_CHECKING:
    from tinyrobust.pipeline.context import Context

SCHEMA = 1  # of all keys: raised when the way they are made changes


def _always(recipe: Recipe) -> bool:
    del recipe
    return True


def _answers_alike(recipe: Recipe) -> bool:
    """Whether the network is a function of its inputs: one that draws has no file yet, and what is a file's it has not."""
    return not recipe.stochastic


@dataclass(frozen=True)
class Stage:
    """A stage of a run.

    Attributes:
        name: Of the stage.
        work: The function that does it, `module:function`, called with a `stages.Context`; imported when the stage is done.
        files: What it leaves in the run's folder, beside checkpoints and other things that only it reads.
        reads: What it reads of the recipe, and of files that the recipe names but the data; see `reads.py`.
        inputs: Files of other stages that it reads, where the recipe has these stages.
        reads_data: Whether it reads the data set.
        needed: Whether a recipe has this stage.
        speech_files: What it leaves besides where the data are speech.
        of_run: What it reads of `run.json`. Such a stage belongs to one run: no other run takes it over.
        version: Raised when the stage gives other files for the same: it is done again then.
    """

    name: str
    work: str
    files: tuple[str, ...]
    reads: Callable[[Recipe], Reads]
    inputs: tuple[str, ...] = ()
    reads_data: bool = True
    needed: Callable[[Recipe], bool] = _always
    speech_files: tuple[str, ...] = ()
    of_run: Callable[[Recipe, RunRecord], Reads] | None = None
    version: int = 1

    def left(self, recipe: Recipe) -> tuple[str, ...]:
        """The files that it leaves for this recipe."""
        return self.files + (self.speech_files if recipe.data.speech else ())

    def run(self, context: "Context") -> None:
        """Does the stage."""
        pkgutil.resolve_name(self.work)(context)

    @property
    def can_be_shared(self) -> bool:
        """Whether another run of the same key may take over its files."""
        return self.of_run is None

    def key(self, recipe: Recipe, record: RunRecord) -> str:
        """SHA-256 of everything that it reads: equal keys mean equal files.

        Args:
            recipe: Of the run.
            record: Of the run: the data's fingerprint, and the hashes of what other stages left. A file that is not there yet
                is an input too: the key changes when it comes.
        """
        others = {name: done for name, done in record.stages.items() if name != self.name}
        digests = {file: digest for done in others.values() for file, digest in done.files.items()}
        of_run = self.of_run(recipe, record.model_copy(update={"stages": others})) if self.of_run else {}
        return self._hash(
            self.reads(recipe) | of_run,
            fingerprint=record.dataset_fingerprint if self.reads_data else None,
            inputs={file: digests.get(file) for file in self._read_from(recipe)},
        )

    def signature(self, recipe: Recipe) -> str:
        """As `key`, but before anything is computed: what other stages leave is named by their signatures."""
        inputs = {file: maker.signature(recipe) for file, maker in self._read_from(recipe).items()}
        return self._hash(self.reads(recipe), inputs=inputs)

    def _read_from(self, recipe: Recipe) -> dict[str, "Stage"]:
        """The files that it reads, each with the stage that leaves it."""
        return {
            file: stage
            for file in self.inputs
            for stage in STAGES
            if file in stage.left(recipe) and stage.needed(recipe) and stage is not self
        }

    def _hash(self, reads: Reads, **other: object) -> str:
        values = {"schema": SCHEMA, "stage": self.name, "version": self.version, "reads": reads, **other}
        return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


_WORK, _JUDGING = "tinyrobust.pipeline.stages", "tinyrobust.pipeline.evaluations"
STAGES = (
    Stage(
        "teacher",
        f"{_WORK}:teacher",
        ("teacher_model.keras", "teacher_history.jsonl"),
        reads.teacher,
        needed=lambda recipe: "teacher" in recipe.train.needs,
    ),
    Stage(
        "teacher-check",
        f"{_WORK}:teacher_check",
        ("teacher.json",),
        reads.teacher_check,
        inputs=("teacher_model.keras",),
        needed=lambda recipe: bool(recipe.train.transferred),
    ),
    Stage(
        "float",
        f"{_WORK}:float_network",
        ("float_model.keras", "float_history.jsonl"),
        reads.float_network,
        inputs=("teacher_model.keras",),
        needed=lambda recipe: recipe.has_float_network,
    ),
    Stage(
        "precision",
        f"{_WORK}:precision",
        ("precision.json",),
        reads.precision,
        inputs=("float_model.keras",),
        needed=lambda recipe: recipe.precision.budget is not None,
    ),
    Stage(
        "train",
        f"{_WORK}:train",
        ("model.keras", "history.jsonl"),
        reads.train,
        inputs=("teacher_model.keras", "float_model.keras", "float_history.jsonl", "precision.json"),
    ),
    Stage(
        "export",
        f"{_WORK}:export",
        ("model.tflite", "network.npz", "parity.json", "model_data.cc", "model_data.h"),
        reads.export,
        inputs=("model.keras",),
        needed=_answers_alike,
        speech_files=("frontend.json", "model_frontend.h", "model_frontend_vectors.h"),
        version=2,
    ),
    Stage(
        "footprint",
        f"{_WORK}:footprint",
        ("footprint.json",),
        reads.footprint,
        inputs=("model.tflite",),
        reads_data=False,
        needed=_answers_alike,
    ),
    Stage(
        "attack",
        f"{_JUDGING}:attack",
        ("robustness.json", "per_sample.npz"),
        reads.attack,
        inputs=("model.keras", "model.tflite"),
        needed=_answers_alike,
    ),
    Stage(
        "attack-waveform",
        f"{_JUDGING}:attack_waveform",
        ("robustness-waveform.json", "per_sample-waveform.npz"),
        reads.attack_waveform,
        inputs=("model.keras", "model.tflite"),
        needed=lambda recipe: recipe.robustness.waveform is not None,
    ),
    Stage(
        "corruptions",
        f"{_JUDGING}:corruptions",
        ("corruptions.json",),
        reads.corruptions,
        inputs=("model.keras", "model.tflite"),
        needed=lambda recipe: recipe.robustness.corruptions is not None,
    ),
    Stage(
        "listen",
        f"{_JUDGING}:listen",
        ("detection.json",),
        reads.listen,
        inputs=("model.tflite", "frontend.json"),
        needed=lambda recipe: recipe.listening is not None,
    ),
    Stage(
        "amplification",
        f"{_JUDGING}:amplification",
        (AMPLIFICATION,),
        reads.amplification,
        inputs=("model.keras",),
        needed=_answers_alike,
    ),
    Stage(
        "information",
        f"{_JUDGING}:information",
        (INFORMATION,),
        reads.information,
        inputs=("model.keras",),
        needed=lambda recipe: bool(recipe.stochastic),
    ),
    Stage(
        "report",
        f"{_WORK}:report",
        ("report.html", "README.md"),
        reads.report,
        inputs=(
            *(
                "teacher_history.jsonl",
                "teacher.json",
                "float_history.jsonl",
                "precision.json",
                "history.jsonl",
                "model.tflite",
                "parity.json",
                "footprint.json",
                "detection.json",
                AMPLIFICATION,
                INFORMATION,
            ),
            *("robustness.json", "per_sample.npz", "robustness-waveform.json", "per_sample-waveform.npz", "corruptions.json"),
        ),
        of_run=reads.facts,
    ),
)
"""Every stage, in the order in which a run does them: after all that it reads from."""
NAMES = tuple(stage.name for stage in STAGES)


def named(name: str) -> Stage:
    """The stage of this name.

    Raises:
        TinyRobustError: There is none.
    """
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise TinyRobustError(no_such("stage", name, NAMES))


def until(last: str, recipe: Recipe) -> list[Stage]:
    """The stages that a recipe needs, in order, as far as the stage `last`.

    Raises:
        TinyRobustError: There is no stage `last`, or it is one that a network that is random at inference has not.
    """
    stage = named(last)
    if stage.needed is _answers_alike and not _answers_alike(recipe):
        raise RecipeError(
            f"Expected a network that is a function of its inputs for the stage {last!r}. Received: {recipe.name!r}, whose "
            f"[[stochastic]] quantizers ({', '.join(one.place for one in recipe.stochastic)}) draw at inference: it cannot be "
            "exported yet.",
            hint="`tinyrobust run` trains it and attacks it as a network (information.json).",
        )
    return [stage for stage in STAGES[: NAMES.index(named(last).name) + 1] if stage.needed(recipe)]


def leaving(file: str) -> Stage:
    """The stage that leaves a file.

    Raises:
        TinyRobustError: None does.
    """
    for stage in STAGES:
        if file in (*stage.files, *stage.speech_files):
            return stage
    raise TinyRobustError(no_such("file of a stage", file, [file for stage in STAGES for file in stage.files]))


@cache
def signatures(recipe: Recipe) -> dict[str, str]:
    """The signature of every stage that runs of this recipe and others can share: equal ones need to be computed once."""
    return {stage.name: stage.signature(recipe) for stage in STAGES if stage.needed(recipe) and stage.can_be_shared}
