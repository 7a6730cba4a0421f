"""`[[stochastic]]` in recipes: what does not fit is refused before anything is loaded; others are as they were."""

import pytest

from tinyrobust import recipe
from tinyrobust.errors import RecipeError
from tinyrobust.pipeline import plan, reads

_ZOO = ("digits-sq", "mnist-sq-lenet5", "cifar10-sq-ensemble", "resisc45-sq")


@pytest.mark.parametrize("name", _ZOO)
def test_it_reads_back_and_decides_the_hash(name):
    found = recipe.load(name)
    assert recipe.Recipe.model_validate_json(found.model_dump_json(by_alias=True)) == found
    assert {one.place for one in found.stochastic} >= {"input", "features"}
    assert found.members == 4
    assert recipe.load(name, ["stochastic.0.alpha=5.0"]).hash != found.hash
    other = recipe.load(name, ["robustness.members=9"])
    assert other.members == 9
    assert reads.train(other) == reads.train(found)  # it is trained as before
    assert reads.information(other) != reads.information(found)
    assert reads.train(recipe.load(name, ["stochastic.0.bins=5"])) != reads.train(found)


def test_without_it_nothing_is_read_otherwise():
    assert "stochastic" not in reads.train(recipe.load("digits-stq"))
    assert "information" not in {stage.name for stage in plan.until("report", recipe.load("digits-stq"))}


def test_the_alpha_of_the_papers_first_experiment():
    assert {one.alpha for one in recipe.load("mnist-sq-lenet5").stochastic} == {4.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stochastic.0.bins=1", "greater than or equal to 2"),
        ("stochastic.0.alpha=0.0", "greater than 0"),
        ("stochastic.0.alpha=1000.0", "less than or equal to 100"),
        ("stochastic.0.low=1.0", "Expected low below high. Received: low = 1, high = 1"),
        ("stochastic.0.temperature=[1.0, 0.0]", "Expected temperatures above 0"),
        ('stochastic.0.layers="stem"', "Expected layers beside place = 'blocks' only"),
        ('stochastic.0.place="output"', "'input', 'blocks' or 'features'"),
        ('stochastic.1.place="input"', r"Expected one .* for a place"),
        ("train.objective.0.members=1", "greater than or equal to 2"),
        ("train.objective.0.beta=-1.0", "greater than or equal to 0"),
        ("robustness.members=1", "greater than or equal to 2"),
        ("stochastic=[]", r"Expected \[\[stochastic\]\] beside the objective 'ensemble'"),
        ('stochastic=[{place="input"}]', "place = 'features' beside the objective 'ensemble'"),
        ('stochastic=[{place="features"}]', "otherwise all members have the same features"),
        ('train.quantization="after"', "Received: train.quantization = 'after'"),
        ('train.objective=[{kind="distillation", temperature=4.0}]', "Received: an objective with a teacher"),
        ('train.objective=[{kind="cross-entropy"}, {kind="jacobian"}]', "Received: the objective jacobian"),
        ('robustness.corruptions="corruptions"', "Received: robustness.corruptions"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(RecipeError, match=message):
        recipe.load("digits-sq", [change])


def test_features_need_not_be_binary_where_nothing_looks_at_them():
    recipe.load("digits-sq", ['stochastic=[{place="input"}]', "train.objective.0.beta=0.0"])
    recipe.load("digits-sq", ['stochastic=[{place="input"}]', 'train.objective=[{kind="adp", members=4}]'])
    with pytest.raises(RecipeError, match=r"Expected robustness\.members beside"):
        recipe.load("digits-stq", ["robustness.members=4"])


def test_adp_has_fewer_members_than_there_are_classes():
    """With as many, non-maximal predictions have a dimension less than there are members: their determinant is zero."""
    (adp,) = recipe.load("digits-sq", ['train.objective=[{kind="adp", members=10}]']).train.objectives
    adp.check_classes(11)
    with pytest.raises(ValueError, match="members = 10 for 10 classes"):
        adp.check_classes(10)


@pytest.mark.parametrize("stage", ["export", "footprint", "attack", "amplification"])
def test_what_needs_a_file_is_refused_before_anything_is_loaded(stage):
    with pytest.raises(
        RecipeError, match=rf"for the stage '{stage}'.*\(input, features\) draw at inference: it cannot be exported"
    ):
        plan.until(stage, recipe.load("digits-sq"))
    assert [one.name for one in plan.until("report", recipe.load("digits-sq"))] == ["train", "information", "report"]
