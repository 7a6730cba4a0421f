"""Stages that several runs have in common: known by their key, computed once, copied."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from tinyrobust.errors import RunFolderError
from tinyrobust.files import atomic_path, sha256
from tinyrobust.pipeline.folder import RunFolder
from tinyrobust.pipeline.plan import Stage
from tinyrobust.pipeline.run_record import RunRecord, StageRecord


class _DamagedError(Exception):
    """A file is not what its run's record says."""


def take(folder: RunFolder, stage: Stage) -> str | None:
    """Takes a stage over from another run beside this one that has it, complete and unchanged.

    Files are copied, not linked: a history grows in place when a stage is done again. Other processes may be writing those
    runs: what was copied is compared with the record. A run of other versions or on another platform might have other figures,
    and is passed over.

    Args:
        folder: The run that lacks the stage, held under its lock; all that the stage reads is there.
        stage: Which.

    Returns:
        The name of the run folder that computed the stage; None where there is none.

    Raises:
        RunFolderError: The folder cannot be written.
    """
    key = folder.key(stage)
    if not stage.can_be_shared:
        return None
    for giver, record in _givers(folder, key):
        done = record.stages.get(stage.name)
        if done is None or done.key != key or set(done.files) != set(stage.left(folder.recipe)):
            continue
        with contextlib.suppress(_DamagedError):
            _copy(giver, folder.path, done)
            origin = done.taken_from or giver.name
            folder.record_stage(stage.name, done.model_copy(update={"taken_from": origin}))
            return origin
    return None


def _givers(folder: RunFolder, key: str) -> Iterator[tuple[Path, RunRecord]]:
    """The other runs whose records have the key."""
    for path in sorted(folder.path.parent.glob("*/run.json")):
        if path.parent == folder.path:
            continue
        with contextlib.suppress(OSError, RunFolderError):
            if json.dumps(key).encode() not in path.read_bytes():  # of many runs, few are looked at more closely
                continue
            record = RunRecord.load(path)
            if (record.versions, record.platform) == (folder.record.versions, folder.record.platform):
                yield path.parent, record


def _copy(giver: Path, taker: Path, done: StageRecord) -> None:
    """Copies the files of a stage, all or none.

    Raises:
        _DamagedError: One is missing or not what the record says.
    """
    with contextlib.ExitStack() as renamed_at_the_end:
        for file, digest in done.files.items():
            copy = renamed_at_the_end.enter_context(atomic_path(taker / file))
            try:
                shutil.copyfile(giver / file, copy)
            except (FileNotFoundError, PermissionError) as problem:
                raise _DamagedError from problem
            if sha256(copy) != digest:
                raise _DamagedError
