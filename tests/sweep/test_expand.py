"""Sweep files: what they expand to, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tinyrobust import assets
from tinyrobust.cli.app import app
from tinyrobust.errors import RecipeError
from tinyrobust.pipeline import plan
from tinyrobust.recipe.data import Fold
from tinyrobust.sweep.columns import COLUMNS, Value, named, value
from tinyrobust.sweep.expand import Job, expand, rows
from tinyrobust.sweep.spec import load

_TWO_AXES = """
base = "digits-stq"
seeds = [1, 2]
protocol = "paper"
[[axis]]
name = "epochs"
key = "train.epochs"
values = [5, 6, 7]
[[axis]]
name = "weights"
[[axis.point]]
label = "ternary"
[[axis.point]]
label = "binary"
name = "digits-binary"
set = ['precision.rule=[{layers=".*", weights="binary"}]', "train.ema=0.9"]
"""


def jobs_of(folder: Path, text: str, *overrides: str) -> list[Job]:
    (folder / "mine.toml").write_text(text)
    sweep, path = load(folder / "mine.toml")
    return expand(sweep, path, overrides)


def test_axes_are_crossed_and_the_first_seed_comes_first(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, _TWO_AXES)
    found = [(job.recipe.seed, job.recipe.train.epochs, job.recipe.precision.formats[0]) for job in jobs]
    fixed, binary = "fixed-point", "binary"
    assert found == [(seed, epochs, weights) for seed in (1, 2) for epochs in (5, 6, 7) for weights in (fixed, binary)]
    assert {job.recipe.robustness.protocol for job in jobs} == {"paper"}
    assert [job.recipe.name for job in jobs[:2]] == ["digits-stq", "digits-binary"]
    assert jobs[3].row == (("epochs", "6"), ("weights", "binary"))
    assert jobs[3].title == "epochs 6, weights binary, seed 1"
    assert len({job.recipe.hash for job in jobs}) == 12


def test_settings_of_every_run_come_before_those_of_a_point(tmp_path: Path) -> None:
    text = _TWO_AXES.replace("seeds = [1, 2]", 'set = ["train.ema=0.5", "train.warmup=0.1"]')
    found = [(job.recipe.train.ema, job.recipe.train.warmup) for job in jobs_of(tmp_path, text)[:2]]
    assert found == [(0.5, 0.1), (0.9, 0.1)]


def test_axes_are_zipped(tmp_path: Path) -> None:
    text = _TWO_AXES.replace("[5, 6, 7]", "[5, 6]").replace("seeds = [1, 2]", 'combine = "zip"')
    jobs = jobs_of(tmp_path, text)
    assert [job.row for job in jobs] == [(("epochs", "5"), ("weights", "ternary")), (("epochs", "6"), ("weights", "binary"))]


def test_folds_and_overrides_reach_every_job(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, 'base = "digits-stq"\nfolds = 5\n', "train.epochs=2")
    assert [job.recipe.data.fold for job in jobs] == [Fold(of=5, index=index) for index in range(5)]
    assert {job.recipe.train.epochs for job in jobs} == {2}
    assert jobs[4].title == "seed 7, part 5 of 5"


def test_a_recipe_may_lie_beside_the_file(tmp_path: Path, tiny_recipe: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_recipe.read_text())
    (job,) = jobs_of(tmp_path, 'base = "tiny.toml"\n')
    assert job.recipe.name == "tiny"


@pytest.mark.parametrize("name", assets.sweeps())
def test_every_sweep_in_the_box_expands(name: str) -> None:
    sweep, path = load(name)
    jobs = expand(sweep, path)
    assert len({job.recipe.hash for job in jobs}) == len(jobs)
    assert all(job.recipe.name != job.recipe.run_name for job in jobs)
    assert bool(sweep.references) == bool(sweep.source)


def test_the_stq_papers_table_has_its_rows() -> None:
    sweep, path = load("stq")
    labels = [{axis: point.label for axis, point in row}["weights"] for row in rows(sweep)]
    assert labels == ["FP", "STQ", "binary", "8-bit", "ternary, after"]
    weights = [set(job.recipe.precision.formats) for job in expand(sweep, path)[:4]]
    assert weights == [{"float"}, {"fixed-point", "stochastic-ternary"}, {"fixed-point", "binary"}, {"fixed-point"}]
    papers = {reference.row["weights"]: reference.figures["accuracy-keras"] for reference in sweep.references}
    assert papers == {"FP": 0.7520, "STQ": 0.8057, "binary": 0.3730, "8-bit": 0.3382}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("key =", "kee ="), "Did you mean 'key'"),
        (('"train.epochs"', '"seed"'), "Expected seeds and folds as keys of the sweep"),
        (("values = [5, 6, 7]", ""), "either points, or a key and values, for axis 'epochs'"),
        (("[5, 6, 7]", "[5, 5]"), "labels that differ for axis 'epochs'. Received: 5, 5"),
        (("seeds = [1, 2]", "seeds = [1, 1]"), "Expected seeds that differ"),
        (("seeds = [1, 2]", 'combine = "zip"'), r"axes of one length to zip. Received: \[2, 3\]"),
        (("seeds = [1, 2]", 'columns = ["acuracy"]'), "no column 'acuracy'. Did you mean 'accuracy'"),
        (("seeds = [1, 2]", 'columns = ["robust@8/0"]'), "no column 'robust@8/0'"),
        (
            ("seeds = [1, 2]", 'until = "export"'),
            "columns of the stages until 'export'. Received: accuracy, robust, packed, file",
        ),
        (("seeds = [1, 2]", 'until = "atack"'), "There is no stage 'atack'. Did you mean 'attack'"),
        (("train.ema=0.9", "train.emma=0.9"), "train.emma: there is no such key. Did you mean 'ema'"),
        (('"digits-stq"', '"digit-stq"'), "Did you mean 'digits-stq'"),
        (("seeds = [1, 2]", 'reference = [{row = {weights = "gold"}, figures = {}}]'), "weights = 'gold'"),
        (("seeds = [1, 2]", 'pareto = ["accuracy", "packed"]'), "Expected a cost, such as packed.*Received: 'accuracy'"),
        (("seeds = [1, 2]", 'pareto = ["arena", "accuracy"]'), "from the columns of the sweep, in pareto. Received: 'arena'"),
        (("seeds = [1, 2]", 'reference = [{row = {weights = "binary"}, figures = {}}]'), "Expected a source"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        jobs_of(tmp_path, _TWO_AXES.replace(*change))


def test_an_unknown_sweep_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'stq'"):
        load("sqt")


def _shared(jobs: list[Job]) -> set[str]:
    """The stages that two jobs have in common."""
    one, other = (plan.signatures(job.recipe) for job in jobs)
    return {stage for stage in one if one[stage] == other.get(stage)}


@pytest.mark.parametrize(
    ("settings", "shared"),
    [
        ([], {"teacher", "train", "export", "footprint", "attack", "amplification"}),
        (["robustness.samples=5", "footprint.boards=[]"], {"teacher", "train", "export", "footprint", "amplification"}),
        (["footprint.boards=['apollo4p-evb']"], {"teacher", "train", "export", "attack", "amplification"}),
        (["export.calibration_samples=9"], {"teacher", "train", "amplification"}),
        (['precision.rule=[{layers=".*", weights="binary"}]'], {"teacher"}),
        (["train.epochs=9"], {"teacher"}),
        (["train.objective.0.teacher_epochs=9"], set()),
        (["train.objective.0.temperature=3"], set()),
        (["train.objective.0.weight=2"], {"teacher"}),
        (["train.objective.0.temperature=3", "train.objective.0.teacher_temperature=2"], {"teacher"}),
        (["data.train_samples=400"], set()),
        (["network.width=0.5"], set()),
    ],
)
def test_what_two_recipes_share(tmp_path: Path, tiny_recipe: Path, settings: list[str], shared: set[str]) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_recipe.read_text())
    points = f"[[axis.point]]\nlabel = 'x'\n[[axis.point]]\nlabel = 'y'\nset = {settings}\n"
    assert _shared(jobs_of(tmp_path, f"base = 'tiny.toml'\n[[axis]]\nname = 'a'\n{points}")) == shared


def test_students_of_any_width_share_a_teacher_that_has_its_own(tmp_path: Path, tiny_recipe: Path) -> None:
    (tmp_path / "tiny.toml").write_text(
        tiny_recipe.read_text().replace("teacher_epochs", "teacher_width = 0.5\nteacher_epochs")
    )
    widths = "[[axis]]\nname = 'width'\nkey = 'network.width'\nvalues = [0.25, 0.5]\n"
    assert _shared(jobs_of(tmp_path, f"base = 'tiny.toml'\n{widths}")) == {"teacher"}


def test_a_recipe_that_is_not_distilled_has_no_teacher(tmp_path: Path) -> None:
    (job,) = jobs_of(tmp_path, 'base = "digits-stq"\n')
    assert list(plan.signatures(job.recipe)) == ["train", "export", "footprint", "attack", "amplification"]


def test_columns_are_read_from_a_runs_records(tiny_run: Any) -> None:
    found = {name: value(tiny_run.path, name) for name in COLUMNS}
    figures = {name: one and one.value for name, one in found.items()}
    assert figures["robust"] == tiny_run.robustness.headline.value
    assert figures["packed"] == tiny_run.footprint.weights_packed.value
    assert figures["agreement"] == tiny_run.parity.top1_agreement
    headline, reliable = tiny_run.robustness.headline, tiny_run.robustness.reliable
    assert found["robust"] == Value(headline.value, headline.count, 20, reliable, "epsilon 0.1, quick")
    assert (figures["training"] or 0) > 0
    assert value(tiny_run.path / "nowhere", "accuracy") is None


def test_a_column_may_name_its_epsilon(tiny_run: Any) -> None:
    record = tiny_run.robustness
    worst = {row.epsilon: row.robust for row in record.worst if row.target == "all" and row.norm == record.headline_norm}
    assert len(worst) > 1
    for epsilon, robust in worst.items():
        found = value(tiny_run.path, f"robust@{epsilon:g}")
        assert (found and found.count, found and found.n) == (robust.count, robust.n)
    assert value(tiny_run.path, "robust@99/255") is None
    assert named("robust@8/255").title == "Robust at 8/255"


def test_the_plan_is_told_before_anything_runs(tmp_path: Path) -> None:
    words = ["sweep", "stq", "--runs-dir", str(tmp_path), "--dry-run"]
    people, machines = CliRunner().invoke(app, words), CliRunner().invoke(app, [*words, "--json", "--set", "train.epochs=2"])
    assert people.exit_code == machines.exit_code == 0
    assert "5 runs" in people.output
    plan = json.loads(machines.output)
    assert [row["state"] for row in plan] == ["waiting"] * 5
    assert plan[0]["run"].startswith("cifar10-fp-")
    assert plan[0]["run"] not in people.output
    assert list(tmp_path.iterdir()) == []


def test_the_sweeps_own_process_stays_small() -> None:
    code = "import sys, tinyrobust.sweep.run; print(sorted({'tensorflow', 'keras', 'art'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
