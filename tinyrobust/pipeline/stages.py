"""The stages of a run, in order. Each reads what earlier ones left in the folder, leaves its own files, and names them.

A stage imports what needs TensorFlow when it runs: training works without, on an accelerator under JAX.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Dataset, scale
from tinyrobust.data.speech.frontend_record import FrontendRecord, Heard
from tinyrobust.errors import MissingToolError
from tinyrobust.files import write_atomic
from tinyrobust.footprint.measure import arena_head, footprint
from tinyrobust.networks.catalog import build
from tinyrobust.pipeline.facts import run_facts
from tinyrobust.pipeline.folder import RunFolder
from tinyrobust.pipeline.teachers import teach
from tinyrobust.progress import Progress
from tinyrobust.quantizers.layers import freeze
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.adversarial import AdversarialSound
from tinyrobust.recipe.frontend import Mfcc
from tinyrobust.recipe.precision import FLOAT
from tinyrobust.reports.card import write_card
from tinyrobust.reports.report import render
from tinyrobust.training.adversarial import FastAdversarial
from tinyrobust.training.after import quantize_after
from tinyrobust.training.fit import FitFiles, fit
from tinyrobust.training.objectives import CrossEntropy, Distillation, Objective

if TYPE_CHECKING:
    from tinyrobust.robustness.job import EvaluationData


@dataclass(frozen=True)
class Context:
    """What a stage works on, and over how many processes the attacks are spread."""

    folder: RunFolder
    dataset: Dataset
    progress: Progress
    jobs: int = 1

    @property
    def recipe(self) -> Recipe:
        """The run's resolved recipe."""
        return self.folder.recipe

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    def network(self, recipe: Recipe) -> keras.Model:
        """The untrained network of `recipe` for this data set."""
        return build(recipe, self.dataset.input_shape, len(self.dataset.classes))

    def trained(self, stage: str) -> keras.Model:
        """The network that the stage `teacher`, `float` or `train` left."""
        return keras.models.load_model(FitFiles.in_folder(self.path, stage).model, compile=False)


@dataclass(frozen=True)
class Stage:
    """A stage: its name, the function that does it, the files that it leaves, and whether a recipe needs it."""

    name: str
    run: Callable[[Context], None]
    files: tuple[str, ...]
    needed: Callable[[Recipe], bool] = lambda recipe: True  # noqa: ARG005 - most stages are always needed
    speech_files: tuple[str, ...] = ()

    def left(self, recipe: Recipe) -> tuple[str, ...]:
        """The files that it leaves for this recipe."""
        return self.files + (self.speech_files if recipe.data.speech else ())


def _teacher(context: Context) -> None:
    teach(context.network, context.dataset, context.recipe, context.path, context.progress)


def _float(context: Context) -> None:
    """The float network whose weights are quantized afterwards."""
    recipe = context.recipe.model_copy(update={"precision": FLOAT})
    files = FitFiles.in_folder(context.path, "float")
    objective, front = _objective(context)
    fit(context.network(recipe), [objective], context.dataset, recipe, files, front=front, progress=context.progress)


def _train(context: Context) -> None:
    recipe = context.recipe
    files = FitFiles.in_folder(context.path, "train")
    if recipe.train.quantization == "after":
        before = FitFiles.in_folder(context.path, "float")
        quantize_after(context.trained("float"), context.network(recipe), context.dataset, recipe, files.model)
        write_atomic(files.history, before.history.read_text(encoding="utf-8"))
        return
    objective, front = _objective(context)
    fit(context.network(recipe), [objective], context.dataset, recipe, files, front=front, progress=context.progress)


def _objective(context: Context) -> tuple[Objective, Any]:
    """What the recipe's training minimises, and the front end where it learns from sound."""
    settings = context.recipe.train
    if settings.distillation:
        return Distillation(context.trained("teacher"), settings.distillation.temperature), None
    if isinstance(settings.adversarial, AdversarialSound):
        return _against_noise(context, settings.adversarial)
    if settings.adversarial:
        attack = settings.adversarial
        return FastAdversarial(attack.epsilon, attack.step, settings.label_smoothing, context.recipe.seed), None
    return CrossEntropy(settings.label_smoothing), None


def _against_noise(context: Context, attack: AdversarialSound) -> tuple[Objective, Any]:
    """The objective that makes noise against front end and network, and the front end."""
    from tinyrobust.data.speech.differentiable import MfccLayer
    from tinyrobust.data.speech.frontend import Grid
    from tinyrobust.training.sound import SoundAdversarial

    heard = context.dataset.heard
    assert heard is not None
    assert isinstance(heard.record.settings, Mfcc)  # recipes with another front end are refused
    front = MfccLayer(heard.record.settings, Grid.of(heard.record), rounded=True)
    settings = context.recipe.train
    smoothing, seed = settings.label_smoothing, context.recipe.seed
    return SoundAdversarial(front, attack.snr_db, attack.steps, attack.step, smoothing, seed), front


def _need_tensorflow() -> None:
    if keras.backend.backend() != "tensorflow":
        raise MissingToolError(
            f"Expected Keras on TensorFlow for everything after training. Received: backend {keras.backend.backend()!r}.",
            hint="Run the same command with KERAS_BACKEND=tensorflow: the trained network is kept, the run goes on with it.",
        )


def _export(context: Context) -> None:
    _need_tensorflow()
    from tinyrobust.deploy.export import export

    settings = context.recipe.export
    images, labels = _parity_images(context.dataset, settings.parity_samples)
    export(
        context.trained("train"),
        name=context.recipe.name,
        calibration=context.dataset.train.x[: settings.calibration_samples],
        parity_images=images,
        parity_labels=labels,
        parity_source="validation images first, then training images; none from the test set",
        classes=context.dataset.classes,
        settings=settings,
        folder=context.path,
        arena_head=arena_head,
        progress=context.progress,
    )
    if context.dataset.heard:
        _export_frontend(context, context.dataset.heard)


def _export_frontend(context: Context, heard: Heard) -> None:
    from tinyrobust.deploy.frontend_header import write_frontend
    from tinyrobust.deploy.interpreter import Int8Model

    answers = Int8Model(context.path / "model.tflite").predict(scale(heard.vectors.features)).argmax(axis=1)
    write_frontend(heard.record, heard.vectors, answers.tolist(), context.recipe.name, context.path)


def _parity_images(dataset: Dataset, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first `count` of validation and then training images: never the test set, which is looked at once, later."""
    first = (dataset.validation, dataset.train)
    x = np.concatenate([split.x[:count] for split in first])
    y = np.concatenate([split.y[:count] for split in first])
    return x[:count], y[:count]


def _attack(context: Context) -> None:
    _need_tensorflow()
    from tinyrobust.pipeline.evaluation_data import features_of

    _attacked(context, features_of(context.dataset), None)


def _attack_waveform(context: Context) -> None:
    _need_tensorflow()
    from tinyrobust.pipeline.evaluation_data import sound_of

    _attacked(context, *sound_of(context.dataset))


def _attacked(context: Context, data: "EvaluationData", front_end: FrontendRecord | None) -> None:
    from tinyrobust.robustness.attack_plan import AttackPlan
    from tinyrobust.robustness.evaluation import evaluate
    from tinyrobust.robustness.job import EvaluationJob, Execution, Subject, members_of

    recipe, settings = context.recipe, context.recipe.robustness
    evaluate(
        EvaluationJob(
            Subject(
                members_of(context.path / "model.tflite", freeze(context.trained("train"))),
                front_end=front_end,
                temperature=recipe.temperature,
            ),
            data,
            AttackPlan.of(settings, recipe.seed, "waveform" if front_end else "features"),
            # The pieces in a run's folder are of this run: where its network was trained anew, they are stale.
            Execution(context.path, fresh=True, jobs=context.jobs, progress=context.progress),
        )
    )


def _listen(context: Context) -> None:
    from tinyrobust.listening.detection_record import DETECTION
    from tinyrobust.listening.measure import measure
    from tinyrobust.listening.spotter import Spotter

    heard, settings = context.dataset.heard, context.recipe.listening
    assert heard is not None
    assert settings is not None
    spotter = Spotter(context.path / "model.tflite")
    found = measure(spotter, heard.recordings, context.dataset.name, settings, context.progress)
    found.save(context.path / DETECTION)


def _footprint(context: Context) -> None:
    boards = context.recipe.footprint.boards
    record = footprint(context.path / "model.tflite", boards, device=True, progress=context.progress)
    record.save(context.path / "footprint.json")


def _report(context: Context) -> None:
    write_report(context.folder)


def write_report(folder: RunFolder) -> None:
    """Writes report and model card from the records in the folder."""
    facts = run_facts(folder.recipe, folder.record)
    render(folder.path, facts)
    write_card(folder.path, facts)


STAGES = (
    Stage(
        "teacher",
        _teacher,
        ("teacher_model.keras", "teacher_history.jsonl"),
        needed=lambda recipe: recipe.train.distillation is not None,
    ),
    Stage(
        "float",
        _float,
        ("float_model.keras", "float_history.jsonl"),
        needed=lambda recipe: recipe.train.quantization == "after",
    ),
    Stage("train", _train, ("model.keras", "history.jsonl")),
    Stage(
        "export",
        _export,
        ("model.tflite", "parity.json", "model_data.cc", "model_data.h"),
        speech_files=("frontend.json", "model_frontend.h", "model_frontend_vectors.h"),
    ),
    Stage("footprint", _footprint, ("footprint.json",)),
    Stage("attack", _attack, ("robustness.json", "per_sample.npz")),
    Stage(
        "attack-waveform",
        _attack_waveform,
        ("robustness-waveform.json", "per_sample-waveform.npz"),
        needed=lambda recipe: recipe.robustness.waveform is not None,
    ),
    Stage("listen", _listen, ("detection.json",), needed=lambda recipe: recipe.listening is not None),
    Stage("report", _report, ("report.html", "README.md")),
)
