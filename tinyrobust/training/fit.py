"""Fits a network: data, objectives and callbacks come together here."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from tinyrobust.data.arrays import Dataset, Split
from tinyrobust.data.batches import Batches, InOrder
from tinyrobust.files import write_atomic
from tinyrobust.graphs import archive
from tinyrobust.progress import Progress
from tinyrobust.quantizers.stochastic import stochastic_layers
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.data import Augment
from tinyrobust.recipe.train import Train
from tinyrobust.training import perturbations
from tinyrobust.training.average import ValidateAverage
from tinyrobust.training.bins import StochasticBins
from tinyrobust.training.callbacks import Ramps, Recorder, Reporter, Schedules, StopOnBadLoss
from tinyrobust.training.feed import feed
from tinyrobust.training.front_end import front_end_of
from tinyrobust.training.learner import compiled
from tinyrobust.training.objectives import Objective, Supplies, build_objectives
from tinyrobust.training.objectives.attacking import Attacking
from tinyrobust.training.watch import Attacked, Watch


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


def train(
    network: Callable[[Recipe], keras.Model],
    dataset: Dataset,
    recipe: Recipe,
    files: FitFiles,
    *,
    teacher: Callable[[], keras.Model],
    progress: Progress | None = None,
) -> keras.Model:
    """Trains the network of a recipe for the recipe's objectives.

    Args:
        network: Builds the untrained network of a recipe.
        dataset: See `fit`.
        recipe: Everything in `[train]`.
        files: See `fit`.
        teacher: Loads the trained teacher; called where an objective needs one.
        progress: See `fit`.

    Returns:
        The trained network, as `fit` does.

    Raises:
        TrainingError: The loss is not finite.
        RunFolderError: The checkpoint or history to go on from is damaged, or files cannot be written.
    """
    settings = recipe.train
    supplies = Supplies(recipe.seed, settings.label_smoothing, teacher() if "teacher" in settings.needs else None)
    objectives = build_objectives(settings.objectives, supplies)
    front_end = front_end_of(dataset) if "front-end" in settings.needs else None
    kept = () if supplies.teacher is None else asked(supplies.teacher, dataset, recipe)
    return fit(network(recipe), objectives, dataset, recipe, files, front_end=front_end, teacher_logits=kept, progress=progress)


def asked(teacher: keras.Model, dataset: Dataset, recipe: Recipe) -> list[NDArray[np.float32]]:
    """What a teacher makes of all that its student will be shown: float32 [n, classes] for every copy of the training images.

    Empty where every epoch shows other images (`[data.augment]`, or sound): there it is asked in every step. Also where there
    are more copies than epochs to save.
    """
    copies = dataset.copies or (dataset.train.x,)
    changes = recipe.data.augment != Augment() or "front-end" in recipe.train.needs
    if changes or len(copies) >= recipe.train.epochs:
        return []
    batches = [InOrder(Split(copy, dataset.train.y), batch_size=256) for copy in copies]
    return [teacher.predict(feed(one), verbose=0) for one in batches]


def fit(
    network: keras.Model,
    objectives: Sequence[Objective],
    dataset: Dataset,
    recipe: Recipe,
    files: FitFiles,
    *,
    epochs: int | None = None,
    front_end: keras.Layer | None = None,
    teacher_logits: Sequence[NDArray[np.float32]] = (),
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
        front_end: Learn on the sound of a data set of speech, through this; validation is on features all the same.
        teacher_logits: What the teacher makes of the training images, see `asked`; empty: it is asked in every step.
        progress: Called with a label, steps done and all steps.

    Returns:
        The trained network (of the best epoch where the recipe watches robust accuracy, the average of the latent weights where
        it asks for one), also saved as `files.model`.

    Raises:
        TrainingError: The loss is not finite.
        RunFolderError: The checkpoint or history to go on from is damaged, or files cannot be written.
    """
    settings = recipe.train
    epochs = epochs or settings.epochs
    batches = _batches(dataset, recipe, teacher_logits, sound=front_end is not None)
    steps = len(batches)
    learner = compiled(network, objectives, settings, steps * epochs, front_end)
    schedules = Schedules(network, steps, epochs)
    recorder = Recorder(files.history, files.checkpoints, files.stage, schedules)
    done = recorder.resume(learner)
    watches = _watches(network, dataset, recipe, files, recorder)
    callbacks: list[keras.callbacks.Callback] = [batches.clock(), schedules, StopOnBadLoss(recorder)]
    callbacks += [*_ramps(objectives, steps, epochs), *_bins(network, steps, epochs), *watches]
    callbacks += [*_averages(dataset, settings, epochs), recorder]
    if progress:
        callbacks.append(Reporter(progress, files.stage, steps, epochs))
    learner.fit(
        feed(batches),
        validation_data=feed(InOrder(dataset.validation, batch_size=256)),
        initial_epoch=epochs if any(watch.ended for watch in watches) else done,
        epochs=epochs,
        shuffle=False,
        callbacks=callbacks,
        verbose=0,
    )
    archive.save(network, files.model)
    return network


def _averages(dataset: Dataset, settings: Train, epochs: int) -> list[ValidateAverage]:
    """Averaged weights are swapped in while validating, and for good when the fit ends."""
    if not settings.averages:
        return []
    first = None if settings.swa is None else min(round(settings.swa * epochs), epochs - 1)
    return [ValidateAverage(dataset.train.x, settings.batch_size, first)]


def _ramps(objectives: Sequence[Objective], steps: int, epochs: int) -> list[Ramps]:
    rising = [one.perturbation for one in objectives if isinstance(one, Attacking) and one.perturbation.ramp]
    return [Ramps(rising, steps, epochs)] if rising else []


def _bins(network: keras.Model, steps: int, epochs: int) -> list[StochasticBins]:
    return [StochasticBins(steps, epochs)] if stochastic_layers(network) else []


def _watches(network: keras.Model, dataset: Dataset, recipe: Recipe, files: FitFiles, recorder: Recorder) -> list[Watch]:
    table = recipe.train.watch
    if table is None:
        return []
    attacked = Attacked(network, perturbations.build(table.against(recipe.train.objectives), recipe.seed))
    return [Watch(attacked, dataset.validation, table, files.checkpoints / f"{files.stage}-best.npz", recorder.rows)]


def untrained(network: keras.Model, dataset: Dataset, files: FitFiles) -> None:
    """Leaves the files of a fit of a network that is trained already: its history is how well it does on validation images.

    Raises:
        RunFolderError: The files cannot be written.
    """
    began, batches, right = time.perf_counter(), InOrder(dataset.validation, batch_size=256), 0
    for images, labels in (batches[number] for number in range(len(batches))):
        right += int((network.predict_on_batch(images).argmax(axis=1) == labels).sum())
    row = {"epoch": 0, "val_accuracy": right / len(dataset.validation), "seconds": round(time.perf_counter() - began, 3)}
    write_atomic(files.history, json.dumps(row) + "\n")
    archive.save(network, files.model)


def _batches(dataset: Dataset, recipe: Recipe, teacher_logits: Sequence[NDArray[np.float32]], *, sound: bool) -> Batches:
    size, speech = recipe.train.batch_size, recipe.data.speech
    if sound and dataset.speech and speech:
        from tinyrobust.data.speech.batches import SoundBatches  # here: sound needs librosa, which images do not

        return SoundBatches(dataset.train, dataset.speech.recordings, speech.augment, size, recipe.seed)
    return Batches(dataset.train, recipe.data.augment, size, recipe.seed, copies=dataset.copies, teacher_logits=teacher_logits)
