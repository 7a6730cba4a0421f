"""What happens around `fit`: the stochastic schedule, checkpoints, history, progress, the stop on a bad loss."""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsFloat

import keras

from tinyrobust.errors import RunFolderError, TrainingError
from tinyrobust.files import write_atomic
from tinyrobust.progress import Progress
from tinyrobust.quantizers.layers import set_fraction
from tinyrobust.recipe.train import Stochastic
from tinyrobust.training import checkpoints

_Logs = Mapping[str, SupportsFloat]  # Keras' curves
_Row = dict[str, float | None]


def fraction_at(schedule: Stochastic, step: int, steps: int) -> float:
    """The fraction of channels quantized in optimizer step `step` (from 0) of `steps`."""
    started = [fraction for fraction, start in zip(schedule.fractions, schedule.starts, strict=True) if step >= start * steps]
    return started[-1]


class _KnowsEpoch(keras.callbacks.Callback):
    """Remembers the epoch (from 0): Keras counts batches from 0 in each."""

    _epoch = 0

    def on_epoch_begin(self, epoch: int, logs: _Logs | None = None) -> None:
        """Called by Keras."""
        del logs
        self._epoch = epoch


class StochasticSchedule(_KnowsEpoch):
    """Sets the fraction of channels quantized at every phase of the schedule (Dong et al. 2017, section 3.3)."""

    def __init__(self, schedule: Stochastic, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self._schedule = schedule
        self._per_epoch = steps_per_epoch
        self._steps = steps_per_epoch * epochs
        self.fraction: float | None = None

    def on_train_batch_begin(self, batch: int, logs: _Logs | None = None) -> None:
        """Moves on to the next phase when its first step comes."""
        del logs
        fraction = fraction_at(self._schedule, self._epoch * self._per_epoch + batch, self._steps)
        if fraction != self.fraction:
            # Under JAX, `fit` holds the state outside the model; `self.model` (not a reference kept) brings it back first.
            set_fraction(self.model.network, fraction)
            self.fraction = fraction


class ValidateAverage(keras.callbacks.SwapEMAWeights):
    """Validates with the average of the latent weights, and puts back exactly what was there.

    Under TensorFlow, Keras swaps two variables by adding and subtracting, which rounds: watching would change the training.
    """

    def _tf_swap_variables(self, optimizer: keras.optimizers.Optimizer) -> None:
        self._backend_swap_variables(optimizer)


class Recorder(keras.callbacks.Callback):
    """After every epoch: the history (a line of JSON an epoch) and a checkpoint, from which `resume` goes on exactly.

    The history is written before the checkpoint: a run killed between the two does the epoch again and replaces the line.
    """

    def __init__(self, history: Path, folder: Path, prefix: str, schedule: StochasticSchedule) -> None:
        super().__init__()
        self._history, self._folder, self._prefix, self._schedule = history, folder, prefix, schedule
        self._rows: list[_Row] = []
        self._began = 0.0

    def resume(self, learner: keras.Model) -> int:
        """Loads the newest checkpoint; returns the number of epochs done (0: from the start).

        Raises:
            RunFolderError: Checkpoint or history is damaged.
        """
        saved = self._saved()
        if not saved:
            return 0
        epochs = int(saved[-1].stem.removeprefix(f"{self._prefix}-"))
        self._rows = self._read_rows(epochs, saved[-1])
        checkpoints.load(learner, saved[-1])
        return epochs

    def last_good(self) -> str:
        """The newest checkpoint in words, for an error message."""
        saved = self._saved()
        return f"The last good checkpoint is {saved[-1]}." if saved else "There is no checkpoint yet."

    def on_epoch_begin(self, epoch: int, logs: _Logs | None = None) -> None:
        """Starts the clock."""
        del epoch, logs
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: _Logs | None = None) -> None:
        """Writes the history, then the checkpoint, then removes the one before."""
        old = self._saved()
        self._rows.append(
            {
                "epoch": epoch + 1,
                **{key: float(value) for key, value in (logs or {}).items()},
                "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
                "quantized_fraction": self._schedule.fraction,
                "seconds": round(time.perf_counter() - self._began, 3),
            }
        )
        write_atomic(self._history, "".join(json.dumps(row) + "\n" for row in self._rows))
        checkpoints.save(self.model, self._folder / f"{self._prefix}-{epoch + 1:04}.npz")
        for path in old:
            path.unlink(missing_ok=True)

    def _saved(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._prefix}-[0-9]*.npz"))

    def _read_rows(self, epochs: int, checkpoint: Path) -> list[_Row]:
        try:
            lines = self._history.read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines[:epochs]]
            if [row["epoch"] for row in rows] == list(range(1, epochs + 1)):
                return rows
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise RunFolderError(
            f"Expected the history of {epochs} epochs in {self._history}. Received: something else, or nothing.",
            hint=f"Delete {checkpoint} and run the same command again: training starts anew, and gives the same result.",
        )


class StopOnBadLoss(_KnowsEpoch):
    """Raises TrainingError at the first loss that is not a finite number; the epoch's checkpoint is not written."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def on_train_batch_end(self, batch: int, logs: _Logs | None = None) -> None:
        """Looks at the running mean of the loss: one bad value makes it bad."""
        self._check("The loss", float((logs or {})["loss"]), f"epoch {self._epoch + 1}, step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: _Logs | None = None) -> None:
        """Looks at the validation loss: the epoch's last step may have spoilt the weights."""
        self._check("The validation loss", float((logs or {})["val_loss"]), f"epoch {epoch + 1}")

    def _check(self, what: str, loss: float, when: str) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"{what} became {loss} in {when}. {self._recorder.last_good()}",
                hint="Lower the learning rate (--set train.learning_rate=...), or raise train.warmup.",
            )


class Reporter(_KnowsEpoch):
    """Tells the caller how far the fit is: steps done of all steps."""

    def __init__(self, progress: Progress, label: str, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self._progress, self._label, self._per_epoch, self._epochs = progress, label, steps_per_epoch, epochs

    def on_train_batch_end(self, batch: int, logs: _Logs | None = None) -> None:
        """Reports the step."""
        accuracy = f", accuracy {100 * float(logs['accuracy']):.1f} %" if logs and "accuracy" in logs else ""
        label = f"{self._label}: epoch {self._epoch + 1} of {self._epochs}{accuracy}"
        self._progress(label, self._epoch * self._per_epoch + batch + 1, self._per_epoch * self._epochs)
