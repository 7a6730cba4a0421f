"""The front ends: one file each, named by its table in `tinyrobust.recipe.frontend`."""
