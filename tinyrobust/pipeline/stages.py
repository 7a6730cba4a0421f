"""The stages of a run, in order. Each reads what earlier ones left in the folder, leaves its own files, and names them.

A stage imports what needs TensorFlow when it runs: training works without, on an accelerator under JAX.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from tinyrobust.data.arrays import Dataset, Split, scale
from tinyrobust.data.speech.record import Heard
from tinyrobust.errors import MissingToolError
from tinyrobust.footprint.measure import arena_head, footprint
from tinyrobust.networks.catalog import build
from tinyrobust.pipeline.facts import run_facts
from tinyrobust.pipeline.folder import RunFolder
from tinyrobust.progress import Progress
from tinyrobust.quantizers.layers import freeze
from tinyrobust.recipe import PrecisionRule, Recipe
from tinyrobust.reports.card import write_card
from tinyrobust.reports.report import render
from tinyrobust.robustness import protocol
from tinyrobust.training.adversarial import FastAdversarial
from tinyrobust.training.fit import FitFiles, fit
from tinyrobust.training.objectives import CrossEntropy, Distillation, Objective

_FLOAT = (PrecisionRule(layers=".*", weights="float", activations="float"),)


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
        """The network that the stage `teacher` or `train` left."""
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
    """A float network of the same family, trained at the distillation's temperature (Papernot et al. 2016)."""
    recipe = context.recipe.model_copy(update={"precision": _FLOAT})
    distillation = recipe.train.distillation
    assert distillation is not None
    objective = CrossEntropy(recipe.train.label_smoothing, distillation.temperature)
    files = FitFiles.in_folder(context.path, "teacher")
    epochs = distillation.teacher_epochs
    fit(context.network(recipe), [objective], context.dataset, recipe, files, epochs=epochs, progress=context.progress)


def _train(context: Context) -> None:
    recipe, settings = context.recipe, context.recipe.train
    objective: Objective = CrossEntropy(settings.label_smoothing)
    if settings.distillation:
        objective = Distillation(context.trained("teacher"), settings.distillation.temperature)
    if settings.adversarial:
        attack = settings.adversarial
        objective = FastAdversarial(attack.epsilon, attack.step, settings.label_smoothing, recipe.seed)
    files = FitFiles.in_folder(context.path, "train")
    fit(context.network(recipe), [objective], context.dataset, recipe, files, progress=context.progress)


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
    images = _parity_images(context.dataset, settings.parity_samples)
    export(
        context.trained("train"),
        name=context.recipe.name,
        calibration=context.dataset.train.x[: settings.calibration_samples],
        parity_images=images.x,
        parity_labels=images.y,
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


def _parity_images(dataset: Dataset, count: int) -> Split:
    """The first `count` of validation and then training images: never the test set, which is looked at once, later."""
    train, validation = dataset.train, dataset.validation
    return Split(np.concatenate([validation.x, train.x])[:count], np.concatenate([validation.y, train.y])[:count])


def _attack(context: Context) -> None:
    _need_tensorflow()
    from tinyrobust.robustness.evaluation import evaluate

    settings = context.recipe.robustness
    evaluate(
        keras_model=freeze(context.trained("train")),
        tflite=context.path / "model.tflite",
        dataset_name=context.dataset.name,
        fingerprint=context.dataset.fingerprint,
        x_test=context.dataset.test.x,
        y_test=context.dataset.test.y,
        settings=settings,
        protocol=protocol.load(settings.protocol),
        seed=context.recipe.seed,
        output=context.path,
        temperature=context.recipe.temperature,
        fresh=True,  # the pieces in a run's folder are of this run: where its network was trained anew, they are stale
        jobs=context.jobs,
        progress=context.progress,
    )


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
    Stage("train", _train, ("model.keras", "history.jsonl")),
    Stage(
        "export",
        _export,
        ("model.tflite", "parity.json", "model_data.cc", "model_data.h"),
        speech_files=("frontend.json", "model_frontend.h", "model_frontend_vectors.h"),
    ),
    Stage("attack", _attack, ("robustness.json", "per_sample.npz")),
    Stage("footprint", _footprint, ("footprint.json",)),
    Stage("report", _report, ("report.html", "README.md")),
)
