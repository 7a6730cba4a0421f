"""What a report says about a run beside its results: data, versions, seeds, times, the command to repeat it."""

from pathlib import Path

from tinyrobust import assets
from tinyrobust import recipe as recipes
from tinyrobust.data.cards import Card, cards, read_card
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.recipe import Recipe
from tinyrobust.reports.facts import DataFacts, RunFacts, StageTime


def run_facts(recipe: Recipe, record: RunRecord) -> RunFacts:
    """Collects what `reports` needs from a run's record."""
    card = _card(recipe.data.name, record.dataset)
    return RunFacts(
        name=record.name,
        recipe=recipe,
        versions={**record.versions, "platform": record.platform},
        seeds={"seed": record.seed},
        data=DataFacts(
            name=record.dataset,
            title=card.title if card else "",
            licence=card.licence if card else "",
            classes=tuple(record.classes),
            input_shape=tuple(record.input_shape),
            fingerprint=record.dataset_fingerprint,
            **record.dataset_sizes,
        ),
        stages=tuple(StageTime(name=name, seconds=stage.seconds) for name, stage in record.stages.items()),
        command="tinyrobust run recipe.toml",
        pipeline_tag="audio-classification" if recipe.data.speech else "image-classification",
        notes=_notes(recipe),
    )


def _notes(recipe: Recipe) -> str:
    """What stands beside a recipe of the zoo; nothing for one that was changed."""
    path = assets.recipes().get(recipe.name)
    if path is None or not (notes := path.with_name("notes.md")).is_file() or recipes.load(path).hash != recipe.hash:
        return ""
    return notes.read_text(encoding="utf-8").strip()


def _card(name: str, dataset: str) -> Card | None:
    """The card of a run's data: one that is named by its path is read there, while it is there."""
    if name.endswith(".toml"):
        return read_card(name) if Path(name).expanduser().is_file() else None
    return cards().get(dataset)
