"""What the stages of a run do; those that judge what was exported are in `evaluations`.

Which there are, and what each reads and leaves, stands in `plan`. A stage imports what needs TensorFlow when it runs: training
works without, on an accelerator under JAX.
"""

from functools import partial

import keras

from tinyrobust.data.arrays import scale
from tinyrobust.data.speech.frontend_record import SpeechParts
from tinyrobust.files import write_atomic
from tinyrobust.footprint import measure
from tinyrobust.graphs import numbers
from tinyrobust.networks.keras_file import load_weights
from tinyrobust.pipeline.context import SEEN, Context, need_tensorflow, seen_images
from tinyrobust.pipeline.facts import run_facts
from tinyrobust.pipeline.folder import RunFolder
from tinyrobust.pipeline.teacher_check import check
from tinyrobust.pipeline.teachers import teach
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.start import StartFile
from tinyrobust.reports.card import write_card
from tinyrobust.reports.report import render
from tinyrobust.training import fit
from tinyrobust.training.after import quantize_after, take_weights
from tinyrobust.training.fit import FitFiles
from tinyrobust.training.precision import choose
from tinyrobust.training.precision_record import PRECISION, PrecisionRecord
from tinyrobust.training.teacher_record import TEACHER

_REHEARSED = 8  # images: enough for the converter


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
    settings, validation = context.recipe.train, context.dataset.validation
    assert settings.teaching is not None
    temperature = settings.teaching.temperature
    teacher = context.trained("teacher")
    record = check(teacher, validation, settings.transferred, context.recipe.seed, context.progress, temperature)
    record.save(context.path / TEACHER)


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


def export(context: Context) -> None:
    """What is flashed: the artefact, proven to agree with the network, and its C array; of speech, the front end too.

    And the network's numbers, small enough to lie beside the artefact wherever it goes.
    """
    need_tensorflow()
    from tinyrobust.deploy.export import export as write_artefacts

    settings = context.recipe.export
    learned = context.learned
    images, labels = seen_images(learned, settings.parity_samples)
    network = context.trained("train")
    write_artefacts(
        network,
        name=context.recipe.name,
        calibration=learned.train.x[: settings.calibration_samples],
        parity_images=images,
        parity_labels=labels,
        parity_source=SEEN,
        classes=context.dataset.classes,
        settings=settings,
        folder=context.path,
        arena_head=measure.arena_head,
        progress=context.progress,
    )
    numbers.save(network, context.path / numbers.NETWORK)
    if context.dataset.speech:
        _export_frontend(context, context.dataset.speech)


def _export_frontend(context: Context, speech: SpeechParts) -> None:
    from tinyrobust.deploy.frontend_header import write_frontend
    from tinyrobust.deploy.interpreter import Int8Model

    answers = Int8Model(context.path / "model.tflite").predict(scale(speech.vectors.features)).argmax(axis=1)
    write_frontend(speech.record, speech.vectors, answers.tolist(), context.recipe.name, context.path)


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
