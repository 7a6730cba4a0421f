"""A run through the Python API: what it leaves, what it repeats, what it refuses."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrobust
from tinyrobust.errors import DataError, ParityError, RecipeError, RunFolderError
from tinyrobust.pipeline import plan

# An accelerator machine has JAX and no TensorFlow.
_WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
from tinyrobust.cli.app import main
sys.argv = ["tinyrobust", *sys.argv[1:]]
main()
"""
_FULL = """
set -e
mount -t tmpfs -o size={size} tmpfs {folder}
exec {python} -m tinyrobust.cli.app run {recipe} --runs-dir {folder}/runs
"""


def test_every_stage_leaves_its_files_and_its_record(tiny_run: Any) -> None:
    record = tiny_run.record
    needed = plan.until("report", tiny_run.recipe)
    assert list(record.stages) == [stage.name for stage in needed]
    for stage in needed:
        assert set(record.stages[stage.name].files) == set(stage.files)
        assert all((tiny_run.path / name).is_file() for name in stage.files)


def test_the_folder_is_named_by_recipe_and_hash(tiny_run: Any) -> None:
    resolved = tomllib.loads((tiny_run.path / "recipe.toml").read_text())
    assert tiny_run.path.name == f"tiny-{tiny_run.recipe.hash[:8]}"
    assert resolved["train"]["schedule"] == "one-cycle"  # defaults are written out


def test_the_history_shows_the_four_phases(tiny_run: Any) -> None:
    fractions = [row["quantized_fraction"] for row in tiny_run.history]
    assert fractions == sorted(fractions)
    assert fractions[0] == 0.5
    assert fractions[-1] == 1.0
    assert len(set(fractions)) == 4
    assert all(row["learning_rate"] >= 0 and row["val_loss"] > 0 for row in tiny_run.history)


def test_the_headline_is_the_worst_case_over_targets_and_attacks(tiny_run: Any) -> None:
    robustness = tiny_run.robustness
    assert robustness.headline.n == 20
    assert all(
        robustness.headline.value <= attack.robust.value
        for attack in robustness.attacks
        if attack.epsilon == robustness.headline_epsilon
    )
    with np.load(tiny_run.path / "per_sample.npz", allow_pickle=False) as stored:
        assert len(stored.files) > 0


def test_a_complete_run_is_not_done_again(tiny_recipe: Path, tiny_run: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in tiny_run.path.rglob("*") if path.name != ".lock"}
    told: list[str] = []
    tinyrobust.run(tiny_recipe, runs_dir=tiny_run.path.parent, progress=lambda label, *_: told.append(label))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [label for label in told if label.endswith(": complete")] == [f"{name}: complete" for name in tiny_run.record.stages]


def test_only_what_is_missing_is_done(tiny_recipe: Path, tiny_run: Any, tmp_path: Path) -> None:
    copy = tmp_path / tiny_run.path.name
    shutil.copytree(tiny_run.path, copy)
    (copy / "robustness.json").unlink()
    told: list[str] = []
    tinyrobust.run(tiny_recipe, runs_dir=tmp_path, progress=lambda label, *_: told.append(label))
    assert "footprint: complete" in told
    assert "attack: complete" not in told
    before, after = (json.loads((run / "robustness.json").read_text()) for run in (tiny_run.path, copy))
    assert after["headline"] == before["headline"]
    assert (copy / "per_sample.npz").read_bytes() == (tiny_run.path / "per_sample.npz").read_bytes()


def test_the_test_set_is_not_looked_at_before_the_attack_stage(tiny_run: Any) -> None:
    assert "none from the test set" in tiny_run.parity.images
    assert tiny_run.parity.n == 500  # all training and validation images of this recipe
    assert not any("test" in key for row in tiny_run.history for key in row)


def test_broken_parity_refuses_the_export(tiny_recipe: Path, tmp_path: Path) -> None:
    overrides = ["export.agreement=1.0", "export.accuracy_drop=0.0", "train.epochs=1", "train.objective.0.teacher_epochs=1"]
    overrides.append("train.learning_rate=1e-5")  # as good as untrained: rounding decides many images
    with pytest.raises(ParityError):
        tinyrobust.export(tiny_recipe, overrides=overrides, runs_dir=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert not (folder / "model.tflite").exists()
    assert "export" not in json.loads((folder / "run.json").read_text())["stages"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("precision.rule.0.layers=blok.*", "matches no layer"),
        ("network.kind=perceptron", "stqnet"),
        ("robustness.protocol=quik", "quick"),
        ("robustness.protocol=corruptions", "Expected a protocol of attacks"),
        ("robustness.corruptions=quick", "Expected a protocol of corruptions"),
    ],
)
def test_what_cannot_end_does_not_begin(tiny_recipe: Path, tmp_path: Path, override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        tinyrobust.run(tiny_recipe, overrides=[override], runs_dir=tmp_path)
    assert not list(tmp_path.rglob("*.keras"))


def test_images_too_small_for_corruptions_are_refused_before_training(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at least 32x32 pixels\. Received: 8x8 of digits"):
        tinyrobust.run(tiny_recipe, overrides=["robustness.corruptions=corruptions"], runs_dir=tmp_path)
    assert not list(tmp_path.rglob("*.keras"))


def test_a_full_disk_is_a_clear_error(tiny_recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    script = _FULL.format(size="100k", folder=folder, python=sys.executable, recipe=tiny_recipe)
    probe = subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True)
    if shutil.which("unshare") is None or probe.returncode:
        pytest.skip("this machine does not let a test mount a small file system")
    answer = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "the disk is full" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_renamed_run_still_gives_a_report(tiny_run: Any, tmp_path: Path) -> None:
    copy = tmp_path / "renamed"
    shutil.copytree(tiny_run.path, copy)
    (copy / "report.html").unlink()
    assert tinyrobust.report(copy) == copy / "report.html"
    assert (copy / "report.html").is_file()


def test_the_lock_is_held_while_a_run_writes(tiny_recipe: Path, tiny_run: Any) -> None:
    from tinyrobust.pipeline.folder import locked

    with locked(tiny_run.path), pytest.raises(RunFolderError, match="Another process"):
        tinyrobust.run(tiny_recipe, runs_dir=tiny_run.path.parent)


def test_the_same_recipe_gives_the_same_file(tiny_recipe: Path, tiny_run: Any, tmp_path: Path) -> None:
    again = tinyrobust.export(tiny_recipe, runs_dir=tmp_path)
    assert (again.path / "model.tflite").read_bytes() == (tiny_run.path / "model.tflite").read_bytes()
    assert again.path.name == tiny_run.path.name


def test_jax_trains_without_tensorflow_and_tensorflow_goes_on(tiny_recipe: Path, tmp_path: Path) -> None:
    command = ["export", str(tiny_recipe), "--runs-dir", str(tmp_path)]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    answer = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TENSORFLOW, *command], capture_output=True, text=True, check=False, env=environment
    )
    assert answer.returncode == 1
    assert "KERAS_BACKEND=tensorflow" in answer.stderr
    exported = tinyrobust.export(tiny_recipe, runs_dir=tmp_path)
    assert list(exported.record.stages) == ["teacher", "train", "export"]
