"""What a report says about a run beside its results."""

from pathlib import Path
from typing import Any

from tinyrobust import assets
from tinyrobust import recipe as recipes
from tinyrobust.pipeline.facts import run_facts
from tinyrobust.pipeline.folder import read
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.reports.card import write_card


def test_the_zoo_s_notes_are_on_the_card_of_its_own_recipe_only(tiny_run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    recipe, _ = read(tiny_run.path)
    record = RunRecord.load(tiny_run.path / "run.json")
    beside = tmp_path / "models" / recipe.name
    beside.mkdir(parents=True)
    (beside / "recipe.toml").write_bytes((tiny_run.path / "recipe.toml").read_bytes())
    (beside / "notes.md").write_text("Three seeds: *no difference*.\n", encoding="utf-8")
    monkeypatch.setattr(assets, "folder", lambda name: tmp_path / name)
    facts = run_facts(recipe, record)
    assert "## Notes\n\nThree seeds: *no difference*.\n" in write_card(tmp_path, facts).read_text(encoding="utf-8")
    changed = recipes.load(tiny_run.path / "recipe.toml", ["train.epochs=99"])
    assert run_facts(changed, record).notes == ""
