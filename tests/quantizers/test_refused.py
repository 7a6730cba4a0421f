"""Formats that there are not: refused when the recipe is read, with what can be done."""

import pytest

from tinyrobust import recipe
from tinyrobust.errors import RecipeError


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('weights={kind="fixed-point", bits=1}', r'weights of one bit are weights = "binary"'),
        ('weights={kind="fixed-point", bits=9}', "less than or equal to 8"),
        ('weights={kind="lsq", bits=0}', "greater than or equal to 1"),
        ('weights="dorefa", bits=9', "less than or equal to 8"),
        ('weights="ternary", bits=2', "Expected bits only beside fixed-point, dorefa, lsq"),
        ('weights="ternary", activations={kind="lsq", bits=9}', "less than or equal to 8"),
        ('weights="ternary", activations={kind="dorefa", start=1.0}', "start"),
        ('weights="ternary", activations={kind="lsq", start=0.0}', "greater than 0"),
        ('weights={kind="fixed-point", group="layer"}', "group"),
        ('weights={kind="float", group="layer"}', "group"),
        ('weights={kind="ternary", group="kernel"}', "'channel' or 'layer'"),
        ('weights={kind="stochastic-ternary", selection="cubic"}', "'constant', 'linear', 'softmax' or 'sigmoid'"),
        ('weights={kind="stochastic-ternary", unit="layer", selection="softmax"}', "there is nothing to select"),
        ('weights={kind="stochastic-binary", temperature=0.0}', "greater than 0"),
        ('weights="stochastic-trinary"', "stochastic-ternary"),
        ('weights="ternary", activations="lsqq"', "lsq"),
    ],
)
def test_a_format_that_is_not_there_is_refused(keys, message):
    with pytest.raises(RecipeError, match=message):
        recipe.load("digits-stq", [f'precision.rule=[{{layers=".*", {keys}}}]'])
