"""The average of the latent weights over the steps or over epochs, with batch-norm statistics of its own."""

from collections.abc import Mapping

import keras

from tinyrobust.data.arrays import Images, scale
from tinyrobust.graphs.freeze import with_fixed_weights

_BATCHES = 20


class ValidateAverage(keras.callbacks.SwapEMAWeights):
    """Validates with the average of the latent weights, and puts back exactly what was there; at the end the average stays.

    The average is the optimizer's, over the steps, or (stochastic weight averaging, Izmailov et al. 2018, algorithm 1, with a
    cycle of one epoch) the mean of the weights at the ends of epochs from `first` on; before, the weights themselves.

    Batch norm's moving statistics are those of the weights as they are trained, which are far from what averaged weights put
    out while these still change fast: with them, validation early in a training is at chance. So the average has statistics
    that are measured anew (`measure_norms`), as Izmailov et al. 2018 (arXiv 1803.05407, section 3.2) do for theirs.

    Args:
        images: Of training, uint8 [n, h, w, c]; the first twenty batches are measured, not augmented, and not attacked.
        batch_size: Images a batch.
        first: The first epoch, from 0, whose weights count; None: the average is the optimizer's.
    """

    def __init__(self, images: Images, batch_size: int, first: int | None = None) -> None:
        super().__init__()
        self._images, self._size, self._first = images, batch_size, first
        self._epoch = 0
        self._before: list[tuple[keras.Variable, object]] = []

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Counts, for the mean over epochs."""
        self._epoch = epoch
        super().on_epoch_begin(epoch, logs)

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """The average takes the place of the weights, with its statistics."""
        if self._first is not None:
            self._take_in(max(0, self._epoch - self._first))
        super().on_test_begin(logs)
        network = self.model.network
        statistics = [one for layer in _norms(network) for one in (layer.moving_mean, layer.moving_variance)]
        self._before = [(one, keras.ops.convert_to_numpy(one)) for one in statistics]
        measure_norms(network, self._images, self._size)

    def on_test_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Weights and statistics are again those that are trained, to the bit."""
        for variable, value in self._before:
            variable.assign(value)
        super().on_test_end(logs)

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """The average, which Keras has left in the network, gets its statistics for good."""
        super().on_train_end(logs)
        measure_norms(self.model.network, self._images, self._size)

    def _take_in(self, before: int) -> None:
        """The weights as they are join the mean of those at the ends of so many epochs before."""
        optimizer = self.model.optimizer
        for weights, average in zip(self.model.trainable_variables, optimizer._model_variables_moving_average, strict=True):
            average.assign((before * average + weights) / (before + 1))

    def _tf_swap_variables(self, optimizer: keras.optimizers.Optimizer) -> None:
        # Under TensorFlow, Keras swaps two variables by adding and subtracting, which rounds: watching would change training.
        self._backend_swap_variables(optimizer)


def measure_norms(network: keras.Model, images: Images, size: int) -> None:
    """Gives every batch norm the statistics of a network with all its channels quantized, on the first batches of images.

    Moving mean and variance become the mean over the batches of the batch's mean and variance: k whole batches, at most twenty;
    one smaller batch where there are fewer images.

    Args:
        network: Changed in place.
        images: uint8 [n, h, w, c].
        size: Of a batch.
    """
    constant = with_fixed_weights(network)
    constant.trainable = True  # batch norm follows its batches in trainable layers alone
    norms = _norms(constant)
    if not norms:
        return
    for number in range(max(1, min(_BATCHES, len(images) // size))):
        for norm in norms:
            norm.momentum = number / (number + 1)  # of the mean of number + 1 values the share of those before
        constant(scale(images[number * size : (number + 1) * size]), training=True)
    for norm in norms:
        own = network.get_layer(norm.name)
        own.moving_mean.assign(norm.moving_mean)
        own.moving_variance.assign(norm.moving_variance)


def _norms(network: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
