"""Training objectives: terms that see a batch and return a scalar. They add up, each with a weight and a curve in the history.

One a file, written in `keras.ops`, so that they run on every backend; their tables are in `recipe/objectives.py`.
"""

from tinyrobust.training.objectives.base import Batch, Objective, Supplies, build_objectives

__all__ = ["Batch", "Objective", "Supplies", "build_objectives"]
