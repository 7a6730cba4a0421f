"""Fits a network: data, objectives and callbacks come together here."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras

from tinyrobust.data.arrays import Dataset
from tinyrobust.data.batches import Batches, InOrder
from tinyrobust.files import atomic_path
from tinyrobust.progress import Progress
from tinyrobust.recipe import Recipe
from tinyrobust.training.callbacks import Recorder, Reporter, StochasticSchedule, StopOnBadLoss, ValidateAverage
from tinyrobust.training.feed import feed
from tinyrobust.training.learner import Learner, compiled
from tinyrobust.training.objectives import Objective


@dataclass(frozen=True)
class FitFiles:
    """Where a fit leaves its files: `model` last, so that its presence means the fit is complete."""

    stage: str
    model: Path
    history: Path
    checkpoints: Path

    @classmethod
    def in_folder(cls, folder: Path, stage: str) -> "FitFiles":
        """The student's files have plain names, those of another stage carry its name."""
        prefix = "" if stage == "train" else f"{stage}_"
        return cls(stage, folder / f"{prefix}model.keras", folder / f"{prefix}history.jsonl", folder / "checkpoints")


def seed_everything(seed: int) -> None:
    """Makes weights, orders and kernels repeatable: seeds Python, NumPy and the backend, and asks for deterministic kernels."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf  # here: training under JAX runs without TensorFlow

        tf.config.experimental.enable_op_determinism()


def fit(
    network: keras.Model,
    objectives: Sequence[Objective],
    dataset: Dataset,
    recipe: Recipe,
    files: FitFiles,
    *,
    epochs: int | None = None,
    front: keras.layers.Layer | None = None,
    progress: Progress | None = None,
) -> keras.Model:
    """Trains `network` by the recipe, going on from the newest checkpoint if there is one.

    Args:
        network: As built, untrained.
        objectives: What is minimised.
        dataset: Training images are augmented as the recipe says; validation images are only watched.
        recipe: Settings of `[train]`, `[data.augment]` and the seed.
        files: Where history, checkpoints and the final model go.
        epochs: Instead of the recipe's.
        front: Learn on the sound of a data set of speech, through this front end; validation is on features all the same.
        progress: Called with a label, steps done and all steps.

    Returns:
        The trained network (the average of the latent weights where the recipe asks for one), also saved as `files.model`.

    Raises:
        TrainingError: The loss is not finite.
        RunFolderError: The checkpoint or history to go on from is damaged, or files cannot be written.
    """
    settings = recipe.train
    epochs = epochs or settings.epochs
    batches = _batches(dataset, recipe, sound=front is not None)
    steps = len(batches)
    learner = compiled(network, objectives, settings, steps * epochs, _kind(front))
    schedule = StochasticSchedule(settings.stochastic, steps, epochs)
    recorder = Recorder(files.history, files.checkpoints, files.stage, schedule)
    done = recorder.resume(learner)
    callbacks: list[keras.callbacks.Callback] = [batches.clock(), schedule]
    if settings.ema:
        # The averaged weights are swapped in while validating, and for good when the fit ends.
        callbacks.append(ValidateAverage())
    callbacks += [StopOnBadLoss(recorder), recorder]
    if progress:
        callbacks.append(Reporter(progress, files.stage, steps, epochs))
    learner.fit(
        feed(batches),
        validation_data=feed(InOrder(dataset.validation, batch_size=256)),
        initial_epoch=done,
        epochs=epochs,
        shuffle=False,
        callbacks=callbacks,
        verbose=0,
    )
    with atomic_path(files.model) as path:
        network.save(path)
    return network


def _kind(front: keras.layers.Layer | None) -> Any:
    if front is None:
        return Learner
    from tinyrobust.training.sound import HearingLearner  # here, and below: sound needs librosa, which images do not

    return partial(HearingLearner, front=front)


def _batches(dataset: Dataset, recipe: Recipe, *, sound: bool) -> Batches:
    size, speech = recipe.train.batch_size, recipe.data.speech
    if sound and dataset.speech and speech:
        from tinyrobust.data.speech.batches import SoundBatches

        return SoundBatches(dataset.train, dataset.speech.recordings, speech.augment, size, recipe.seed)
    return Batches(dataset.train, recipe.data.augment, size, recipe.seed, copies=dataset.copies)
