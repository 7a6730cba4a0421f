"""What happens around `fit`: the schedules of quantizers, checkpoints, history, progress, the stop on a bad loss."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
from pydantic import JsonValue

from tinyrobust.errors import RunFolderError, TrainingError
from tinyrobust.files import write_atomic
from tinyrobust.progress import Progress
from tinyrobust.quantizers.base import Schedule
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.training import checkpoints
from tinyrobust.training.perturbations import Perturbation

_Logs = Mapping[str, float] | None
_Row = dict[str, JsonValue]


class KnowsEpoch(keras.callbacks.Callback):
    """Remembers the epoch (from 0): Keras counts batches from 0 in each."""

    _epoch = 0

    def on_epoch_begin(self, epoch: int, logs: _Logs = None) -> None:
        """Called by Keras."""
        del logs
        self._epoch = epoch


class Schedules(KnowsEpoch):
    """Sets what quantizers declare, at every phase of their schedules (such as Dong et al. 2017, section 3.3).

    Args:
        network: Its quantizers are asked for their schedules.
        steps_per_epoch: Optimizer steps.
        epochs: Of the whole training.

    """

    def __init__(self, network: keras.Model, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self._schedules = frozenset(schedule for _, schedule in _scheduled(network))
        self._per_epoch = steps_per_epoch
        self._steps = steps_per_epoch * epochs
        self._set: dict[Schedule, float] = {}

    @property
    def values(self) -> dict[str, float]:
        """What each scheduled variable is set to, by name; where layers differ, the smallest."""
        names = sorted({schedule.variable for schedule in self._set})
        return {name: min(value for one, value in self._set.items() if one.variable == name) for name in names}

    def on_epoch_begin(self, epoch: int, logs: _Logs = None) -> None:
        """Sets them anew at the next step: who went back to an earlier epoch (`watch.Watch`) has the values of that one."""
        super().on_epoch_begin(epoch, logs)
        self._set = {}

    def on_train_batch_begin(self, batch: int, logs: _Logs = None) -> None:
        """Moves on to the next phase when its first step comes."""
        del logs
        step = self._epoch * self._per_epoch + batch
        values = {schedule: schedule.at(step, self._steps) for schedule in self._schedules}
        if values != self._set:
            # Under JAX, `fit` holds the state outside the model; `self.model` (not a reference kept) brings it back first.
            for layer, schedule in _scheduled(self.model.network):
                layer.quantizer_state[schedule.variable].assign(values[schedule])
            self._set = values


class Ramps(KnowsEpoch):
    """Lets the radius of perturbations rise in the first steps: in step t (from 1) it is `min(1, t / (ramp T))` of the whole.

    Smaller radii first keep deep or coarsely quantized networks from learning nothing at all. The history gets `radius_share`.

    Args:
        perturbations: With a `ramp`.
        steps_per_epoch: Optimizer steps.
        epochs: Of the whole training, which has T steps.
    """

    def __init__(self, perturbations: Sequence[Perturbation], steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self._perturbations, self._per_epoch, self._steps = tuple(perturbations), steps_per_epoch, steps_per_epoch * epochs
        self._set: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: _Logs = None) -> None:
        """As in `Schedules`."""
        super().on_epoch_begin(epoch, logs)
        self._set = []

    def on_train_batch_begin(self, batch: int, logs: _Logs = None) -> None:
        """Sets the share of this step."""
        del logs
        step = self._epoch * self._per_epoch + batch + 1
        shares = [min(1.0, step / (one.ramp * self._steps)) for one in self._perturbations]
        if shares != self._set:
            assert self.model is not None  # as in `Schedules`: under JAX it brings the state back into the variables
            for one, share in zip(self._perturbations, shares, strict=True):
                one.reach.assign(share)
            self._set = shares

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds to the epoch's row; of several the smallest."""
        del epoch
        if logs is not None:
            logs["radius_share"] = min(self._set)


def _scheduled(network: keras.Model) -> list[tuple[keras.Layer, Schedule]]:
    """The layers whose quantizers have a schedule, with it."""
    quantized = [layer for layer in weight_layers(network) if layer.weight_quantizer]
    return [(layer, layer.weight_quantizer.schedule) for layer in quantized if layer.weight_quantizer.schedule]


class Recorder(keras.callbacks.Callback):
    """After every epoch: the history (a line of JSON an epoch) and a checkpoint, from which `resume` goes on exactly.

    The history is written before the checkpoint: a run killed between the two does the epoch again and replaces the line.

    Attributes:
        rows: Of the history, those of epochs before an interruption too.
    """

    def __init__(self, history: Path, folder: Path, prefix: str, schedules: Schedules) -> None:
        super().__init__()
        self._history, self._folder, self._prefix, self._schedules = history, folder, prefix, schedules
        self.rows: list[_Row] = []
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
        self.rows[:] = self._read_rows(epochs, saved[-1])
        checkpoints.load(learner, saved[-1])
        return epochs

    def last_good(self) -> str:
        """The newest checkpoint in words, for an error message."""
        saved = self._saved()
        return f"The last good checkpoint is {saved[-1]}." if saved else "There is no checkpoint yet."

    def on_epoch_begin(self, epoch: int, logs: _Logs = None) -> None:
        """Starts the clock."""
        del epoch, logs
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: _Logs = None) -> None:
        """Writes the history, then the checkpoint, then removes the one before."""
        old = self._saved()
        self.rows.append(
            {
                "epoch": epoch + 1,
                **{key: float(value) for key, value in (logs or {}).items()},
                "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
                "quantized_fraction": 1.0,  # where no schedule says otherwise
                **self._schedules.values,
                "seconds": round(time.perf_counter() - self._began, 3),
            }
        )
        write_atomic(self._history, "".join(json.dumps(row) + "\n" for row in self.rows))
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


class StopOnBadLoss(KnowsEpoch):
    """Raises TrainingError at the first loss that is not a finite number; the epoch's checkpoint is not written."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def on_train_batch_end(self, batch: int, logs: _Logs = None) -> None:
        """Looks at the running mean of the loss: one bad value makes it bad."""
        self._check("The loss", float((logs or {})["loss"]), f"epoch {self._epoch + 1}, step {batch + 1}")

    def on_epoch_end(self, epoch: int, logs: _Logs = None) -> None:
        """Looks at the validation loss: the epoch's last step may have spoilt the weights."""
        self._check("The validation loss", float((logs or {})["val_loss"]), f"epoch {epoch + 1}")

    def _check(self, what: str, loss: float, when: str) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"{what} became {loss} in {when}. {self._recorder.last_good()}",
                hint="Lower the learning rate (--set train.learning_rate=...), or raise train.warmup.",
            )


class Reporter(KnowsEpoch):
    """Tells the caller how far the fit is: steps done of all steps."""

    def __init__(self, progress: Progress, label: str, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self._progress, self._label, self._per_epoch, self._epochs = progress, label, steps_per_epoch, epochs

    def on_train_batch_end(self, batch: int, logs: _Logs = None) -> None:
        """Reports the step."""
        accuracy = f", accuracy {100 * float(logs['accuracy']):.1f} %" if logs and "accuracy" in logs else ""
        label = f"{self._label}: epoch {self._epoch + 1} of {self._epochs}{accuracy}"
        self._progress(label, self._epoch * self._per_epoch + batch + 1, self._per_epoch * self._epochs)
