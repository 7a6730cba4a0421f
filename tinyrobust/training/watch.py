"""Robust accuracy on validation images after every epoch: the best epoch is kept, and a collapse is undone."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
from keras import ops
from pydantic import JsonValue

from tinyrobust.data.arrays import Split, scale
from tinyrobust.errors import RunFolderError
from tinyrobust.gradients import Tensor, value_and_gradient
from tinyrobust.recipe import watch as tables
from tinyrobust.training import checkpoints
from tinyrobust.training.objectives import Batch
from tinyrobust.training.perturbations import Perturbation
from tinyrobust.training.perturbations.base import cross_entropies
from tinyrobust.training.remarks import BEST, GAIN, ROBUST, ROLLBACKS, ZERO, rolled_back

_BATCH = 128
# A fall by so much is none of a few images: early in training robust accuracy is that of chance, or below.
_CLEARLY = 0.1
_Rows = Sequence[Mapping[str, JsonValue]]


class Watch(keras.callbacks.Callback):
    """Attacks the network after every epoch, as it is validated (with averaged weights where there are such).

    The history gets, for the watched validation images: `val_robust_accuracy`, the share that is right on its examples;
    `val_attack_gain`, by how much the mean cross-entropy is higher on them than on the images; `val_zero_gradients`, the share
    of images whose loss has a gradient of zero everywhere; and `best_epoch`, the first with the highest robust accuracy. The
    random draws are the same after every epoch.

    *Catastrophic overfitting* (Wong et al. 2020, section 5.4) is noticed where robust accuracy is below `collapse` times the
    best so far, and ten points below it, while the training loss fell from the epoch that it went on from: the one before, or
    the best where training has just gone back. Weights and optimizer go back to what they were after the best epoch. Training
    goes on from there with the next epoch: its order of data, its learning rate. `rollbacks` counts it. After the last that is
    allowed, a collapse ends the training, with the weights of the best epoch.

    All is decided from the history and one more checkpoint, that of the best epoch, so a resumed training is the uninterrupted
    one.

    Args:
        attacked: The network under attack.
        images: Validation images, of which the first are watched.
        table: `[train.watch]`.
        best: Where the checkpoint of the best epoch is.
        rows: The rows of the history so far: those of epochs before an interruption, too.
    """

    def __init__(self, attacked: "Attacked", images: Split, table: tables.Watch, best: Path, rows: _Rows) -> None:
        super().__init__()
        self._attacked, self._x, self._y = attacked, scale(images.x[: table.samples]), images.y[: table.samples]
        self._table, self._best, self._rows = table, best, rows
        self._found: dict[str, float] = {}

    @property
    def ended(self) -> bool:
        """Whether the training has collapsed once more often than it may go back."""
        return bool(self._rows) and _number(self._rows[-1], ROLLBACKS) > self._table.rollbacks

    def on_test_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Attacks the network; before the average is taken out again."""
        del logs
        assert self.model is not None  # brings the state back into the variables under JAX
        self._found = self._attacked.measure(self._x, self._y)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds to the row of the epoch, before it is written, and goes back where the network has collapsed."""
        assert logs is not None
        best, robust = best_epoch(self._rows), self._found[ROBUST]
        rollbacks = _number(self._rows[-1], ROLLBACKS) if self._rows else 0.0
        if best and self._collapsed(robust, float(logs["loss"]), best):
            rollbacks += 1
            self._go_back()
            self.model.stop_training = rollbacks > self._table.rollbacks
        elif not best or robust > _number(self._rows[best - 1], ROBUST):
            best = epoch + 1
            checkpoints.save(self.model, self._best)
        logs |= {**self._found, BEST: best, ROLLBACKS: rollbacks}

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Brings back the best epoch: its average, where the optimizer keeps one, as Keras leaves that of the last."""
        del logs
        if self._table.keep == "best" and self._rows and best_epoch(self._rows) < len(self._rows):
            self._load()
            self.model.optimizer.finalize_variable_values(self.model.trainable_weights)

    def _collapsed(self, robust: float, loss: float, best: int) -> bool:
        highest = _number(self._rows[best - 1], ROBUST)
        fell = robust < self._table.collapse * highest and robust <= highest - _CLEARLY
        has_gone_back = rolled_back([_number(row, ROLLBACKS) for row in self._rows], len(self._rows) - 1)
        return fell and loss < _number(self._rows[best - 1 if has_gone_back else -1], "loss")

    def _go_back(self) -> None:
        """To the best epoch, in all but the learning rate: the schedule goes on to its end."""
        steps = int(ops.convert_to_numpy(self.model.optimizer.iterations))
        self._load()
        self.model.optimizer.iterations.assign(steps)

    def _load(self) -> None:
        try:
            checkpoints.load(self.model, self._best)
        except RunFolderError as error:
            raise RunFolderError(
                f"Cannot go back to the best epoch: {error.message}",
                hint=f"Delete the folder {self._best.parent} and run the same command again: training starts anew.",
            ) from error


class Attacked(keras.Model):
    """A network whose answers are to examples made against it; `measure` uses Keras' compiled `evaluate`, on every backend.

    Args:
        network: Not changed.
        perturbation: Makes the examples.
    """

    def __init__(self, network: keras.Model, perturbation: Perturbation) -> None:
        super().__init__(name="attacked")
        self.network = network
        self._perturbation = perturbation
        self._draws = perturbation.seed_generator  # Keras must know it: a part of the compiled step under JAX
        self._first = ops.convert_to_numpy(self._draws.state)
        self._right = keras.metrics.SparseCategoricalAccuracy(name=ROBUST)
        self._means = {name: keras.metrics.Mean(name=name) for name in (GAIN, ZERO)}
        self.compile(jit_compile=keras.backend.backend() == "jax")

    def measure(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """The history's names and values of images [n, ...] in [0, 1] and class indices [n]; the same draws at every call."""
        self._draws.state.assign(self._first)
        found = self.evaluate(x, y, batch_size=_BATCH, verbose=0, return_dict=True)
        return {name: float(found[name]) for name in (ROBUST, GAIN, ZERO)}

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """The inputs: an attack needs labels, which `compute_loss` has."""
        del training
        return inputs

    def compute_loss(
        self, x: Tensor = None, y: Tensor = None, y_pred: Tensor = None, sample_weight: Tensor = None, training: bool = False
    ) -> Tensor:
        """Called by Keras: the mean cross-entropy on the examples; everything is measured here."""
        del y_pred, sample_weight, training
        batch = Batch(x, y, None, self.network, training=False)
        clean, gradient = value_and_gradient(lambda inputs: ops.sum(self._answers(batch, inputs)[0]), x)
        losses, logits = self._answers(batch, self._perturbation(batch))
        self._right.update_state(y, logits)
        count = ops.shape(x)[0]
        zero = ops.all(ops.equal(ops.reshape(gradient, (count, -1)), 0), axis=1)
        self._means[ZERO].update_state(ops.cast(zero, "float32"))
        self._means[GAIN].update_state(ops.mean(losses) - clean / ops.cast(count, clean.dtype), sample_weight=count)
        return ops.mean(losses)

    def compute_metrics(self, x: Tensor, y: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Mapping[str, Tensor]:
        """Called by Keras."""
        del x, y, y_pred, sample_weight
        found: Mapping[str, Tensor] = self.get_metrics_result()
        return found

    def _answers(self, batch: Batch, inputs: Tensor) -> tuple[Tensor, Tensor]:
        logits = batch.logits_of(inputs, training=False)
        return cross_entropies(batch.labels, logits), logits


def best_epoch(rows: _Rows) -> int:
    """The first epoch (from 1) with the highest robust accuracy; 0 before there is any."""
    return 1 + max(range(len(rows)), key=lambda number: _number(rows[number], ROBUST)) if rows else 0


def _number(row: Mapping[str, JsonValue], name: str) -> float:
    value = row[name]
    assert isinstance(value, int | float)
    return float(value)
