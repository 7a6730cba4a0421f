"""Runs a recipe: its stages in order, skipping what is complete, in a folder that can be killed and resumed at any time.

A stage that another run beside it has computed from the same is taken over from there.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from tinyrobust import recipe as recipes
from tinyrobust.data.batches import check_size
from tinyrobust.data.sources import load
from tinyrobust.deploy.deploy_records import ParityRecord
from tinyrobust.errors import ModelFileError, RecipeError
from tinyrobust.execution.executor import Announce, unheard
from tinyrobust.files import write_atomic
from tinyrobust.footprint.boards import boards
from tinyrobust.footprint.footprint_record import FootprintRecord
from tinyrobust.pipeline import plan, share
from tinyrobust.pipeline.context import Context
from tinyrobust.pipeline.folder import RunFolder, begun, locked, read
from tinyrobust.pipeline.models import locate
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.pipeline.stages import rehearse_export, write_report
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe import Recipe
from tinyrobust.reports.beside import keep
from tinyrobust.reports.facts import RunFacts
from tinyrobust.reports.report import render
from tinyrobust.robustness import protocol
from tinyrobust.robustness.corruption import check_images
from tinyrobust.robustness.information_record import INFORMATION, InformationRecord
from tinyrobust.robustness.robustness_record import RobustnessRecord
from tinyrobust.training.after import calibration_images
from tinyrobust.training.budget import sizes_of
from tinyrobust.training.fit import seed_everything
from tinyrobust.training.remarks import remarks
from tinyrobust.training.teacher_record import TEACHER, TeacherRecord

RUNS = Path("runs")


@dataclass(frozen=True)
class Run:
    """A finished run, or a part of one. The records are read from its folder."""

    path: Path

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return read(self.path)[0]

    @property
    def record(self) -> RunRecord:
        """Stages, versions, data."""
        return RunRecord.load(self.path / "run.json")

    @property
    def history(self) -> list[dict[str, float]]:
        """The training curves: a row an epoch."""
        return [json.loads(line) for line in (self.path / "history.jsonl").read_text(encoding="utf-8").splitlines()]

    @property
    def teacher(self) -> TeacherRecord | None:
        """How robust the teacher is; None where no objective takes over a teacher's robustness."""
        path = self.path / TEACHER
        return TeacherRecord.load(path) if path.is_file() else None

    @property
    def remarks(self) -> list[str]:
        """What its user should know of the teacher and of the curves of the training, each with what to do."""
        rows, teacher = self.history, self.teacher
        return (teacher.warnings if teacher else []) + remarks({name: [row[name] for row in rows] for name in rows[0]})

    @property
    def parity(self) -> ParityRecord:
        """How far the artefact agrees with the trained network."""
        return ParityRecord.load(self.path / "parity.json")

    @property
    def robustness(self) -> RobustnessRecord:
        """What the attacks found."""
        return RobustnessRecord.load(self.path / "robustness.json")

    @property
    def information(self) -> InformationRecord:
        """Of a network that is random at inference, what the attacks found."""
        return InformationRecord.load(self.path / INFORMATION)

    @property
    def footprint(self) -> FootprintRecord:
        """What the artefact costs."""
        return FootprintRecord.load(self.path / "footprint.json")


def run(
    recipe: str | Path | Recipe,
    *,
    overrides: Iterable[str] = (),
    until: str = "report",
    runs_dir: str | Path = RUNS,
    data_dir: str | Path | None = None,
    jobs: int = 1,
    progress: Progress = silent,
    announce: Announce = unheard,
) -> Run:
    """Executes a recipe, stage by stage: teacher, float network, precision where it asks for them, train, export, and so on.

    A stage is skipped where its record is in the run's folder and what it reads has not changed since; where another run in
    `runs_dir` has it, computed from the same, it is copied from there. One that was interrupted goes on (training, from the
    last epoch) or is done again, with the same figures as an undisturbed run.

    Args:
        recipe: A name from the zoo, a path, or a resolved recipe.
        overrides: Settings such as "train.epochs=3"; they give the run another hash, and so another folder. Stages that do not
            read what is set are taken over.
        until: The last stage to do.
        runs_dir: Where run folders are made.
        data_dir: Where data sets are stored; see `tinyrobust doctor`.
        jobs: Processes that attack at the same time; the figures do not depend on it.
        progress: Called with a label, what is done and how much there is.
        announce: Called with the name of every stage that is complete, the moment it is.

    Raises:
        TinyRobustError: Something is not as expected; the message says what to do.
    """
    resolved = recipe if isinstance(recipe, Recipe) else recipes.load(recipe, overrides)
    wanted = plan.until(until, resolved)
    dataset = load(resolved.data, resolved.seed, None if data_dir is None else Path(data_dir), progress)
    path = Path(runs_dir) / resolved.run_name
    with locked(path):
        folder = begun(path, resolved, dataset)
        context = Context(folder, dataset, progress, jobs)
        if not all(folder.is_complete(stage.name) for stage in wanted):
            _check(context)
        for stage in wanted:
            _complete(stage, context)
            announce(stage.name)
    return Run(path)


def _complete(stage: plan.Stage, context: Context) -> None:
    """Sees to it that a stage is complete, those before it being so."""
    folder = context.folder
    if folder.is_complete(stage.name):
        context.progress(f"{stage.name}: complete", 1, 1)
    elif giver := share.take(folder, stage):
        context.progress(f"{stage.name}: taken from {giver}", 1, 1)
    else:
        # Every stage draws from the same seed, whether the ones before it ran in this process or in an earlier one.
        seed_everything(context.recipe.seed)
        with folder.stage(stage):
            stage.run(context)


class Settings(TypedDict, total=False):
    """Arguments of `run`, as of there."""

    overrides: Iterable[str]
    runs_dir: str | Path
    data_dir: str | Path | None
    jobs: int
    progress: Progress
    announce: Announce


def train(recipe: str | Path | Recipe, **settings: Unpack[Settings]) -> Run:
    """`run` until the network is trained. Settings as in `run`."""
    return run(recipe, **settings, until="train")


def export(recipe: str | Path | Recipe, **settings: Unpack[Settings]) -> Run:
    """`run` until the artefacts are written: `.tflite`, C array, parity. Settings as in `run`."""
    return run(recipe, **settings, until="export")


def _check(context: Context) -> None:
    """Finds out before the first long stage whether the last one can work."""
    network = context.network(context.recipe)
    learned = context.learned
    calibration_images(context.recipe, learned)
    _check_objectives(context.recipe, len(context.dataset.classes))
    if context.recipe.train.epochs:
        check_size(learned.train, context.recipe.train.batch_size)
    if context.recipe.precision.budget is not None:
        sizes_of(network, context.recipe.precision)
    rehearse_export(context, network)
    settings = context.recipe.robustness
    protocol.of_attacks(settings.protocol)
    if settings.waveform:
        protocol.of_attacks(settings.waveform.protocol)
    if settings.corruptions:
        protocol.of_corruptions(settings.corruptions)
        check_images(context.dataset.test.x, context.dataset.name)
    boards(context.recipe.footprint.boards)


def _check_objectives(recipe: Recipe, classes: int) -> None:
    for objective in recipe.train.objectives:
        try:
            objective.check_classes(classes)
        except ValueError as error:
            raise RecipeError(str(error)) from error


def report(folder: str | Path, *, beside: Iterable[str | Path] = ()) -> Path:
    """Writes the report and the model card of a run anew from its records; returns the page's path.

    Of a model of the zoo it writes the page into `report-<name>` here, from copies of its records.

    Args:
        folder: Of the run.
        beside: Folders with a `robustness.json` of other networks on the same data: the page shows them beside this one, from
            now on.

    Raises:
        RunFolderError: It is not the folder of a run, or another network was attacked on other data.
    """
    path = Path(folder)
    if not (path / "run.json").is_file() and (located := _in_zoo(path)) is not None:
        return _copied(*located, beside)
    recipe, record = read(path)
    with locked(path):
        run_folder = RunFolder(path, recipe, record)
        _put_beside(path, beside)
        with run_folder.stage(plan.named("report")):
            write_report(run_folder)
    return path / "report.html"


def _in_zoo(path: Path) -> tuple[Recipe, Path] | None:
    """Recipe and folder of a model of the zoo; None for what is none."""
    try:
        recipe, tflite = locate(path)
    except ModelFileError:
        return None
    return None if recipe is None else (recipe, tflite.parent)


def _put_beside(folder: Path, others: Iterable[str | Path]) -> None:
    for other in others:
        keep(folder, RobustnessRecord.load(folder / "robustness.json"), Path(other))


def _copied(recipe: Recipe, model: Path, beside: Iterable[str | Path]) -> Path:
    """The page of a model whose folder is not written."""
    folder = Path(f"report-{recipe.name}")
    with locked(folder):
        for record in (*model.glob("*.json"), model / "model.tflite"):
            write_atomic(folder / record.name, record.read_bytes())
        _put_beside(folder, beside)
        facts = RunFacts(name=recipe.name, recipe=recipe, command=f"tinyrobust run {recipe.name}")
        return render(folder, facts)
