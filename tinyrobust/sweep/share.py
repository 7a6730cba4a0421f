"""Stages that several runs have in common: known by a hash of all that they depend on, computed once, copied."""

import functools
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from tinyrobust.errors import RunFolderError
from tinyrobust.files import atomic_path, sha256, write_atomic
from tinyrobust.pipeline.folder import locked
from tinyrobust.pipeline.run_record import RunRecord, StageRecord
from tinyrobust.recipe import Recipe


@functools.cache
def keys(recipe: Recipe) -> dict[str, str]:
    """For each stage that can be shared, in order, a hash of everything that its files depend on.

    Equal keys mean equal files. The teacher is a float network: it does not see `[[precision]]`, nor the student's epochs or
    width where it has its own; nor does a float network that is quantized afterwards see it. The trained network sees
    everything but export, robustness and footprint; the artefact carries the recipe's name. The attack and what follows belong
    to one recipe.
    """
    values = recipe.model_dump(mode="json")
    common = {key: values[key] for key in ("data", "network", "seed")}
    whole = common | {key: values[key] for key in ("precision", "train")}
    parts = {"train": whole, "export": whole | {"export": values["export"], "name": recipe.name}}
    if recipe.train.distillation:
        settings = {**values["train"]}
        if recipe.train.distillation.teacher_epochs is not None:
            del settings["epochs"]
        seen = {**common, "network": {**values["network"]}}
        if recipe.train.distillation.teacher_width is not None:
            del seen["network"]["width"]
        parts = {"teacher": seen | {"train": settings}} | parts
    if recipe.train.quantization == "after":
        parts = {"float": common | {"train": values["train"]}} | parts
    return {stage: _hash([stage, part]) for stage, part in parts.items()}


def complete(run: Path) -> dict[str, StageRecord]:
    """The stages that a run's record names as complete; none where there is no run, or none that can be read."""
    try:
        return RunRecord.load(run / "run.json").stages
    except RunFolderError:
        return {}


def intact(run: Path, stages: Sequence[str]) -> bool:
    """Whether all of these stages are complete, and their files there and unchanged."""
    done = complete(run)
    return all(stage in done and _same(run, done[stage]) for stage in stages)


def take(recipe: Recipe, run: Path, source: Path, stages: Sequence[str]) -> list[str]:
    """Copies stages of the run `source` into the run folder of `recipe`, in order, as far as their files are unchanged.

    Files are copied, not linked: a history grows in place when a stage is done again.

    Args:
        recipe: Whose folder it is; its keys of these stages equal those of the source.
        run: The folder.
        source: The run that has them.
        stages: What the folder lacks, in order.

    Returns:
        The stages that it has now.

    Raises:
        RunFolderError: Another process writes there, or the folder cannot be written.
    """
    giver = RunRecord.load(source / "run.json")
    taken = []
    with locked(run):
        stages_there = complete(run)
        for stage in stages:
            record = giver.stages.get(stage)
            if record is None or not _same(source, record):
                break
            for name in record.files:
                with atomic_path(run / name) as temporary:
                    shutil.copyfile(source / name, temporary)
            stages_there[stage] = record
            taken.append(stage)
        if taken:
            write_atomic(run / "recipe.toml", recipe.to_toml())
            told = {"name": recipe.name, "recipe_hash": recipe.hash, "stages": stages_there}
            giver.model_copy(update=told).save(run / "run.json")
    return taken


def _same(run: Path, record: StageRecord) -> bool:
    return all((run / name).is_file() and sha256(run / name) == digest for name, digest in record.files.items())


def _hash(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
