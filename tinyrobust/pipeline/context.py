"""What the stages of a run work on."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Dataset
from tinyrobust.errors import MissingToolError
from tinyrobust.networks.catalog import build
from tinyrobust.pipeline.folder import RunFolder
from tinyrobust.progress import Progress
from tinyrobust.recipe import Recipe
from tinyrobust.training.fit import FitFiles

SEEN = "validation images first, then training images; none from the test set"


@dataclass(frozen=True)
class Context:
    """What a stage works on, and over how many processes the attacks are spread."""

    folder: RunFolder
    dataset: Dataset
    progress: Progress
    jobs: int = 1

    @property
    def recipe(self) -> Recipe:
        """The run's resolved recipe."""
        return self.folder.recipe

    @property
    def learned(self) -> Dataset:
        """The data with the fraction of the training images that the network learns from; its teachers learn from all."""
        return self.dataset.with_fraction(self.recipe.train.fraction, self.recipe.seed)

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    def network(self, recipe: Recipe) -> keras.Model:
        """The untrained network of `recipe` for this data set."""
        return build(recipe, self.dataset.input_shape, len(self.dataset.classes))

    def trained(self, stage: str) -> keras.Model:
        """The network that the stage `teacher`, `float` or `train` left."""
        return keras.models.load_model(FitFiles.in_folder(self.path, stage).model, compile=False)


def seen_images(dataset: Dataset, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first `count` of validation and then training images: never the test set, which is looked at once, later."""
    first = (dataset.validation, dataset.train)
    x = np.concatenate([split.x[:count] for split in first])
    y = np.concatenate([split.y[:count] for split in first])
    return x[:count], y[:count]


def need_tensorflow() -> None:
    """Says that what comes after training needs Keras on TensorFlow.

    Raises:
        MissingToolError: It runs on another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise MissingToolError(
            f"Expected Keras on TensorFlow for everything after training. Received: backend {keras.backend.backend()!r}.",
            hint="Run the same command with KERAS_BACKEND=tensorflow: the trained network is kept, the run goes on with it.",
        )
