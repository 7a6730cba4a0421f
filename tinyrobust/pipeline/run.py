"""Runs a recipe: its stages in order, skipping what is complete, in a folder that can be killed and resumed at any time."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyrobust import recipe as recipes
from tinyrobust.data.sources import load
from tinyrobust.deploy.deploy_records import ParityRecord
from tinyrobust.footprint.boards import boards
from tinyrobust.footprint.footprint_record import FootprintRecord
from tinyrobust.pipeline.folder import RunFolder, begun, locked, read
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.pipeline.stages import STAGES, Context, write_report
from tinyrobust.progress import Progress, silent
from tinyrobust.recipe import Recipe
from tinyrobust.robustness import protocol
from tinyrobust.robustness.robustness_record import RobustnessRecord
from tinyrobust.training.fit import seed_everything

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
    def history(self) -> list[dict[str, Any]]:
        """The training curves: a row an epoch."""
        return [json.loads(line) for line in (self.path / "history.jsonl").read_text(encoding="utf-8").splitlines()]

    @property
    def parity(self) -> ParityRecord:
        """How far the artefact agrees with the trained network."""
        return ParityRecord.load(self.path / "parity.json")

    @property
    def robustness(self) -> RobustnessRecord:
        """What the attacks found."""
        return RobustnessRecord.load(self.path / "robustness.json")

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
) -> Run:
    """Executes a recipe, stage by stage: teacher or float network where it asks for one, train, export, attack, and so on.

    A stage whose record is in the run's folder is skipped; one that was interrupted goes on (training, from the last epoch) or
    is done again, with the same figures as an undisturbed run.

    Args:
        recipe: A name from the zoo, a path, or a resolved recipe.
        overrides: Settings such as "train.epochs=3"; they give the run another hash, and so another folder.
        until: The last stage to do.
        runs_dir: Where run folders are made.
        data_dir: Where data sets are stored; see `tinyrobust doctor`.
        jobs: Processes that attack at the same time; the figures do not depend on it.
        progress: Called with a label, what is done and how much there is.

    Raises:
        TinyRobustError: Something is not as expected; the message says what to do.
    """
    resolved = recipe if isinstance(recipe, Recipe) else recipes.load(recipe, overrides)
    dataset = load(resolved.data, resolved.seed, None if data_dir is None else Path(data_dir), progress)
    names = [stage.name for stage in STAGES]
    wanted = [stage for stage in STAGES[: names.index(until) + 1] if stage.needed(resolved)]
    path = Path(runs_dir) / resolved.run_name
    with locked(path):
        folder = begun(path, resolved, dataset)
        context = Context(folder, dataset, progress, jobs)
        if not folder.is_complete(wanted[-1].name):
            _check(context)
        for stage in wanted:
            if folder.is_complete(stage.name):
                progress(f"{stage.name}: complete", 1, 1)
                continue
            # Every stage draws from the same seed, whether the ones before it ran in this process or in an earlier one.
            seed_everything(resolved.seed)
            with folder.stage(stage.name, stage.left(resolved)):
                stage.run(context)
    return Run(path)


def train(recipe: str | Path | Recipe, **settings: Any) -> Run:
    """`run` until the network is trained. Settings as in `run`."""
    return run(recipe, **settings, until="train")


def export(recipe: str | Path | Recipe, **settings: Any) -> Run:
    """`run` until the artefacts are written: `.tflite`, C array, parity. Settings as in `run`."""
    return run(recipe, **settings, until="export")


def _check(context: Context) -> None:
    """Finds out before the first long stage whether the last one can work."""
    context.network(context.recipe)
    protocol.load(context.recipe.robustness.protocol)
    if context.recipe.robustness.waveform:
        protocol.load(context.recipe.robustness.waveform.protocol)
    boards(context.recipe.footprint.boards)


def report(folder: str | Path) -> Path:
    """Writes the report and the model card of a run anew from its records; returns the page's path.

    Raises:
        RunFolderError: It is not the folder of a run.
    """
    path = Path(folder)
    recipe, record = read(path)
    with locked(path):
        run_folder = RunFolder(path, recipe, record)
        with run_folder.stage("report", STAGES[-1].files):
            write_report(run_folder)
    return path / "report.html"
