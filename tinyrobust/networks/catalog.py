"""The networks by name. To add one: write it in a file of its own and enter it here."""

from collections.abc import Callable

import keras

from tinyrobust.networks.dscnn import dscnn
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.networks.stqnet import stqnet
from tinyrobust.recipe import Recipe

Builder = Callable[[tuple[int, int, int], int, float, LayerFactory], keras.Model]

NETWORKS: dict[str, Builder] = {"dscnn": dscnn, "stqnet": stqnet}


def build(recipe: Recipe, input_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """The untrained network of a recipe, [n, *input_shape] in [0, 1] -> logits [n, classes].

    Raises:
        RecipeError: A precision rule gives no layer its precision.
    """
    layers = LayerFactory(recipe.precision, recipe.seed)
    model = NETWORKS[recipe.network.kind](input_shape, classes, recipe.network.width, layers)
    layers.check_every_rule_is_used()
    return model
