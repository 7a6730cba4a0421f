"""Recipes: inheritance, overrides, errors that name the nearest valid key, and a hash that stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinyrobust import assets, recipe
from tinyrobust.errors import RecipeError
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.precision import Precision

_SMALL = """\
description = "a test"
seed = 3

[data]
name = "digits"
[data.augment]
crop = 1

[network]
kind = "stqnet"

[[precision.rule]]
layers = "stem|logits"
weights = "fixed-point"
[[precision.rule]]
layers = ".*"
weights = "ternary"

[train]
epochs = 5
learning_rate = 1e-3
[[train.objective]]
kind = "distillation"
temperature = 20
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A recipe of a user's own, outside the zoo."""
    path = tmp_path / "mine" / "recipe.toml"
    path.parent.mkdir()
    path.write_text(_SMALL)
    return path


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", assets.recipes())
def test_every_recipe_of_the_zoo_loads(name):
    loaded = recipe.load(name)
    assert loaded.name == name
    assert loaded.description


def test_a_file_and_its_folder_are_the_same_recipe(small):
    assert recipe.load(small) == recipe.load(small.parent) == recipe.load(str(small))
    assert recipe.load(small).name == "mine"


def test_a_recipe_in_the_folder_where_one_stands_is_called_after_the_folder(small, monkeypatch):
    monkeypatch.chdir(small.parent)
    assert recipe.load("recipe.toml").name == recipe.load(".").name == "mine"


def test_a_file_of_another_name_names_the_recipe(small):
    assert recipe.load(small.rename(small.with_name("other.toml"))).name == "other"


# Inheritance


def test_extends_a_recipe_of_the_zoo(tmp_path):
    child = recipe.load(_write(tmp_path / "child.toml", 'extends = "digits-stq"\n[train]\nepochs = 2\n'))
    parent = recipe.load("digits-stq")
    assert child.train.epochs == 2
    assert child.train.model_copy(update={"epochs": parent.train.epochs}) == parent.train
    assert child.precision == parent.precision
    assert child.name == "child"


def test_extends_a_path_beside_it(small):
    child = _write(small.parent / "child.toml", 'extends = "recipe.toml"\nseed = 4\n')
    assert recipe.load(child).seed == 4
    assert recipe.load(child).train == recipe.load(small).train


def test_tables_are_merged_and_arrays_replaced(small):
    rule = '[[precision.rule]]\nlayers = ".*"\nweights = "binary"\n'
    text = f'extends = "recipe.toml"\n[train]\nepochs = 9\n[data.augment]\nflip = true\n{rule}'
    child = recipe.load(_write(small.parent / "child.toml", text))
    assert (child.train.epochs, child.train.learning_rate, child.data.augment.flip) == (9, 1e-3, True)
    assert child.train.objectives == recipe.load(small).train.objectives
    assert child.precision.formats == ("binary",)


def test_what_a_child_does_without(small):
    text = 'extends = "recipe.toml"\nwithout = ["train.objective", "seed"]\n'
    child, parent = recipe.load(_write(small.parent / "child.toml", text)), recipe.load(small)
    assert (parent.train.distillation.temperature, child.train.distillation) == (20, None)
    assert (parent.seed, child.seed) == (3, 7)
    anew = recipe.load(
        _write(small.parent / "anew.toml", text + '[[train.objective]]\nkind = "distillation"\ntemperature = 5\n')
    )
    assert anew.train.distillation.temperature == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'extends = "recipe.toml"\nwithout = ["train.objectve"]',
            "keys of the recipe that it extends. Received: 'train.obj",
        ),
        ('extends = "recipe.toml"\nwithout = ["seed.x"]', "keys of the recipe that it extends. Received: 'seed.x'"),
        ('extends = "recipe.toml"\nwithout = "seed"', "Expected without = .*Received: 'seed'"),
        ('without = ["seed"]', "Expected without = .*Received: "),
    ],
)
def test_without_what_is_not_there(small, text, message):
    with pytest.raises(RecipeError, match=message):
        recipe.load(_write(small.parent / "child.toml", text))


def test_a_circle_is_named(tmp_path):
    _write(tmp_path / "a.toml", 'extends = "b.toml"')
    _write(tmp_path / "b.toml", 'extends = "c/recipe.toml"')
    _write(tmp_path / "c" / "recipe.toml", 'extends = "../a.toml"')
    with pytest.raises(RecipeError, match="circle: a -> b -> c -> a"):
        recipe.load(tmp_path / "a.toml")


def test_a_parent_that_is_not_there(tmp_path):
    with pytest.raises(RecipeError, match=r"no recipe 'digits-stk'.*Did you mean 'digits-stq'"):
        recipe.load(_write(tmp_path / "a.toml", 'extends = "digits-stk"'))


# Overrides


@pytest.mark.parametrize(
    ("override", "value"),
    [
        pytest.param("train.epochs=3", lambda r: r.train.epochs == 3, id="integer"),
        pytest.param("train.learning_rate=2e-3", lambda r: r.train.learning_rate == 2e-3, id="float"),
        pytest.param("train.learning_rate=1", lambda r: r.train.learning_rate == 1, id="integer-for-float"),
        pytest.param("data.augment.flip=true", lambda r: r.data.augment.flip is True, id="boolean"),
        pytest.param("data.color=rgb", lambda r: r.data.color == "rgb", id="bare-text"),
        pytest.param('data.color="rgb"', lambda r: r.data.color == "rgb", id="quoted-text"),
        pytest.param(" data.name = my=data.npz ", lambda r: r.data.name == "my=data.npz", id="spaces-and-equals"),
        pytest.param("footprint.boards=['a', 'b']", lambda r: r.footprint.boards == ("a", "b"), id="list"),
        pytest.param("precision.rule.0.bits=4", lambda r: r.precision.rules[0].weights.bits == 4, id="index"),
        pytest.param(
            "precision.rule.-1.weights=binary", lambda r: r.precision.rules[1].weights.kind == "binary", id="index-from-the-end"
        ),
        pytest.param(
            'precision.rule.1.weights={kind="stochastic-ternary", fractions=[0.25, 0.5, 0.75, 1]}',
            lambda r: r.precision.phases[0] == (0.0, 0.25),
            id="table",
        ),
        pytest.param("export.agreement=0.5", lambda r: r.export.agreement == 0.5, id="table-the-file-lacks"),
    ],
)
def test_an_override(small, override, value):
    assert value(recipe.load(small, [override]))


def test_overrides_are_applied_in_order_after_inheritance(small):
    child = _write(small.parent / "child.toml", 'extends = "recipe.toml"\nseed = 4\n')
    assert recipe.load(child, ["seed=5", "seed=6"]).seed == 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("train.epochs", "Expected --set KEY=VALUE.*Received: 'train.epochs'", id="no-value"),
        pytest.param("=3", "Expected --set KEY=VALUE", id="no-key"),
        pytest.param("train.epochs.x=3", "'train.epochs.x' is not a key that can be set", id="below-a-number"),
        pytest.param("precision.rule.7.bits=3", "'precision.rule.7.bits' is not a key", id="index-that-is-not-there"),
        pytest.param("precision.rule.first.bits=3", "'precision.rule.first.bits' is not a key", id="index-that-is-no-number"),
        pytest.param("train.epoch=3", "train.epoch: there is no such key. Did you mean 'epochs'", id="misspelt"),
        pytest.param("trian.epochs=3", "trian: there is no such key. Did you mean 'train'", id="misspelt-table"),
        pytest.param("train.epochs=three", "train.epochs: .*integer.*Received: 'three'", id="wrong-type"),
        pytest.param("name=mine", "'name' is not a key of a recipe", id="name"),
    ],
)
def test_an_override_that_does_not_fit(small, override, message):
    with pytest.raises(RecipeError, match=message):
        recipe.load(small, [override])


# Errors


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("seed = 3", "sede = 3", "sede: there is no such key. Did you mean 'seed'", id="top"),
        pytest.param("[data.augment]\ncrop", "[data.augment]\ncorp", "data.augment.corp: .*Did you mean 'crop'", id="nested"),
        pytest.param('weights = "ternary"', 'wieghts = "ternary"', "rule.1.wieghts: .*Did you mean 'weights'", id="rule"),
        pytest.param(
            "temperature = 20", "temprature = 20", "objective.0.distillation.temprature: .*mean 'temperature'", id="objective"
        ),
        pytest.param("epochs = 5", 'epochs = "5"', "train.epochs: .*valid integer. Received: '5'", id="text-for-number"),
        pytest.param("epochs = 5", "epochs = true", "train.epochs: .*valid integer. Received: True", id="boolean-for-number"),
        pytest.param("epochs = 5", "epochs = 5.0", "train.epochs: .*valid integer. Received: 5.0", id="float-for-integer"),
        pytest.param("epochs = 5", "epochs = 0", "train: Expected at least one epoch.*Received: epochs = 0", id="too-small"),
        pytest.param("learning_rate = 1e-3", "learning_rate = inf", "learning_rate: .*finite", id="infinite"),
        pytest.param('name = "digits"', "name = 7", "data.name: .*valid string. Received: 7", id="number-for-text"),
        pytest.param('"ternary"', '"trinary"', "rule.1.weights: .*kind 'trinary'. Did you mean 'ternary'", id="unknown-format"),
        pytest.param('"stem|logits"', '"stem("', "precision.rule.0.layers: .*Expected a regular expression", id="bad-regex"),
        pytest.param("epochs = 5", "", "train.epochs: is missing", id="missing-key"),
        pytest.param('[data]\nname = "digits"', "[data]", "data.name: is missing", id="missing-nested-key"),
        pytest.param("seed = 3", 'seed = 3\nname = "x"', "'name' is not a key of a recipe: its folder names it", id="name"),
        pytest.param("seed = 3", "seed 3", "recipe.toml cannot be read as TOML: .*line 2", id="not-toml"),
        pytest.param(
            '"ternary"',
            '{kind = "stochastic-ternary", starts = [0.0, 0.5]}',
            "as many starts as fractions",
            id="too-few-starts",
        ),
        pytest.param(
            '"ternary"',
            '{kind = "stochastic-ternary", starts = [0.0, 0.5, 0.5, 0.8]}',
            "starts that rise from 0",
            id="starts-that-do-not-rise",
        ),
        pytest.param(
            '"ternary"',
            '{kind = "stochastic-ternary", fractions = [0.0, 0.5, 0.6, 0.8]}',
            "fractions that rise to 1",
            id="fractions-that-end-early",
        ),
        pytest.param(
            "[train]", "[robustness]\nheadline = 0.5\n[train]", "a headline among the epsilons", id="headline-not-measured"
        ),
    ],
)
def test_what_does_not_fit_is_said(small, old, new, message):
    assert old in _SMALL
    small.write_text(_SMALL.replace(old, new))
    with pytest.raises(RecipeError, match=message):
        recipe.load(small)


def test_every_problem_is_listed_at_once(small):
    small.write_text(_SMALL.replace("epochs = 5", "epochs = -1").replace("seed = 3", "sede = 3"))
    with pytest.raises(RecipeError) as caught:
        recipe.load(small)
    assert "sede" in caught.value.message
    assert "train.epochs" in caught.value.message
    assert str(small) in caught.value.message


def test_an_array_is_not_called_empty_where_its_members_do_not_fit(small):
    small.write_text(_SMALL.replace("temperature = 20", "temprature = 20"))
    with pytest.raises(RecipeError) as caught:
        recipe.load(small)
    assert "at least 1 item" not in caught.value.message


def test_the_name_is_not_proposed_as_a_key(small):
    small.write_text(_SMALL.replace("seed = 3", "nam = 3"))
    with pytest.raises(RecipeError) as caught:
        recipe.load(small)
    assert "Did you mean 'name'" not in caught.value.message


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read as TOML"):
        recipe.load(path)


@pytest.mark.parametrize(
    ("asked", "nearest"), [("digits-stqt", "digits-stq"), ("digit-stq", "digits-stq"), ("digits", "digits-sq")]
)
def test_an_unknown_recipe_names_the_nearest(asked, nearest):
    with pytest.raises(RecipeError, match=f"no recipe '{asked}'.*Did you mean '{nearest}'"):
        recipe.load(asked)


def test_a_folder_without_a_recipe(tmp_path):
    with pytest.raises(RecipeError, match="There is no recipe"):
        recipe.load(tmp_path)


# The resolved form


def test_the_resolved_form_reads_back_to_an_equal_recipe(small, tmp_path):
    for source in (small, "digits-stq", "cifar10-stq"):
        loaded = recipe.load(source, ["robustness.samples=77"])
        again = recipe.load(_write(tmp_path / loaded.name / "recipe.toml", loaded.to_toml()))
        assert again == loaded
        assert again.hash == loaded.hash


def test_the_hash_is_the_same_in_every_process(small):
    script = "import sys; from tinyrobust import recipe; print(recipe.load(sys.argv[1]).hash)"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script, small],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2", "random")
    }
    assert hashes == {recipe.load(small).hash}


def test_the_hash_does_not_depend_on_the_order_of_keys(small, tmp_path):
    tables = _SMALL.split("\n\n")
    shuffled = "seed = 3\n\n" + "\n\n".join(reversed(tables[1:]))
    assert recipe.load(_write(tmp_path / "b.toml", shuffled)).hash == recipe.load(small).hash


def test_name_and_description_do_not_change_the_hash(small):
    before = recipe.load(small)
    small.write_text(_SMALL.replace("a test", "another text"))
    after = recipe.load(small.rename(small.with_name("renamed.toml")))
    assert after.hash == before.hash
    assert (before.run_name, after.run_name) == (f"mine-{before.hash[:8]}", f"renamed-{before.hash[:8]}")


@pytest.mark.parametrize(
    "override",
    [
        "seed=4",
        "data.color=rgb",
        "data.validation=0.2",
        "data.augment.crop=2",
        "network.width=0.9",
        "precision.rule.0.bits=7",
        "precision.rule.1.weights=binary",
        "train.epochs=6",
        "train.ema=0.5",
        "train.swa=0.5",
        "train.objective.0.temperature=21",
        "train.objective.0.teacher_width=2.0",
        "train.objective.0.teachers=2",
        "train.objective.0.weight=2.0",
        "precision.rule.1.weights={kind='stochastic-ternary', starts=[0.0, 0.1, 0.2, 0.3]}",
        "export.agreement=0.9",
        "robustness.samples=201",
        "footprint.boards=['nucleo']",
    ],
)
def test_everything_else_changes_the_hash(small, override):
    assert recipe.load(small, [override]).hash != recipe.load(small).hash


def test_the_order_of_rules_changes_the_hash(small):
    loaded = recipe.load(small)
    assert loaded.model_copy(update={"precision": Precision(rule=loaded.precision.rules[::-1])}).hash != loaded.hash


def test_a_recipe_is_frozen(small):
    loaded: Recipe = recipe.load(small)
    with pytest.raises(ValueError, match="frozen"):
        loaded.seed = 5
