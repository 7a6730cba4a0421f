"""The graph of stages: a stage is done again when what it reads has changed, and only then, or taken from another run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import tinyrobust
from tinyrobust.data.sources import load
from tinyrobust.errors import TinyRobustError
from tinyrobust.pipeline import plan, reads
from tinyrobust.pipeline.context import Context
from tinyrobust.pipeline.folder import opened
from tinyrobust.progress import silent
from tinyrobust.training.fit import seed_everything


@pytest.fixture
def copy(tiny_run: Any, tmp_path: Path) -> Path:
    """A copy of the run, in a folder of runs of its own."""
    return Path(shutil.copytree(tiny_run.path, tmp_path / "runs" / tiny_run.path.name))


def _done(recipe: Path, run: Path, *overrides: str) -> dict[str, str]:
    """Runs a recipe beside `run`; how each stage came to be: complete, taken from another run, or done."""
    told: list[str] = []
    made = tinyrobust.run(recipe, overrides=overrides, runs_dir=run.parent, progress=lambda label, *_: told.append(label))
    said = dict(label.split(": ", 1) for label in told if label.endswith(": complete") or ": taken from " in label)
    return {stage: said.get(stage, "done") for stage in made.record.stages}


def test_a_deleted_footprint_redoes_the_footprint_and_the_report(tiny_recipe: Path, copy: Path) -> None:
    before = (copy / "footprint.json").read_bytes()
    (copy / "footprint.json").unlink()
    done = _done(tiny_recipe, copy)
    assert {stage for stage, how in done.items() if how == "done"} == {"footprint", "report"}
    assert (copy / "footprint.json").read_bytes() == before


def test_an_artefact_that_is_made_again_and_the_same_leaves_what_reads_it_alone(tiny_recipe: Path, copy: Path) -> None:
    (copy / "model.tflite").unlink()
    done = _done(tiny_recipe, copy)
    assert {stage for stage, how in done.items() if how == "done"} == {"export", "report"}


@pytest.mark.parametrize(("file", "stage"), [("model.keras", "train"), ("teacher_model.keras", "teacher")])
def test_a_network_that_is_saved_again_leaves_what_reads_it_alone(tiny_recipe: Path, copy: Path, file: str, stage: str) -> None:
    before = (copy / file).read_bytes()
    (copy / file).unlink()
    done = _done(tiny_recipe, copy)
    assert (copy / file).read_bytes() == before
    assert {stage for stage, how in done.items() if how == "done"} == {stage, "report"}


def test_another_artefact_redoes_what_reads_it(tiny_run: Any) -> None:
    recipe, record = tiny_run.recipe, tiny_run.record
    export = record.stages["export"]
    other = export.model_copy(update={"files": {**export.files, "model.tflite": "0" * 64}})
    changed = record.model_copy(update={"stages": {**record.stages, "export": other}})
    stale = {stage.name for stage in plan.STAGES if stage.key(recipe, record) != stage.key(recipe, changed)}
    assert stale & set(record.stages) == {"footprint", "attack", "report"}


def test_a_changed_template_redoes_the_report_only(
    tiny_recipe: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(plan.__file__).parents[1] / "reports" / "templates", tmp_path / "templates")
    with (tmp_path / "templates" / "report.html.j2").open("a") as file:
        file.write("<!-- changed -->")
    monkeypatch.setattr(reads, "resources", lambda _: tmp_path)
    assert {stage for stage, how in _done(tiny_recipe, copy).items() if how == "done"} == {"report"}


def test_a_changed_protocol_is_another_attack(tiny_run: Any, tmp_path: Path) -> None:
    recipe, record = tiny_run.recipe, tiny_run.record
    protocol = tmp_path / "mine.toml"
    asks = recipe.model_copy(update={"robustness": recipe.robustness.model_copy(update={"protocol": str(protocol)})})
    keys = []
    for text in ("steps = 5\n", "# a comment\nsteps = 5\n", "steps = 6\n"):
        protocol.write_text(text)
        keys.append(plan.named("attack").key(asks, record))
    assert keys[0] == keys[1] != keys[2]


def test_corruptions_are_measured_besides(tiny_run: Any) -> None:
    """Asked for afterwards, they leave what was attacked alone, and the page is written anew."""
    recipe, record = tiny_run.recipe, tiny_run.record
    settings = recipe.robustness.model_copy(update={"corruptions": "corruptions"})
    asks = recipe.model_copy(update={"robustness": settings})
    assert {stage.name for stage in plan.until("report", asks)} - {stage.name for stage in plan.until("report", recipe)} == {
        "corruptions"
    }
    assert plan.named("attack").key(asks, record) == plan.named("attack").key(recipe, record)
    assert plan.named("report").key(asks, record) != plan.named("report").key(recipe, record)


def test_a_setting_redoes_what_reads_it_and_takes_the_rest_from_the_other_run(tiny_recipe: Path, copy: Path) -> None:
    done = _done(tiny_recipe, copy, "export.agreement=0.85")
    taken = f"taken from {copy.name}"
    assert done == {
        "teacher": taken,
        "train": taken,
        "export": "done",
        "footprint": taken,
        "attack": taken,
        "amplification": taken,
        "report": "done",
    }
    (other,) = (path for path in copy.parent.iterdir() if path != copy)
    for file in ("model.keras", "model.tflite", "robustness.json", "per_sample.npz", "amplification.json"):
        assert (other / file).read_bytes() == (copy / file).read_bytes()
    stages = [json.loads((run / "run.json").read_text())["stages"] for run in (copy, other)]
    assert [stage["train"].pop("taken_from") for stage in stages] == ["", copy.name]
    assert stages[0]["train"] == stages[1]["train"]


def _work_alone(run: Any, stage: plan.Stage, folder: Path) -> None:
    """Does a stage in a folder that has nothing but the record and what the stage says that it reads."""
    folder.mkdir()
    for file in ("recipe.toml", "run.json", *stage.inputs):
        if (run.path / file).is_file():
            shutil.copy(run.path / file, folder / file)
    alone = opened(folder, run.recipe)
    assert alone is not None
    alone.record = alone.record.model_copy(
        update={"stages": {name: done for name, done in alone.record.stages.items() if name != stage.name}}
    )
    seed_everything(run.recipe.seed)
    stage.run(Context(alone, load(run.recipe.data, run.recipe.seed), silent))


@pytest.mark.parametrize("name", [name for name in plan.NAMES if name not in ("teacher", "train")])
def test_a_stage_reads_nothing_but_what_it_says(name: str, tiny_run: Any, tmp_path: Path) -> None:
    """What it leaves then is what it left in the run. The two stages that train are not done twice."""
    stage = plan.named(name)
    if not stage.needed(tiny_run.recipe):
        pytest.skip("the recipe does not have this stage")
    _work_alone(tiny_run, stage, tmp_path / "alone")
    for file in stage.left(tiny_run.recipe):
        left, expected = ((folder / file).read_bytes() for folder in (tmp_path / "alone", tiny_run.path))
        assert _timeless(left) == _timeless(expected), file


def _timeless(content: bytes) -> object:
    """A record without its times."""
    if not content.startswith(b"{"):
        return content
    record = json.loads(content)
    for part in (record, *record.get("attacks", [])):
        part.pop("seconds", None)
    return record


def test_stages_come_after_what_they_read_from_and_files_have_one_maker() -> None:
    files: list[str] = []
    for stage in plan.STAGES:
        assert set(stage.inputs) <= set(files), stage.name
        files += stage.files + stage.speech_files
    assert len(set(files)) == len(files)
    assert all(plan.leaving(file).name in plan.NAMES for file in files)


def test_an_unknown_stage_names_the_nearest(tiny_recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(TinyRobustError, match=r"There is no stage 'exprot'\. Did you mean 'export'"):
        tinyrobust.run(tiny_recipe, until="exprot", runs_dir=tmp_path)
