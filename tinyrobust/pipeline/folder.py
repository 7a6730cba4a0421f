"""The folder of a run: one writer, stages that are complete or absent, and a record of both."""

import contextlib
import json
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import filelock

from tinyrobust import recipe as recipes
from tinyrobust._version import __version__
from tinyrobust.data.arrays import Dataset
from tinyrobust.errors import RunFolderError
from tinyrobust.execution import processor
from tinyrobust.files import clear_errors, sha256, write_atomic
from tinyrobust.pipeline import plan
from tinyrobust.pipeline.plan import Stage
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
    """A run's folder: `begun` makes or opens one, which is held under a lock; `opened` is for looking only.

    Attributes:
        path: The folder, `<runs>/<recipe>-<hash8>`.
        recipe: The resolved recipe, stored as `recipe.toml`.
        record: What `run.json` says.
    """

    def __init__(self, path: Path, recipe: Recipe, record: RunRecord) -> None:
        self.path = path
        self.recipe = recipe
        self.record = record

    def is_complete(self, name: str) -> bool:
        """True when the stage's record is there, what it read is unchanged, and so is every file that it left.

        What it read of other stages is as their records say: they are asked about themselves.
        """
        done = self.record.stages.get(name)
        return (
            done is not None
            and done.key == self.key(plan.named(name))
            and all((self.path / file).is_file() and sha256(self.path / file) == digest for file, digest in done.files.items())
        )

    def key(self, stage: Stage) -> str:
        """The key that the stage has if it is done now."""
        return stage.key(self.recipe, self.record)

    @contextlib.contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Runs a stage in its block, then records it: last, atomically, with its key and the hashes of its files.

        The stage's own record is dropped first, and in the end those of stages that read something else than is there now.
        """
        self._change({name: done for name, done in self.record.stages.items() if name != stage.name})
        self.record.save(self.path / "run.json")
        key, began = self.key(stage), time.perf_counter()
        yield
        digests = {file: sha256(self.path / file) for file in stage.left(self.recipe)}
        # A history that is an earlier stage's, copied, tells that stage's time.
        known = {digest for done in self.record.stages.values() for digest in done.files.values()}
        epochs = [self._epochs(file) for file, digest in digests.items() if digest not in known]
        self.record_stage(
            stage.name,
            StageRecord(
                key=key,
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(max([time.perf_counter() - began, *epochs]), 2),
                files=digests,
            ),
        )

    def record_stage(self, name: str, done: StageRecord) -> None:
        """Records a stage whose files are there; records that do not fit it any more are dropped."""
        stages = {**self.record.stages, name: done}
        self._change({known: stages[known] for known in plan.NAMES if known in stages})
        for stage in plan.STAGES:
            kept = self.record.stages.get(stage.name)
            if kept is not None and kept.key != self.key(stage):
                self._change({known: one for known, one in self.record.stages.items() if known != stage.name})
        self.record.save(self.path / "run.json")

    def _epochs(self, file: str) -> float:
        """How long the epochs of a history took, those before an interruption too; 0 of another file."""
        if not file.endswith("history.jsonl"):
            return 0.0
        return float(sum(json.loads(row)["seconds"] for row in (self.path / file).read_text().splitlines()))

    def _change(self, stages: dict[str, StageRecord]) -> None:
        self.record = self.record.model_copy(update={"stages": stages})


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


def opened(path: Path, recipe: Recipe) -> RunFolder | None:
    """The run of a recipe in the folder `path`, to be looked at; None where there is none that can be read."""
    try:
        record = RunRecord.load(path / "run.json")
    except RunFolderError:
        return None
    return RunFolder(path, recipe, record) if record.recipe_hash == recipe.hash else None


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
        platform=_platform(),
    )


def _platform() -> str:
    """What else decides figures: with other sums of floats, training ends elsewhere."""
    import keras  # here: what only reads a folder does not wait for it

    system, python = f"{platform.system()} {platform.machine()}", f"Python {platform.python_version()}"
    return f"{system}, {python}, Keras on {keras.backend.backend()}, {processor.threads()} threads"


def _versions() -> dict[str, str]:
    versions = {"tinyrobust": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
