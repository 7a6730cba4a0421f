"""The stages that judge what was trained and exported: attacks, corruptions, listening, amplification, information."""

from typing import TYPE_CHECKING

import numpy as np

from tinyrobust.data.arrays import scale
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.graphs.freeze import freeze
from tinyrobust.pipeline.context import SEEN, Context, need_tensorflow, seen_images
from tinyrobust.robustness.amplification_record import AMPLIFICATION
from tinyrobust.robustness.information_record import INFORMATION

if TYPE_CHECKING:
    from tinyrobust.robustness.attack_plan import AttackPlan
    from tinyrobust.robustness.job import EvaluationData, EvaluationJob

_CALIBRATED = 1000  # images at most that a detector's thresholds are set on


def attack(context: Context) -> None:
    """How robust network and artefact are against changes of their inputs."""
    need_tensorflow()
    from tinyrobust.pipeline.evaluation_data import features_of

    _attacked(context, features_of(context.dataset), None)


def attack_waveform(context: Context) -> None:
    """How robust they are against changes of the sound before the front end."""
    need_tensorflow()
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
    need_tensorflow()
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
    need_tensorflow()
    from tinyrobust.robustness import amplification as measured

    images, labels = seen_images(context.dataset, measured.IMAGES)
    record = measured.measure(
        context.trained("train"),
        scale(images),
        labels,
        images=SEEN,
        epsilon=context.recipe.robustness.headline,
        seed=context.recipe.seed,
        temperature=context.recipe.temperature,
        progress=context.progress,
    )
    record.save(context.path / AMPLIFICATION)


def information(context: Context) -> None:
    """How robust an ensemble of draws is, and whether its mutual information gives attacks away."""
    need_tensorflow()
    from tinyrobust.data.arrays import stratified
    from tinyrobust.robustness import information as measured
    from tinyrobust.robustness.attack_plan import AttackPlan

    recipe, dataset = context.recipe, context.dataset
    plan = AttackPlan.of(recipe.robustness, recipe.seed, "features")
    index = np.sort(stratified(dataset.test.y, min(plan.samples, len(dataset.test)), recipe.seed))
    test, few = dataset.test.take(index), dataset.validation.take(np.arange(min(_CALIBRATED, len(dataset.validation))))
    inputs = measured.Inputs(dataset.name, scale(test.x[:]), test.y, scale(few.x[:]))
    network = freeze(context.trained("train"))
    record = measured.measure(network, inputs, plan, members=recipe.members, progress=context.progress)
    record.save(context.path / INFORMATION)
