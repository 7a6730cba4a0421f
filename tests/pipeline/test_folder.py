"""The run's folder: one writer, complete or absent stages, clear refusals."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyrobust import recipe
from tinyrobust.data.arrays import Dataset, Split
from tinyrobust.errors import RunFolderError
from tinyrobust.execution import processor
from tinyrobust.pipeline import folder, plan

_HOLD = """
import sys, time, pathlib
from tinyrobust.execution import processor
from tinyrobust.pipeline import folder, plan
with folder.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def dataset() -> Dataset:
    split = Split(np.zeros((2, 4, 4, 1), np.uint8), np.arange(2))
    return Dataset("two", split, split, split, ("a", "b"), "f" * 64)


@pytest.fixture
def run(tmp_path: Path, dataset: Dataset) -> folder.RunFolder:
    return folder.begun(tmp_path, recipe.load("digits-stq"), dataset)


def _leave(run: folder.RunFolder, name: str, text: str) -> None:
    """Does a stage: each of its files says `text`."""
    stage = plan.named(name)
    with run.stage(stage):
        for file in stage.left(run.recipe):
            (run.path / file).write_text(f'{{"epoch": 1, "seconds": 0.0, "says": "{text}"}}')


def test_a_stage_is_complete_when_its_record_and_files_are_there(run: folder.RunFolder) -> None:
    assert not run.is_complete("train")
    _leave(run, "train", "weights")
    assert run.is_complete("train")


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_text("other")], ids=["missing", "changed"])
def test_a_stage_with_a_damaged_file_is_not_complete(run: folder.RunFolder, damage: object) -> None:
    _leave(run, "train", "weights")
    damage(run.path / "model.keras")  # type: ignore[operator]
    assert not run.is_complete("train")


def _history(run: folder.RunFolder, name: str, *seconds: float) -> None:
    rows = "".join(f'{{"epoch": {number}, "seconds": {one}}}\n' for number, one in enumerate(seconds, 1))
    with run.stage(plan.named(name)):
        for file in plan.named(name).left(run.recipe):
            (run.path / file).write_text(rows if file.endswith(".jsonl") else name)


def test_a_training_took_as_long_as_its_epochs_those_before_an_interruption_too(run: folder.RunFolder) -> None:
    _history(run, "train", 1000.5, 2000.0)
    assert folder.read(run.path)[1].stages["train"].seconds == 3000.5


def test_a_history_that_is_copied_is_not_learned_twice(run: folder.RunFolder) -> None:
    _history(run, "float", 1000.5)
    _history(run, "train", 1000.5)
    stages = folder.read(run.path)[1].stages
    assert stages["float"].seconds == 1000.5
    assert stages["train"].seconds < 60


def test_a_stage_that_fails_leaves_no_record(run: folder.RunFolder) -> None:
    _leave(run, "train", "weights")
    with pytest.raises(ZeroDivisionError), run.stage(plan.named("train")):
        raise ZeroDivisionError
    assert "train" not in folder.read(run.path)[1].stages


def test_stages_that_read_what_has_changed_are_stale(run: folder.RunFolder) -> None:
    for stage in ("train", "export", "footprint", "attack"):
        _leave(run, stage, stage)
    _leave(run, "export", "export")
    assert list(folder.read(run.path)[1].stages) == ["train", "export", "footprint", "attack"], "the same files as before"
    _leave(run, "footprint", "another")
    assert list(folder.read(run.path)[1].stages) == ["train", "export", "footprint", "attack"], "nobody reads them"
    _leave(run, "export", "another")
    assert list(folder.read(run.path)[1].stages) == ["train", "export"]


def test_a_run_is_read_back(run: folder.RunFolder) -> None:
    known, record = folder.read(run.path)
    assert known.hash == run.recipe.hash == record.recipe_hash
    assert known.name == "digits-stq"
    assert record.dataset_sizes == {"train": 2, "validation": 2, "test": 2}
    assert record.versions["keras"]


@pytest.mark.parametrize(("told", "threads"), [("3", 3), ("", len(processor.cores())), ("0", len(processor.cores()))])
def test_the_record_says_among_how_many_threads_sums_are_split(
    told: str, threads: int, tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", told)
    folder.begun(tmp_path / "run", recipe.load("digits-stq"), dataset)
    assert folder.read(tmp_path / "run")[1].platform.endswith(f", {threads} threads")


def test_other_data_are_refused(run: folder.RunFolder, dataset: Dataset) -> None:
    other = Dataset("two", dataset.train, dataset.validation, dataset.test, ("a", "b"), "0" * 64)
    with pytest.raises(RunFolderError, match=r"begun with other data.*--data-dir"):
        folder.begun(run.path, run.recipe, other)


def test_a_changed_recipe_is_refused(run: folder.RunFolder, dataset: Dataset) -> None:
    changed = (run.path / "recipe.toml").read_text().replace("seed = 7", "seed = 8")
    (run.path / "recipe.toml").write_text(changed)
    with pytest.raises(RunFolderError, match="another recipe"):
        folder.begun(run.path, run.recipe, dataset)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not the folder of a run"):
        folder.read(tmp_path)


def test_a_corrupt_record_is_refused(run: folder.RunFolder) -> None:
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"Cannot read .*run\.json"):
        folder.read(run.path)


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=r"Another process is writing .*--runs-dir"), folder.locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with folder.locked(tmp_path):
        pass


def test_what_a_killed_writer_left_half_done_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".partial-abcmodel.keras").write_text("half")
    with folder.locked(tmp_path):
        assert not list(tmp_path.glob(".partial-*"))


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunFolderError, match="a part of the path is a file"), folder.locked(tmp_path / "runs" / "x"):
        pass
