"""Quantization after training: the weights of a float network, rounded, without learning anything more."""

from pathlib import Path

import keras
import numpy as np

from tinyrobust.data.arrays import Dataset, scale
from tinyrobust.graphs import archive
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe import Recipe

# Batch norm averages over about the last 50 batches at its momentum of 0.9: twice that forgets what it knew before.
_BATCHES = 100


def quantize_after(trained: keras.Model, network: keras.Model, dataset: Dataset, recipe: Recipe, path: Path) -> keras.Model:
    """Gives `network` the weights of the float network; its quantizers round them.

    Rounding to few levels shifts what layers put out, so batch norm's means and variances are measured anew on training images
    without augmentation, as post-training quantization commonly does: it is a part of the method, not learning. A network that
    quantizes no weights is taken as it is.

    Args:
        trained: The float network.
        network: The same layers with the recipe's quantizers.
        dataset: Training images.
        recipe: Batch size.
        path: Where the network is saved.

    Returns:
        `network`.

    Raises:
        RunFolderError: The file cannot be written.
    """
    take_weights(trained, network)
    if any(layer.weight_quantizer for layer in weight_layers(network)):
        _measure_anew(network, dataset, recipe)
    archive.save(network, path)
    return network


def take_weights(trained: keras.Model, network: keras.Model) -> None:
    """Gives a network the weights of another of the same layers; what its own quantizers declare beside them stays."""
    for layer in network.layers:
        source = trained.get_layer(layer.name)
        if layer in weight_layers(network):
            own = layer.own_variables()  # what its quantizer declares among them, which the float layer does not have
            for name, variable in source.own_variables().items():
                own[name].assign(variable)
        else:
            layer.set_weights(source.get_weights())


def _measure_anew(network: keras.Model, dataset: Dataset, recipe: Recipe) -> None:
    size = min(recipe.train.batch_size, len(dataset.train.x))
    for batch in range(_BATCHES):
        rows = np.arange(batch * size, (batch + 1) * size) % len(dataset.train.x)
        network(scale(dataset.train.x[rows]), training=True)
