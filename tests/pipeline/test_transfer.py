"""Robustness from a teacher: teachers of several kinds, what is measured of them, and a fraction of the data."""

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import tinyrobust
from tinyrobust import recipe as recipes
from tinyrobust.cli.app import app
from tinyrobust.data.arrays import Split
from tinyrobust.data.sources import load
from tinyrobust.errors import DataError, ModelFileError, RecipeError
from tinyrobust.pipeline.plan import signatures
from tinyrobust.pipeline.teacher_check import check
from tinyrobust.progress import silent
from tinyrobust.training.teacher_record import TeacherRecord, TeacherRobustness

_RECIPE = """
[data]
name = "digits"
train_samples = 500
test_samples = 120
validation = 0.3
[network]
kind = "conv1d"
width = 0.25
[[precision.rule]]
layers = ".*"
weights = "binary"
[train]
epochs = 2
batch_size = 32
learning_rate = 1e-2
"""
_ATTACK = "perturbation={kind='pgd', epsilon=0.15, steps=2}"
_ROBUST = "teacher_epochs=12, teacher_objectives=[{kind='adversarial', perturbation={kind='fgsm', epsilon=0.15}}]"
_PLAIN = "teacher_epochs=4"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "taught.toml"
    path.write_text(_RECIPE)
    return path


def _objective(teacher: str, attack: str = _ATTACK, *more: str) -> str:
    ard = f"{{kind='ard', alpha=0.5, {attack}, {teacher}}}"
    return f"train.objective=[{', '.join([ard, *more])}]"


def _run(recipe: Path, *overrides: str, until: str = "train", **settings: Any) -> Any:
    return tinyrobust.run(recipe, overrides=overrides, runs_dir=recipe.parent / "runs", until=until, **settings)


@pytest.fixture(scope="module")
def robust(recipe: Path) -> Any:
    """A student of an adversarially trained teacher, which learns from it in three ways."""
    other = (
        f"{{kind='distillation', temperature=5, {_ROBUST}}}",
        "{kind='adversarial', perturbation={kind='fgsm', epsilon=0.1}}",
    )
    return _run(recipe, _objective(_ROBUST, _ATTACK, *other))


def test_three_objectives_add_up(robust: Any) -> None:
    assert [row["epoch"] for row in robust.history] == [1, 2]
    for row in robust.history:
        for prefix in ("", "val_"):
            terms = [row[f"{prefix}{name}"] for name in ("ard", "distillation", "adversarial")]
            assert np.isfinite(terms).all()
            assert row[f"{prefix}loss"] == pytest.approx(sum(terms), rel=1e-5)


def test_a_teacher_that_is_trained_adversarially_is_not_warned_of(robust: Any) -> None:
    assert list(robust.record.stages) == ["teacher", "teacher-check", "train"]
    record = robust.teacher
    assert (record.images, record.steps, [one.epsilon for one in record.robust]) == (150, 20, [0.15])
    assert record.accuracy > 0.7
    assert record.robust[0].accuracy > record.accuracy / 3
    assert record.warnings == []
    assert "adversarial" in json.loads((robust.path / "teacher_history.jsonl").read_text().splitlines()[-1])


def test_a_teacher_that_is_not_robust_is_told_before_the_student_trains(recipe: Path) -> None:
    told: list[str] = []
    run = _run(recipe, _objective(_PLAIN), until="teacher-check", progress=lambda label, *_: told.append(label))
    (warning,) = run.teacher.warnings
    assert "The teacher is not robust" in warning
    assert 'teacher_objectives = [{ kind = "adversarial", perturbation = { kind = "pgd", epsilon = 0.15 } }]' in warning
    assert told[-1] == f"teacher check: {warning}"
    assert not (run.path / "model.keras").exists()
    settings = ["--set", _objective(_PLAIN), "--runs-dir", str(recipe.parent / "runs"), "--set", "train.epochs=1"]
    shown = CliRunner().invoke(app, ["train", str(recipe), *settings])
    assert shown.exit_code == 0, shown.output
    assert "The teacher is not robust" in " ".join(shown.output.split())


def _record(accuracy: float, *robust: float) -> TeacherRecord:
    each = tuple(TeacherRobustness(epsilon=0.1 * (1 + number), accuracy=one) for number, one in enumerate(robust))
    return TeacherRecord(images=100, accuracy=accuracy, chance=0.1, steps=20, robust=each)


@pytest.mark.parametrize(
    ("record", "warning"),
    [
        (_record(0.9, 0.31), ""),
        (_record(0.9, 0.29), "not robust.*epsilon = 0.1 "),
        (_record(0.9, 0.31, 0.1), "not robust.*epsilon = 0.2 "),
        (_record(0.15, 0.15), r"at chance: 15.0% of 100 validation images.*reach 10.0%"),  # two standard errors: 16 %
        (_record(0.17, 0.15), ""),
    ],
)
def test_when_a_teacher_is_warned_of(record: TeacherRecord, warning: str) -> None:

    said = " ".join(record.warnings)
    assert re.search(warning, said) if warning else said == ""


def test_a_hot_teacher_is_attacked_at_its_temperature() -> None:
    """Logits (T x, T / 2) tell x on one side of 1/2 from x on the other; at T = 1 the softmax is flat to the last bit."""
    network = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    network.set_weights([np.float32([[1e5, 0]]), np.float32([0, 0.5e5])])
    x = np.uint8([140, 150, 250, 10, 100, 115]).reshape(6, 1, 1, 1)
    split = Split(x, np.array([0, 0, 0, 1, 1, 1]))
    masked, seen = (check(network, split, (0.11,), 7, silent, temperature) for temperature in (1.0, 1e5))
    assert masked.robust[0].accuracy == 1
    assert seen.robust[0].accuracy == pytest.approx(1 / 3)  # 28 of 255 cross the middle from 140, 150, 115 and 100
    hot = '{kind="ard", teacher_temperature=5}'
    assert recipes.load("digits-stq", [f"train.objective=[{hot}]"]).train.teaching.temperature == 5


def test_a_teacher_from_a_file_is_the_same_teacher(robust: Any, recipe: Path) -> None:
    path = robust.path / "teacher_model.keras"
    run = _run(recipe, _objective(f"teacher_file={{path='{path}'}}"), until="teacher-check")
    ours, theirs = (keras.models.load_model(one, compile=False).get_weights() for one in (run.path / path.name, path))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.teacher == robust.teacher
    (row,) = [json.loads(line) for line in (run.path / "teacher_history.jsonl").read_text().splitlines()]
    assert row["val_accuracy"] == pytest.approx(run.teacher.accuracy)
    with pytest.raises(ModelFileError, match="the weights of the recipe's network in float"):
        _run(recipe, _objective(f"teacher_width=0.5, teacher_file={{path='{path}'}}"), until="teacher")


def test_the_file_is_looked_for_beside_the_recipe_and_where_it_lies_changes_no_hash(tmp_path: Path) -> None:
    loaded = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "teacher.keras").write_bytes(b"not looked into yet")
        text = '[[train.objective]]\nkind = "rslad"\nteacher_file = { path = "teacher.keras" }\n'
        (tmp_path / name / "mine.toml").write_text(_RECIPE + text)
        loaded.append(recipes.load(tmp_path / name / "mine.toml"))
    assert Path(loaded[0].train.teaching.file.path) == tmp_path / "a" / "teacher.keras"
    assert loaded[0].hash == loaded[1].hash
    assert signatures(loaded[0]) == signatures(loaded[1])


_WIDE = "perturbation={kind='pgd', epsilon=0.2, steps=2}"
_SAID = "teacher_epochs=4, teacher_objectives=[{kind='cross-entropy'}]"


@pytest.mark.parametrize(
    ("overrides", "shared"),
    [
        ([_objective(_SAID)], {"teacher", "teacher-check"}),
        ([_objective(_PLAIN, _WIDE)], {"teacher"}),
        ([_objective(_ROBUST)], set()),
        ([_objective(_PLAIN), "train.fraction=0.5"], {"teacher", "teacher-check"}),
        ([_objective(_PLAIN), "train.epochs=3"], {"teacher", "teacher-check"}),
    ],
)
def test_what_runs_share(recipe: Path, overrides: list[str], shared: set[str]) -> None:
    """A student's ball is no matter of its teacher, nor is the fraction of the data that it learns from."""
    one, other = (signatures(recipes.load(recipe, settings)) for settings in ([_objective(_PLAIN)], overrides))
    learned = ("teacher", "teacher-check", "train", "export")
    assert {stage for stage in learned if one[stage] == other[stage]} == shared


def test_a_student_of_a_fraction_sees_so_many_images_and_its_teacher_all(recipe: Path, robust: Any) -> None:
    told: list[tuple[str, int]] = []
    settings = [_objective(_ROBUST), "train.fraction=0.2", "train.epochs=1"]
    run = _run(recipe, *settings, progress=lambda label, _, total: told.append((label, total)))
    assert ("teacher: taken from " + robust.path.name, 1) in told
    assert {total for label, total in told if label.startswith("train: epoch")} == {70 // 32}
    assert (run.path / "teacher_model.keras").read_bytes() == (robust.path / "teacher_model.keras").read_bytes()


def test_a_fraction_without_a_batch_is_refused_before_the_teacher_trains(recipe: Path) -> None:
    with pytest.raises(DataError, match=r"Expected at least train.batch_size = 32 training images. Received: 18"):
        _run(recipe, _objective("teacher_epochs=3"), "train.fraction=0.05")
    assert not list((recipe.parent / "runs").glob("*/checkpoints/teacher-0003.npz"))


def test_a_fraction_of_digits_is_balanced_and_seeded(recipe: Path) -> None:
    dataset = load(recipes.load(recipe).data, seed=7)
    half, again, other = (dataset.with_fraction(0.5, seed) for seed in (7, 7, 8))
    counts = np.bincount(dataset.train.y) / 2
    assert np.abs(np.bincount(half.train.y) - counts).max() <= 1
    np.testing.assert_array_equal(half.train.x, again.train.x)
    assert (half.train.x != other.train.x).any()
    assert half.validation is dataset.validation
    tenth = dataset.with_fraction(0.1, 7)
    np.testing.assert_array_equal(tenth.train.x, half.train.x[: len(tenth.train)])
    assert dataset.with_fraction(1.0, 7) is dataset
    with pytest.raises(RecipeError, match="greater than 0"):
        recipes.load(recipe, ["train.fraction=0"])
