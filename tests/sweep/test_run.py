"""Real sweeps of tiny networks: sharing, failure, being killed."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

import tinyrobust
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.sweep.run import sweep
from tinyrobust.sweep.sweep_record import SweepRecord

_SWEEP = """
base = "tiny.toml"
until = "export"
columns = ["agreement", "parity-accuracy", "training"]
[[axis]]
name = "variant"
[[axis.point]]
label = "ternary"
[[axis.point]]
label = "calibrated"
set = ["export.calibration_samples=50"]
[[axis.point]]
label = "binary"
name = "tiny-binary"
set = ['precision.rule=[{layers="stem|logits", weights="fixed-point"}, {layers=".*", weights="binary"}]',
       "export.agreement=0.5"]
[[axis.point]]
label = "impossible"
set = ["robustness.protocol='nowhere'"]
"""


def _file(folder: Path, recipe: Path, text: str) -> Path:
    short = recipe.read_text().replace("epochs = 6", "epochs = 4").replace("teacher_epochs = 4", "teacher_epochs = 2")
    (folder / "tiny.toml").write_text(short)
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def swept(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SweepRecord]:
    """A sweep of five rows, two at a time; one cannot work."""
    folder = tmp_path_factory.mktemp("swept")
    seen: list[str] = []
    record = sweep(
        _file(folder, tiny_recipe, _SWEEP),
        workers=2,
        runs_dir=folder / "runs",
        output=folder / "out",
        watch=lambda standing: seen.extend(status.label for _, status in standing),
    )
    assert {label.partition(":")[0] for label in seen} >= {"teacher", "train"}
    return folder, record


def _jobs(record: SweepRecord) -> dict[str, Any]:
    return {job.labels["variant"]: job for job in record.jobs}


def test_a_failure_is_reported_and_stops_nobody(swept: tuple[Path, SweepRecord]) -> None:
    _, record = swept
    states = {label: job.state for label, job in _jobs(record).items()}
    assert states == {"ternary": "complete", "calibrated": "complete", "binary": "complete", "impossible": "failed"}
    assert "nowhere" in _jobs(record)["impossible"].error


def test_what_runs_have_in_common_is_computed_once(swept: tuple[Path, SweepRecord]) -> None:
    folder, record = swept
    jobs = _jobs(record)
    first = jobs["ternary"].run
    assert jobs["ternary"].shared == {}
    assert jobs["calibrated"].shared == {"teacher": first, "train": first}
    assert jobs["binary"].shared == {"teacher": first}
    stages = {
        label: RunRecord.load(folder / "runs" / job.run / "run.json").stages for label, job in jobs.items() if job.seconds
    }
    teachers = {found["teacher"].files["teacher_model.keras"] for found in stages.values() if "teacher" in found}
    assert len(teachers) == 1
    trained = {label: found["train"].files for label, found in stages.items() if "train" in found}
    assert trained["calibrated"] == trained["ternary"] != trained["binary"]
    assert stages["calibrated"]["train"].seconds == stages["ternary"]["train"].seconds


def test_what_was_shared_is_what_a_run_alone_computes(swept: tuple[Path, SweepRecord], tmp_path: Path) -> None:
    """Neither the copies nor the company of another worker on the other cores change a figure."""
    folder, record = swept
    job = _jobs(record)["calibrated"]
    alone = tinyrobust.export(folder / "tiny.toml", overrides=["export.calibration_samples=50"], runs_dir=tmp_path)
    assert alone.path.name == job.run
    assert alone.parity == tinyrobust.pipeline.run.Run(folder / "runs" / job.run).parity
    assert (alone.path / "model.tflite").read_bytes() == (folder / "runs" / job.run / "model.tflite").read_bytes()


def test_the_comparison_has_what_the_runs_found(swept: tuple[Path, SweepRecord]) -> None:
    folder, record = swept
    assert SweepRecord.load(folder / "out" / "sweep.json") == record
    assert "impossible" in (folder / "out" / "sweep.csv").read_text()
    assert "nowhere" in (folder / "out" / "sweep.html").read_text()
    for row in record.rows:
        agreement, accuracy, _ = row.cells
        if row.labels["variant"] == "impossible":
            assert (agreement.mean, row.complete) == (None, 0)
        else:
            parity = json.loads((folder / "runs" / _jobs(record)[row.labels["variant"]].run / "parity.json").read_text())
            assert (agreement.mean, agreement.n) == (parity["top1_agreement"], parity["n"])
            assert accuracy.low is not None
            assert accuracy.mean is not None
            assert accuracy.low < accuracy.mean


def test_again_only_the_failed_one_is_tried(swept: tuple[Path, SweepRecord]) -> None:
    folder, record = swept
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("run.json")}
    started: set[str] = set()
    again = sweep(
        folder / "mine.toml",
        runs_dir=folder / "runs",
        output=folder / "out",
        watch=lambda standing: started.update(job.title for job, status in standing if status.state.value == "running"),
    )
    assert started == {"variant impossible, seed 7"}
    assert again.rows == record.rows
    assert _jobs(again)["calibrated"] == _jobs(record)["calibrated"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.fixture
def killed() -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """Starts a sweep as people do, in a group of its own."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(file: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tinyrobust.cli.app", "sweep", file.name, "--json"]
        # Where the tests run in a shell's background, SIGINT is ignored, and a child inherits that.
        heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        begun.append(subprocess.Popen(command, cwd=file.parent, stdout=subprocess.DEVNULL, preexec_fn=heed))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def _until(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_killed_and_run_again_only_what_is_missing_runs(
    tiny_recipe: Path, tmp_path: Path, killed: Callable[[Path], subprocess.Popen[bytes]], how: signal.Signals
) -> None:
    recipe = tmp_path / "undistilled.toml"
    recipe.write_text(tiny_recipe.read_text().partition("[[train.objective]]")[0])
    file = _file(tmp_path, recipe, 'base = "tiny.toml"\nuntil = "train"\nseeds = [1, 2]\ncolumns = ["training"]\n')
    process = killed(file)

    def complete() -> list[Path]:
        return [path.parent for path in tmp_path.glob("runs/*/run.json") if "train" in RunRecord.load(path).stages]

    _until(lambda: len(complete()) == 1 and len(list(tmp_path.glob("runs/*/.lock"))) == 2)
    os.kill(process.pid, how)
    assert process.wait(60) != 0
    (done,) = complete()
    (other,) = (path.parent for path in tmp_path.glob("runs/*/.lock") if path.parent != done)
    with filelock.FileLock(other / ".lock", timeout=60):  # its worker ends with the sweep
        pass
    model = (done / "model.keras").stat().st_mtime_ns
    record = sweep(file, runs_dir=tmp_path / "runs", output=tmp_path / "out")
    assert [job.state for job in record.jobs] == ["complete", "complete"]
    assert [job.seconds > 0 for job in record.jobs] == [done.name != job.run for job in record.jobs]
    assert (done / "model.keras").stat().st_mtime_ns == model
    assert record.rows[0].cells[0].runs == 2
