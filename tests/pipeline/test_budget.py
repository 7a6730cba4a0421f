"""A run with a bit budget: float network, search, training in the chosen precision, and bytes as foretold."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import pytest

import tinyrobust
from tinyrobust import recipe as recipes
from tinyrobust.errors import RecipeError
from tinyrobust.pipeline import plan
from tinyrobust.pipeline.plan import signatures
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.training.precision_record import PRECISION, PrecisionRecord

_RECIPE = """
[data]
name = "digits"
train_samples = 500
test_samples = 120
[network]
kind = "stqnet"
width = 0.25
[precision]
budget = "24 KiB"
[precision.search]
candidates = ["ternary", { kind = "fixed-point", bits = 4 }, { kind = "fixed-point", bits = 8 }]
images = 128
[[precision.rule]]
layers = "stem"
weights = "binary"
[[precision.rule]]
layers = ".*"
[train]
epochs = 4
batch_size = 32
learning_rate = 1e-2
[export]
accuracy_drop = 10.0
agreement = 0.8
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipes") / "budget.toml"
    path.write_text(_RECIPE)
    return path


@pytest.fixture(scope="module")
def run(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tinyrobust.run(recipe, runs_dir=tmp_path_factory.mktemp("runs"), until="footprint")


def test_the_file_has_the_bytes_that_were_foretold(run: Any) -> None:
    """Packed weights, and a bias and a scale of four bytes each for every output channel."""
    record, footprint = PrecisionRecord.load(run.path / PRECISION), run.footprint
    assert record.weight_bytes == footprint.weights_packed.value
    assert record.total == footprint.weights_packed.value + 2 * footprint.bias.value
    assert 0.97 * record.budget <= record.total <= record.budget == 24 * 1024


def test_the_network_has_the_chosen_formats(run: Any) -> None:
    record = PrecisionRecord.load(run.path / PRECISION)
    network = keras.models.load_model(run.path / "model.keras", compile=False)
    bits = {layer.name: layer.weight_quantizer.storage.bits for layer in weight_layers(network)}
    assert bits == {one.layer: one.format.storage.bits for one in record.layers}
    assert bits["stem"] == 1
    assert len(set(bits.values())) >= 3
    assert list(run.record.stages) == ["float", "precision", "train", "export", "footprint"]


def test_the_recipe_says_nothing_of_the_choice(run: Any, recipe: Path) -> None:
    assert run.recipe.hash == recipes.load(recipe).hash
    assert run.recipe.precision.weights("block1") is None
    assert recipes.load(recipe, ["precision.budget=24576"]).hash == run.recipe.hash


def test_a_search_that_is_done_again_and_chooses_the_same_trains_nothing(run: Any, recipe: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.path, tmp_path / "runs" / run.path.name))
    before = (copy / PRECISION).read_bytes()
    (copy / PRECISION).unlink()
    told: list[str] = []
    tinyrobust.run(recipe, runs_dir=copy.parent, until="footprint", progress=lambda label, *_: told.append(label))
    assert (copy / PRECISION).read_bytes() == before
    assert [label for label in told if label.endswith(": complete")] == [
        f"{name}: complete" for name in ("float", "train", "export", "footprint")
    ]
    assert f"precision: {PrecisionRecord.load(copy / PRECISION).total} B, " in " ".join(told)


def test_another_choice_is_trained_again(run: Any) -> None:
    record = run.record
    other = record.stages["precision"].model_copy(update={"files": {PRECISION: "0" * 64}})
    changed = record.model_copy(update={"stages": {**record.stages, "precision": other}})
    needed = [stage for stage in plan.STAGES if stage.needed(run.recipe)]
    stale = {stage.name for stage in needed if stage.key(run.recipe, record) != stage.key(run.recipe, changed)}
    assert stale == {"train", "report"}


def test_training_goes_on_from_the_float_network_where_it_is_asked_to(run: Any, recipe: Path) -> None:
    warm = tinyrobust.run(
        recipe, overrides=['train.start={kind="float-network", epochs=4}'], runs_dir=run.path.parent, until="train"
    )
    assert [stage.taken_from for stage in warm.record.stages.values()] == [run.path.name, run.path.name, ""]
    assert warm.history[0]["loss"] < 0.7 * run.history[0]["loss"]


def test_budgets_share_the_float_network(recipe: Path) -> None:
    small, large = (signatures(recipes.load(recipe, [f"precision.budget={budget}K"])) for budget in (24, 32))
    assert small["float"] == large["float"]
    assert small["precision"] != large["precision"]
    assert small["train"] != large["train"]


def test_a_budget_that_cannot_be_met_is_refused_before_anything_trains(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"precision.budget of at least \d+ B.*Received: 8192 B"):
        tinyrobust.run(recipe, overrides=["precision.budget=8K"], runs_dir=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "run.json").read_text())["stages"] == {}
    assert not list(folder.glob("**/*.keras"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["precision.budget=many"], "precision.budget: Expected a size such as 64K. Received: 'many'"),
        (["precision.rule.1.weights=ternary"], "Expected a .*rule.* without weights beside a budget"),
        (["precision.rule.0.layers=stemm"], "Precision rule 1 .*'stemm'.* matches no layer"),
        (["precision.search.candidates=['trenary']"], "There is no kind 'trenary'. Did you mean 'ternary'"),
        (["precision.search.candidates=['ternary', 'ternary']"], "Expected candidates that differ"),
        (["precision.search.candidates=[]"], "at least 1 item"),
        (["precision.search.perturbation={kind='fgsm', epsilon=0.1}"], "Expected a perturbation only beside measure"),
        (
            ["precision.search.measure=noise", "precision.search.perturbation={kind='snr'}"],
            "of the network's input. Received: snr",
        ),
    ],
)
def test_what_does_not_fit_is_said(recipe: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        tinyrobust.run(recipe, overrides=overrides, runs_dir=tmp_path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["precision.rule=[{layers='.*'}]"], "Expected weights in every .*rule.*, or a budget. Received: none for '.*'"),
        (["precision.search.images=8"], "Expected a budget beside .*search"),
    ],
)
def test_without_a_budget_every_rule_names_its_weights(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipes.load("digits-stq", overrides)
