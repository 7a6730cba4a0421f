"""A recipe's network: its table names the builder, its rules give the layers their precision."""

import keras

from tinyrobust.networks.precision import LayerFactory
from tinyrobust.networks.stochastic import with_quantizers
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.network import Shape


def build(recipe: Recipe, input_shape: Shape, classes: int) -> keras.Model:
    """The untrained network of a recipe, [n, *input_shape] in [0, 1] -> logits [n, classes].

    Raises:
        RecipeError: A precision rule gives no layer its precision, or a stochastic quantizer has no place.
    """
    layers = LayerFactory(recipe.precision, recipe.seed)
    model = recipe.network.build(input_shape, classes, layers)
    layers.check_every_rule_is_used()
    return with_quantizers(model, recipe.stochastic, recipe.seed) if recipe.stochastic else model
