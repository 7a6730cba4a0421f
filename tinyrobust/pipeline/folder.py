"""The folder of a run: one writer, stages that are complete or absent, and a record of both."""

import contextlib
import json
import platform
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import filelock

from tinyrobust import recipe as recipes
from tinyrobust import workers
from tinyrobust._version import __version__
from tinyrobust.data.arrays import Dataset
from tinyrobust.errors import RunFolderError
from tinyrobust.files import clear_errors, sha256, write_atomic
from tinyrobust.pipeline.run_record import RunRecord, StageRecord
from tinyrobust.recipe import Recipe

# The packages whose versions can change a figure.
_PACKAGES = (
    "tensorflow",
    "keras",
    "qkeras-v3",
    "adversarial-robustness-toolbox",
    "ai-edge-litert",
    "numpy",
    "jax",
    "tflite-micro",
    "librosa",
    "scipy",
    "pymicro-features",
)


class RunFolder:
    """A run's folder, held under a lock. Make one with `begun`.

    Attributes:
        path: The folder, `<runs>/<recipe>-<hash8>`.
        recipe: The resolved recipe, stored as `recipe.toml`.
        record: What `run.json` says.
    """

    def __init__(self, path: Path, recipe: Recipe, record: RunRecord) -> None:
        self.path = path
        self.recipe = recipe
        self.record = record

    def is_complete(self, stage: str) -> bool:
        """True when the stage's record is there and every file it left is unchanged."""
        done = self.record.stages.get(stage)
        return done is not None and all(
            (self.path / name).is_file() and sha256(self.path / name) == digest for name, digest in done.files.items()
        )

    @contextlib.contextmanager
    def stage(self, name: str, files: Sequence[str]) -> Iterator[None]:
        """Runs a stage in its block, then records it: last, atomically, with the hashes of `files`.

        The records of this stage and all later ones are dropped first: what depends on a stage that runs again is stale.
        """
        earlier = list(self.record.stages)
        earlier = earlier[: earlier.index(name)] if name in earlier else earlier
        self._save({stage: self.record.stages[stage] for stage in earlier})
        began = time.perf_counter()
        yield
        digests = {file: sha256(self.path / file) for file in files}
        # A history that is an earlier stage's, copied, tells that stage's time.
        known = {digest for stage in self.record.stages.values() for digest in stage.files.values()}
        epochs = [self._epochs(file) for file, digest in digests.items() if digest not in known]
        done = StageRecord(
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(max([time.perf_counter() - began, *epochs]), 2),
            files=digests,
        )
        self._save({**self.record.stages, name: done})

    def _epochs(self, file: str) -> float:
        """How long the epochs of a history took, those before an interruption too; 0 of another file."""
        if not file.endswith("history.jsonl"):
            return 0.0
        return float(sum(json.loads(row)["seconds"] for row in (self.path / file).read_text().splitlines()))

    def _save(self, stages: dict[str, StageRecord]) -> None:
        self.record = self.record.model_copy(update={"stages": stages})
        self.record.save(self.path / "run.json")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Makes the folder `path` if it is not there, and holds it for one writer; the lock goes with the process, however it ends.

    Raises:
        RunFolderError: Another process writes there, or the folder cannot be written.
    """
    with clear_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise RunFolderError(
                f"Another process is writing {path}.",
                hint="Wait until it ends, or choose another folder with --runs-dir.",
            ) from None
    try:
        for partial in path.rglob(".partial-*"):
            partial.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def begun(path: Path, recipe: Recipe, dataset: Dataset) -> RunFolder:
    """The run in the folder `path`, which the caller holds: as it was left, or new.

    Raises:
        RunFolderError: The folder holds a run of another recipe, or one that was begun with other data.
    """
    if (path / "run.json").is_file():
        known, record = read(path)
        if known.hash != recipe.hash or record.recipe_hash != recipe.hash:
            raise RunFolderError(
                f"{path} holds a run of another recipe: its recipe.toml was changed.", hint="Move or delete the folder."
            )
        if record.dataset_fingerprint != dataset.fingerprint:
            raise RunFolderError(
                f"{path} was begun with other data: expected fingerprint {record.dataset_fingerprint[:12]}. "
                f"Received: {dataset.fingerprint[:12]}",
                hint="Point --data-dir at the data that it was begun with, or choose another --runs-dir.",
            )
        return RunFolder(path, recipe, record)
    write_atomic(path / "recipe.toml", recipe.to_toml())
    record = _new_record(recipe, dataset)
    record.save(path / "run.json")
    return RunFolder(path, recipe, record)


def read(path: Path) -> tuple[Recipe, RunRecord]:
    """The resolved recipe and the record of a run folder.

    Raises:
        RunFolderError: It is not the folder of a run.
    """
    if not (path / "run.json").is_file() or not (path / "recipe.toml").is_file():
        raise RunFolderError(
            f"{path} is not the folder of a run: expected run.json and recipe.toml in it.",
            hint="`tinyrobust run RECIPE` makes one under ./runs.",
        )
    record = RunRecord.load(path / "run.json")
    return recipes.load(path / "recipe.toml").model_copy(update={"name": record.name}), record


def _new_record(recipe: Recipe, dataset: Dataset) -> RunRecord:
    return RunRecord(
        name=recipe.name,
        recipe_hash=recipe.hash,
        seed=recipe.seed,
        dataset=dataset.name,
        dataset_fingerprint=dataset.fingerprint,
        dataset_sizes={name: len(getattr(dataset, name)) for name in ("train", "validation", "test")},
        dataset_notes=list(dataset.notes),
        classes=list(dataset.classes),
        input_shape=list(dataset.input_shape),
        versions=_versions(),
        # With other sums of floats, training ends elsewhere.
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, {workers.threads()} threads",
    )


def _versions() -> dict[str, str]:
    found = {"tinyrobust": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
