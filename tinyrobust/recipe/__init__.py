"""The recipe: one TOML file that says everything about a run, validated, resolved and hashed. One table a file."""

from tinyrobust.recipe.load import find, load
from tinyrobust.recipe.resolved import Recipe

__all__ = ["Recipe", "find", "load"]
