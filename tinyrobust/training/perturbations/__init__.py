"""Perturbations in training: inputs changed against the network, by one loop with hooks.

Written in `keras.ops`, so that they run on every backend; their tables are in `recipe/perturbation.py`.
"""

from tinyrobust.training.perturbations.base import Perturbation, build

__all__ = ["Perturbation", "build"]
