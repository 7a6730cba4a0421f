"""What happens to stochastic quantizers in training: their temperature falls, and bins that collapse stop it."""

import keras
from keras import ops

from tinyrobust.errors import TrainingError
from tinyrobust.quantizers.stochastic import relative_distances, stochastic_layers
from tinyrobust.training.callbacks import KnowsEpoch
from tinyrobust.training.remarks import CLOSEST

# Two bins nearer than this share of the mean distance are one: less than K levels are drawn from.
_COLLAPSED = 0.01


class StochasticBins(KnowsEpoch):
    """Lowers the temperature of every quantizer, and looks at its bins after every epoch.

    In step t (from 0) of T the temperature is `start (end / start)^(t / (T - 1))`. The history gets `closest_bins`: the least
    distance of two neighbouring bins, as a share of the mean distance of its group.

    Args:
        steps_per_epoch: Optimizer steps.
        epochs: Of the whole training, which has T steps.
    """

    def __init__(self, steps_per_epoch: int, epochs: int) -> None:
        super().__init__()
        self._per_epoch, self._last = steps_per_epoch, max(1, steps_per_epoch * epochs - 1)

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        """Sets the temperatures of this step."""
        del logs
        share = min(1.0, (self._epoch * self._per_epoch + batch) / self._last)
        # Under JAX, `fit` holds the state outside the model; `self.model` (not a reference kept) brings it back first.
        for layer in stochastic_layers(self.model.network):
            layer.temperature.assign(layer.start * (layer.end / layer.start) ** share)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Adds to the epoch's row.

        Raises:
            TrainingError: Bins have collapsed.
        """
        layers = stochastic_layers(self.model.network)
        closest = {layer.name: closest_bins(layer.bins) for layer in layers}
        worst = min(closest, key=lambda name: closest[name])
        if closest[worst] < _COLLAPSED:
            raise TrainingError(
                f"Two bins of the stochastic quantizer {worst!r} have collapsed in epoch {epoch + 1}: they are "
                f"{100 * closest[worst]:.2g} % of the mean distance apart. Expected at least {100 * _COLLAPSED:g} %.",
                hint="Ask for fewer bins, give spacing of its [[stochastic]] more weight, or lower the learning rate.",
            )
        if logs is not None:
            logs[CLOSEST] = closest[worst]


def closest_bins(bins: keras.Variable) -> float:
    """The least of `relative_distances`, over all groups."""
    return float(ops.convert_to_numpy(ops.min(relative_distances(ops.convert_to_tensor(bins)))))
