"""Attacks an existing model: a run of ours, or anybody's `.tflite`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tinyrobust import toml
from tinyrobust.attacks.target import InputRange
from tinyrobust.data.sources import load
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.reading import Reading
from tinyrobust.errors import RecipeError
from tinyrobust.pipeline.evaluation_data import features_from, features_of, own_features, sound_for
from tinyrobust.pipeline.folder import locked
from tinyrobust.pipeline.models import data_for, locate
from tinyrobust.pipeline.networks import with_networks
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.robustness import Robustness, Waveform
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.evaluation import evaluate
from tinyrobust.robustness.job import EvaluationJob, Execution, Subject, members_of
from tinyrobust.robustness.robustness_record import Domain, RobustnessRecord
from tinyrobust.robustness.values import Scale
from tinyrobust.training.fit import seed_everything

_Record = TypeVar("_Record")


def attack(
    model: str | Path,
    *,
    domain: Domain = "features",
    data: str | None = None,
    protocol: str | None = None,
    epsilons: Sequence[float] = (),
    l2: Sequence[float] = (),
    l1: Sequence[float] = (),
    snr_db: Sequence[float] = (),
    samples: int | None = None,
    seed: int = 7,
    data_dir: str | Path | None = None,
    frontend: str | Path | None = None,
    output: str | Path | None = None,
    input_range: InputRange | None = None,
    temperature: float | None = None,
    surrogate: str | Path | None = None,
    members: Sequence[str | Path] = (),
    grid: bool | None = None,
    scale: Scale | None = None,
    reading: Reading | None = None,
    fresh: bool = False,
    jobs: int = 1,
    progress: Progress = silent,
) -> RobustnessRecord:
    """Attacks exactly the file that is flashed, and the network it was made from where that is known.

    Args:
        model: The folder of a run or of the zoo, its `model.tflite`, or any `.tflite` classifier or anomaly detector.
        domain: "features": what enters the network, pixels for one. "waveform": the sound, before the front end of a spotter.
        data: A data set's name or a `.npz` (x_test and y_test of any shape and number type), for a file that is not of a run.
        protocol: A name from models/protocols/, or a file; the recipe's, or "quick", of sound "waveform".
        epsilons: L-inf radii in [0, 1], of sound shares of the 16-bit range. The headline is at the recipe's, or the largest.
        l2: L2 radii in input units, for attacks in that norm, likewise.
        l1: L1 radii, likewise.
        snr_db: Of sound: signal-to-noise ratios in dB, likewise.
        samples: How many test samples are attacked; the recipe's, or 200.
        seed: For a file that is not of a run.
        data_dir: Where data sets are stored.
        frontend: Of sound: the `frontend.json` of a file that does not stand beside it.
        output: Folder for the record and the pieces that an interrupted evaluation goes on from; `attack-<model>` when absent.
        input_range: What pixel values 0 and 255 become in the file's units; decided from the file and the data when absent.
        temperature: That the network was distilled at; the recipe's, or estimated from its logits.
        surrogate: The folder of a run, or a `.keras` network, trained apart: its adversarial examples are transferred.
        members: Other networks, likewise, that answer together with the one of the run; none of their files is attacked.
        grid: Try every example rounded to the sensor's 8 bits too; as the recipe says when absent.
        scale: Of inputs that are no pixels, what an epsilon is a share of; see `tinyrobust.robustness.values.Scale`.
        reading: Of a file whose outputs are no scores of classes what they mean: one of several labels, or an anomaly score.
        fresh: Throw away what another evaluation left in `output`; it is refused otherwise.
        jobs: Processes that attack at the same time; the figures do not depend on it.
        progress: Called with a label, what is done and how much there is.

    Raises:
        TinyRobustError: The model, data or settings do not fit; the message says what to do.
    """
    recipe, tflite = locate(model)
    plan = planned(recipe, domain, protocol, seed, samples, grid, epsilons=epsilons, l2=l2, l1=l1, snr_db=snr_db)
    job = job_for(recipe, tflite, plan, data, frontend, data_dir, input_range, scale, reading, progress)
    return executed(with_networks(job, recipe, temperature, surrogate, members), recipe, output, fresh, jobs, evaluate)


def executed(
    job: EvaluationJob,
    recipe: Recipe | None,
    output: str | Path | None,
    fresh: bool,
    jobs: int,
    evaluation: Callable[[EvaluationJob], _Record],
) -> _Record:
    """What an evaluation finds, with its results in `output`, or in `attack-<model>`, which no other one writes meanwhile."""
    folder = Path(output or f"attack-{recipe.run_name if recipe else job.subject.tflite.stem}")
    seed_everything(job.plan.seed)
    with locked(folder):
        return evaluation(replace(job, execution=replace(job.execution, output=folder, fresh=fresh, jobs=jobs)))


def planned(
    recipe: Recipe | None,
    domain: Domain,
    protocol: str | None,
    seed: int,
    samples: int | None,
    grid: bool | None,
    *,
    epsilons: Sequence[float] = (),
    l2: Sequence[float] = (),
    l1: Sequence[float] = (),
    snr_db: Sequence[float] = (),
) -> AttackPlan:
    """The recipe's settings, with what was chosen instead.

    Raises:
        RecipeError: What was chosen is not allowed.
    """
    settings = recipe.robustness if recipe else Robustness()
    if domain == "waveform":
        waveform = _sound(settings.waveform or Waveform(), protocol, samples, epsilons, snr_db)
        settings = settings.model_copy(update={"waveform": waveform})
    else:
        settings = _features(settings, protocol, samples, grid, epsilons=epsilons, l2=l2, l1=l1)
    return AttackPlan.of(settings, recipe.seed if recipe else seed, domain)


def _features(
    before: Robustness,
    protocol: str | None,
    samples: int | None,
    grid: bool | None,
    **epsilons: Sequence[float],
) -> Robustness:
    chosen = {norm: tuple(sorted(set(epsilons[norm]))) or getattr(before, norm) for norm in epsilons}
    values = {
        "protocol": protocol or before.protocol,
        **chosen,
        "l0": before.l0,
        "headline": before.headline if before.headline in chosen["epsilons"] else chosen["epsilons"][-1],
        "samples": samples or before.samples,
        "grid": before.grid if grid is None else grid,
    }
    return toml.validated(Robustness, values, "The choice of epsilons", RecipeError)


def _sound(
    before: Waveform, protocol: str | None, samples: int | None, epsilons: Sequence[float], snr_db: Sequence[float]
) -> Waveform:
    """The headline is 20 dB, or the recipe's, where that is measured, else the last SNR."""
    snr_db = tuple(sorted(set(snr_db), reverse=True)) or before.snr_db
    values = before.model_dump(mode="json") | {
        "protocol": protocol or before.protocol,
        "epsilons": tuple(sorted(set(epsilons))) or before.epsilons,
        "snr_db": snr_db,
        "headline_snr_db": before.headline_snr_db if before.headline_snr_db in snr_db else snr_db[-1],
        "samples": samples or before.samples,
    }
    return toml.validated(Waveform, values, "The choice of radii", RecipeError)


def job_for(
    recipe: Recipe | None,
    tflite: Path,
    plan: AttackPlan,
    data: str | None,
    frontend: str | Path | None,
    data_dir: str | Path | None,
    input_range: InputRange | None,
    scale: Scale | None,
    reading: Reading | None,
    progress: Progress,
) -> EvaluationJob:
    """The file alone with the front end and the units of its input, what is attacked, and the radii in these units.

    Raises:
        TinyRobustError: Data or settings do not fit the file.
    """
    place, subject = None if data_dir is None else Path(data_dir), Subject(members_of(tflite), input_range=input_range)
    execution = Execution(Path(), progress=progress)
    if reading is not None and recipe is not None:
        raise RecipeError(f"Expected no --{reading.kind} for a run, whose network is a classifier. Received: {tflite.parent}")
    if plan.domain == "features" and data is not None and data.endswith(".npz"):
        attacked, units, meaning = features_from(tflite, Path(data).expanduser(), input_range, scale, reading)
        subject = replace(subject, input_range=units.input_range, units=units, reading=meaning)
        return EvaluationJob(subject, attacked, _in_deviations(plan, attacked.per_unit), execution)
    if reading is not None:
        raise RecipeError(
            f"Expected no --{reading.kind} but for the inputs of a .npz. Received: data {data!r}",
            hint="It needs labels of 0 and 1: --data mine.npz, with x_test and y_test.",
        )
    if scale is not None:
        raise RecipeError(f"Expected no --scale but for the inputs of a .npz. Received: {scale}")
    if plan.domain == "waveform":
        path = None if frontend is None else Path(frontend)
        sound, heard = sound_for(recipe, tflite, data=data, frontend=path, seed=plan.seed, data_dir=place, progress=progress)
        return EvaluationJob(replace(subject, front_end=heard), sound, plan, execution)
    if recipe and data is None:
        return EvaluationJob(subject, own_features(recipe, tflite, place, progress), plan, execution)
    file = Int8Model(tflite)
    images = features_of(load(data_for(file, data), plan.seed, place, progress), tuple(file.input_shape))
    return EvaluationJob(subject, images, plan, execution)


def _in_deviations(plan: AttackPlan, per_unit: float) -> AttackPlan:
    """Epsilons that are standard deviations as shares of the range that an attack may use.

    Raises:
        RecipeError: None was chosen: those of pixels mean nothing there.
    """
    if per_unit == 1:
        return plan
    if plan.settings.epsilons == Robustness().epsilons:
        raise RecipeError("Expected epsilons in standard deviations, with --scale std. Received: none", hint="--epsilon 0.1")
    values = plan.settings.model_dump()
    for norm in ("epsilons", "l2", "l1"):
        values[norm] = tuple(epsilon * per_unit for epsilon in values[norm])
    values["headline"] *= per_unit
    settings = toml.validated(Robustness, values, "Epsilons in standard deviations", RecipeError)
    return plan.model_copy(update={"settings": settings})
