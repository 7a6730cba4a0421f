"""Measures the card of a model again: accuracy, and a share of the attacked samples; says whether the figures hold."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import hypergeom

from tinyrobust.attacks.specs import Norm
from tinyrobust.data.arrays import stratified
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import ModelFileError, RecipeError
from tinyrobust.files import sha256
from tinyrobust.pipeline.attack import executed, job_for, planned
from tinyrobust.pipeline.models import locate
from tinyrobust.pipeline.networks import with_networks
from tinyrobust.pipeline.verification_record import Figure, VerificationRecord
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe import Recipe
from tinyrobust.robustness.evaluation import evaluate
from tinyrobust.robustness.job import EvaluationData, EvaluationJob
from tinyrobust.robustness.preparation import prepared
from tinyrobust.robustness.robustness_record import ALL, Domain, Proportion, RobustnessRecord
from tinyrobust.robustness.statistics import wilson
from tinyrobust.robustness.subject import EvaluationTargets
from tinyrobust.robustness.subset import inputs

_NORMS: dict[str, Norm] = {"epsilons": "linf", "l2": "l2", "l1": "l1"}  # those whose radii a command may name
_TAIL = 0.005  # of the draws, on either side, that are taken for another figure
_ROUNDING = 100  # one sample in so many may answer otherwise on another processor or interpreter
_BATCH = 256


def verify(
    model: str | Path,
    *,
    accuracy: float = 1.0,
    attacks: float = 0.25,
    domain: Domain = "features",
    protocol: str | None = None,
    data_dir: str | Path | None = None,
    output: str | Path | None = None,
    fresh: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> VerificationRecord:
    """Measures again what `robustness.json` beside a file says, on the same data, by the same protocol, from the same seed.

    A share of the samples is a stratified draw from those of the card. With the same file and data the number of right ones
    among m of n samples, of which K are right, is hypergeometric: a figure holds within the middle 99 % of that distribution,
    and one sample in a hundred beyond, for processors that round otherwise. All n of n leave that one in a hundred alone.

    Args:
        model: The folder of a model of the zoo or of a run, or a name of the zoo.
        accuracy: Share of the test set, in (0, 1], on which accuracy is measured.
        attacks: Share of the attacked samples, in [0, 1], that is attacked again; 0: none.
        domain: "features": `robustness.json`. "waveform": `robustness-waveform.json`.
        protocol: The file of the card's protocol, where it is none of models/protocols/.
        data_dir: Where data sets are stored.
        output: Folder for the pieces that an interrupted evaluation goes on from; `verify-<model>` when absent.
        fresh: Throw away what another evaluation left in `output`; it is refused otherwise.
        jobs: Processes that attack at the same time.
        progress: Called with a label, what is done and how much there is.

    Raises:
        TinyRobustError: Model, record or data are not there, or a setting does not fit; the message says what to do.
    """
    _check_shares(accuracy, attacks)
    recipe, tflite = _located(model)
    card = RobustnessRecord.load(tflite.with_name(f"robustness{'-waveform' if domain == 'waveform' else ''}.json"))
    figures, notes = [_file(card, sha256(tflite))], list[str]()
    if figures[0].verdict == "holds":
        place = None if data_dir is None else Path(data_dir)
        job, targets = _job(recipe, tflite, card, protocol or card.protocol if attacks else None, place, attacks, progress)
        figures += [_data(card, job.data, recipe), *_accuracies(card, job, targets, accuracy)]
        notes += job.subject.remarks
        if attacks:
            folder = output or f"verify-{recipe.run_name}"
            found = executed(_part(job, card), recipe, folder, fresh, jobs, evaluate)
            figures += _robust(card, found)
            notes += [note for note in found.notes if note not in notes]
    return VerificationRecord(
        model=recipe.name,
        model_sha256=sha256(tflite),
        dataset=card.dataset,
        domain=domain,
        protocol=card.protocol,
        seed=card.seed,
        figures=figures,
        holds=all(figure.verdict != "differs" for figure in figures),
        notes=notes,
    )


def _located(model: str | Path) -> tuple[Recipe, Path]:
    recipe, tflite = locate(model)
    if recipe is None:
        raise ModelFileError(
            f"Expected the folder of a model with its recipe.toml. Received: {tflite}, whose data and figures are not known",
            hint="tinyrobust attack FILE --data DATA measures any file.",
        )
    return recipe, tflite


def _check_shares(accuracy: float, attacks: float) -> None:
    for name, share, fits, least in (
        ("accuracy", accuracy, 0 < accuracy <= 1, "above 0"),
        ("attacks", attacks, 0 <= attacks <= 1, "0 or more"),
    ):
        if not fits:
            raise RecipeError(f"Expected a share for {name}, {least} and at most 1. Received: {share:g}")


def _job(
    recipe: Recipe,
    tflite: Path,
    card: RobustnessRecord,
    protocol: str | None,
    data_dir: Path | None,
    share: float,
    progress: Progress,
) -> tuple[EvaluationJob, EvaluationTargets]:
    """The evaluation of the card on all its data, with units decided, and its targets."""
    radii = {} if card.domain == "waveform" else {key: card.epsilons.get(norm, []) for key, norm in _NORMS.items()}
    samples = max(1, round(share * card.samples))
    plan = planned(recipe, card.domain, protocol, card.seed, samples, None, **radii).model_copy(update={"seed": card.seed})
    if protocol and plan.protocol.name != card.protocol:
        raise RecipeError(f"Expected the protocol of the card, {card.protocol!r}. Received: {plan.protocol.name!r}")
    job = with_networks(job_for(recipe, tflite, plan, None, None, data_dir, None, None, None, progress), recipe, None, None, ())
    file = Int8Model(tflite)
    job = prepared(job, file)
    return job, EvaluationTargets(job.subject, plan.seed, file, twin=False)


def _part(job: EvaluationJob, card: RobustnessRecord) -> EvaluationJob:
    """The same on a share of the samples that the card's attacks saw: the beginning of the same draw."""
    index = stratified(job.data.labels, min(job.plan.samples, len(job.data.labels)), card.seed)
    return replace(job, data=replace(job.data, samples=job.data.samples[index], labels=job.data.labels[index]))


def _file(card: RobustnessRecord, digest: str) -> Figure:
    if digest == card.model_sha256:
        return Figure(name="file", verdict="holds")
    said = f"The card is that of a file with SHA-256 {card.model_sha256[:12]}; this one has {digest[:12]}."
    return Figure(name="file", verdict="differs", explanation=said)


def _data(card: RobustnessRecord, data: EvaluationData, recipe: Recipe) -> Figure:
    if data.fingerprint == card.dataset_fingerprint:
        return Figure(name="data", verdict="holds")
    synthetic = recipe.data.speech and recipe.data.speech.synthetic
    absent = [engine for engine in synthetic.engines if not shutil.which(engine)] if synthetic else []
    if absent:
        said = f"Its training clips are spoken by {' and '.join(absent)}, not installed here; its test clips are recordings."
        return Figure(name="data", verdict="not measured", explanation=said)
    said = f"The card names fingerprint {card.dataset_fingerprint[:12]}; the data here have {data.fingerprint[:12]}."
    return Figure(name="data", verdict="differs", explanation=said)


def _accuracies(card: RobustnessRecord, job: EvaluationJob, targets: EvaluationTargets, share: float) -> Iterator[Figure]:
    """Of every target of the card."""
    y = job.data.labels
    index = stratified(y, max(1, round(share * len(y))), card.seed)
    progress = job.execution.progress
    for clean in card.clean:
        target = targets.judged.get(clean.target)
        if target is None:
            yield _not_here("accuracy", clean.target, clean.test)
            continue
        right = 0
        for start in range(0, len(index), _BATCH):
            progress(f"accuracy: {clean.target}", start, len(index))
            rows = index[start : start + _BATCH]
            right += int((np.argmax(target.predict(inputs(job.data.samples[rows])), axis=1) == y[rows]).sum())
        progress(f"accuracy: {clean.target}", len(index), len(index))
        yield compared(Figure(name="accuracy", target=clean.target, recorded=clean.test, verdict="holds"), right, len(index))


def _robust(card: RobustnessRecord, found: RobustnessRecord) -> Iterator[Figure]:
    """Every worst case of the card; that over all targets only where all of them are here."""
    complete = {clean.target for clean in card.clean} <= {clean.target for clean in found.clean}
    again = {(row.target, row.norm, round(row.epsilon, 9)): row.robust for row in found.worst}
    for row in card.worst:
        measured = again.get((row.target, row.norm, round(row.epsilon, 9)))
        if measured is None or (row.target == ALL and not complete):
            yield _not_here("robust", row.target, row.robust).model_copy(update={"norm": row.norm, "epsilon": row.epsilon})
            continue
        figure = Figure(
            name="robust", target=row.target, norm=row.norm, epsilon=row.epsilon, recorded=row.robust, verdict="holds"
        )
        yield compared(figure, measured.count, measured.n)


def _not_here(name: str, target: str, recorded: Proportion) -> Figure:
    said = f"The network is not here: the folder has no numbers of it, and {target} is measured on them."
    return Figure.model_validate(
        {"name": name, "target": target, "recorded": recorded, "verdict": "not measured", "explanation": said}
    )


def compared(figure: Figure, count: int, n: int) -> Figure:
    """A figure with what was measured, `count` of `n` samples drawn from those of the record, and whether it holds.

    A robust accuracy above is "not reached": the card's examples exist, whether they are found again or not.

    Raises:
        ValueError: More samples were measured than the record has.
    """
    recorded = figure.recorded
    if recorded is None or n > recorded.n:
        raise ValueError(f"Expected at most the samples of the record. Received: {n}, {recorded}")
    draw, slack = hypergeom(recorded.n, recorded.count, n), math.ceil(n / _ROUNDING)
    low, high = max(0, int(draw.ppf(_TAIL)) - slack), min(n, int(draw.ppf(1 - _TAIL)) + slack)
    verdict, said = "holds", ""
    if count < low:
        verdict, said = "differs", f"Expected {low} to {high} of {n}. Received: {count}"
    elif count > high:
        verdict = "differs" if figure.name == "accuracy" else "not reached"
        said = f"Expected {low} to {high} of {n}. Received: {count}"
    return figure.model_copy(
        update={"measured": wilson(count, n), "low": low, "high": high, "verdict": verdict, "explanation": said}
    )
