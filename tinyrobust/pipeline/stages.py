"""What the stages of a run do. Which there are, and what each reads and leaves, stands in `plan`.

A stage imports what needs TensorFlow when it runs: training works without, on an accelerator under JAX.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Dataset, scale
from tinyrobust.data.speech.frontend_record import FrontendRecord, SpeechParts
from tinyrobust.errors import MissingToolError
from tinyrobust.files import write_atomic
from tinyrobust.footprint import measure
from tinyrobust.graphs.freeze import freeze
from tinyrobust.networks.catalog import build
from tinyrobust.networks.keras_file import load_weights
from tinyrobust.pipeline.facts import run_facts
from tinyrobust.pipeline.folder import RunFolder
from tinyrobust.pipeline.teacher_check import check
from tinyrobust.pipeline.teachers import teach
from tinyrobust.progress import Progress
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.start import StartFile
from tinyrobust.reports.card import write_card
from tinyrobust.reports.report import render
from tinyrobust.robustness.amplification_record import AMPLIFICATION
from tinyrobust.training import fit
from tinyrobust.training.after import quantize_after, take_weights
from tinyrobust.training.fit import FitFiles
from tinyrobust.training.precision import choose
from tinyrobust.training.precision_record import PRECISION, PrecisionRecord
from tinyrobust.training.teacher_record import TEACHER

if TYPE_CHECKING:
    from tinyrobust.robustness.attack_plan import AttackPlan
    from tinyrobust.robustness.job import EvaluationData, EvaluationJob


_REHEARSED = 8  # images: enough for the converter
_SEEN = "validation images first, then training images; none from the test set"


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
    def learned(self) -> Dataset:
        """The data with the fraction of the training images that the network learns from; its teachers learn from all."""
        return self.dataset.with_fraction(self.recipe.train.fraction, self.recipe.seed)

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


def rehearse_export(context: Context, network: keras.Model) -> None:
    """Converts the network of somebody's file before it is trained: what the converter makes of it is nobody's promise.

    Networks of ours need no rehearsal, and without TensorFlow there can be none.

    Raises:
        ModelFileError: It cannot be converted.
    """
    if not context.recipe.network.trained or context.folder.is_complete("train") or keras.backend.backend() != "tensorflow":
        return
    from tinyrobust.deploy.convert import convert

    context.progress("export: rehearsal", 0, 1)
    convert(network, context.dataset.train.x[:_REHEARSED])
    context.progress("export: rehearsal", 1, 1)


def teacher(context: Context) -> None:
    """The float network, or networks, that the student learns from."""
    teach(context.network, context.dataset, context.recipe, context.path, context.progress)


def teacher_check(context: Context) -> None:
    """How robust the teacher is whose robustness the student is to learn: told before that trains."""
    epsilons, seed = context.recipe.train.transferred, context.recipe.seed
    check(context.trained("teacher"), context.dataset.validation, epsilons, seed, context.progress).save(context.path / TEACHER)


def float_network(context: Context) -> None:
    """The float network that is quantized afterwards, measured for a budget, or started from."""
    recipe = context.recipe.of_float_network
    files = FitFiles.in_folder(context.path, "float")

    def network(recipe: Recipe) -> keras.Model:
        built = context.network(recipe)
        if isinstance(recipe.train.start, StartFile):
            load_weights(built, recipe.train.start)
        return built

    if recipe.train.epochs == 0:
        fit.untrained(network(recipe), context.dataset, files)
        return
    teacher = partial(context.trained, "teacher")
    fit.train(network, context.learned, recipe, files, teacher=teacher, progress=context.progress)


def precision(context: Context) -> None:
    """The formats of weights that fit the recipe's budget."""
    record = choose(context.network, context.trained("float"), context.learned, context.recipe, context.progress)
    record.save(context.path / PRECISION)


def train(context: Context) -> None:
    """The recipe's network, in the recipe's precision or in the one that was chosen to fit its budget."""
    recipe, budget = context.recipe, context.recipe.precision.budget
    if budget is not None:
        recipe = PrecisionRecord.load(context.path / PRECISION).applied(recipe)
    files = FitFiles.in_folder(context.path, "train")
    if recipe.train.quantization == "after":
        before = FitFiles.in_folder(context.path, "float")
        quantize_after(context.trained("float"), context.network(recipe), context.learned, recipe, files.model)
        write_atomic(files.history, before.history.read_text(encoding="utf-8"))
        return

    def network(recipe: Recipe) -> keras.Model:
        built = context.network(recipe)
        if recipe.train.start:
            take_weights(context.trained("float"), built)
        return built

    teacher = partial(context.trained, "teacher")
    fit.train(network, context.learned, recipe, files, teacher=teacher, progress=context.progress)


def _need_tensorflow() -> None:
    if keras.backend.backend() != "tensorflow":
        raise MissingToolError(
            f"Expected Keras on TensorFlow for everything after training. Received: backend {keras.backend.backend()!r}.",
            hint="Run the same command with KERAS_BACKEND=tensorflow: the trained network is kept, the run goes on with it.",
        )


def export(context: Context) -> None:
    """What is flashed: the artefact, proven to agree with the network, and its C array; of speech, the front end too."""
    _need_tensorflow()
    from tinyrobust.deploy.export import export as write_artefacts

    settings = context.recipe.export
    learned = context.learned
    images, labels = _seen_images(learned, settings.parity_samples)
    write_artefacts(
        context.trained("train"),
        name=context.recipe.name,
        calibration=learned.train.x[: settings.calibration_samples],
        parity_images=images,
        parity_labels=labels,
        parity_source=_SEEN,
        classes=context.dataset.classes,
        settings=settings,
        folder=context.path,
        arena_head=measure.arena_head,
        progress=context.progress,
    )
    if context.dataset.speech:
        _export_frontend(context, context.dataset.speech)


def _export_frontend(context: Context, speech: SpeechParts) -> None:
    from tinyrobust.deploy.frontend_header import write_frontend
    from tinyrobust.deploy.interpreter import Int8Model

    answers = Int8Model(context.path / "model.tflite").predict(scale(speech.vectors.features)).argmax(axis=1)
    write_frontend(speech.record, speech.vectors, answers.tolist(), context.recipe.name, context.path)


def _seen_images(dataset: Dataset, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first `count` of validation and then training images: never the test set, which is looked at once, later."""
    first = (dataset.validation, dataset.train)
    x = np.concatenate([split.x[:count] for split in first])
    y = np.concatenate([split.y[:count] for split in first])
    return x[:count], y[:count]


def attack(context: Context) -> None:
    """How robust network and artefact are against changes of their inputs."""
    _need_tensorflow()
    from tinyrobust.pipeline.evaluation_data import features_of

    _attacked(context, features_of(context.dataset), None)


def attack_waveform(context: Context) -> None:
    """How robust they are against changes of the sound before the front end."""
    _need_tensorflow()
    from tinyrobust.pipeline.evaluation_data import sound_of

    _attacked(context, *sound_of(context.dataset))


def _attacked(context: Context, data: "EvaluationData", front_end: FrontendRecord | None) -> None:
    from tinyrobust.robustness.attack_plan import AttackPlan
    from tinyrobust.robustness.evaluation import evaluate

    plan = AttackPlan.of(context.recipe.robustness, context.recipe.seed, "waveform" if front_end else "features")
    evaluate(_job(context, data, plan, front_end))


def _job(
    context: Context, data: "EvaluationData", plan: "AttackPlan", front_end: FrontendRecord | None = None
) -> "EvaluationJob":
    from tinyrobust.robustness.job import EvaluationJob, Execution, Subject, members_of

    members = members_of(context.path / "model.tflite", freeze(context.trained("train")))
    return EvaluationJob(
        Subject(members, front_end=front_end, temperature=context.recipe.temperature),
        data,
        plan,
        # The pieces in a run's folder are of this run: where its network was trained anew, they are stale.
        Execution(context.path, fresh=True, jobs=context.jobs, progress=context.progress),
    )


def corruptions(context: Context) -> None:
    """How often they are right about images that a camera spoils."""
    _need_tensorflow()
    from tinyrobust.pipeline.evaluation_data import features_of
    from tinyrobust.robustness.attack_plan import AttackPlan
    from tinyrobust.robustness.corruption_evaluation import evaluate_corruptions
    from tinyrobust.robustness.protocol import of_corruptions

    settings = context.recipe.robustness
    assert settings.corruptions is not None
    plan = AttackPlan(settings=settings, protocol=of_corruptions(settings.corruptions), seed=context.recipe.seed)
    evaluate_corruptions(_job(context, features_of(context.dataset), plan))


def listen(context: Context) -> None:
    """How often the artefact hears what was not said, and misses what was."""
    from tinyrobust.listening import measure as listening
    from tinyrobust.listening.detection_record import DETECTION
    from tinyrobust.listening.spotter import Spotter

    speech, settings = context.dataset.speech, context.recipe.listening
    assert speech is not None
    assert settings is not None
    spotter = Spotter(context.path / "model.tflite")
    record = listening.measure(spotter, speech.recordings, context.dataset.name, settings, context.progress)
    record.save(context.path / DETECTION)


def amplification(context: Context) -> None:
    """How much the network amplifies changes of its inputs, layer by layer."""
    _need_tensorflow()
    from tinyrobust.robustness import amplification as measured

    images, labels = _seen_images(context.dataset, measured.IMAGES)
    record = measured.measure(
        context.trained("train"),
        scale(images),
        labels,
        images=_SEEN,
        epsilon=context.recipe.robustness.headline,
        seed=context.recipe.seed,
        progress=context.progress,
    )
    record.save(context.path / AMPLIFICATION)


def footprint(context: Context) -> None:
    """What the artefact costs on a microcontroller."""
    boards = context.recipe.footprint.boards
    record = measure.footprint(context.path / "model.tflite", boards, device=True, progress=context.progress)
    record.save(context.path / "footprint.json")


def report(context: Context) -> None:
    """Report and model card."""
    write_report(context.folder)


def write_report(folder: RunFolder) -> None:
    """Writes report and model card from the records in the folder."""
    facts = run_facts(folder.recipe, folder.record)
    render(folder.path, facts)
    write_card(folder.path, facts)
