"""Quantization after training: a float network, rounded, without learning anything more."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from tinyrobust.data.arrays import Dataset, Images, scale
from tinyrobust.errors import RecipeError
from tinyrobust.graphs import archive
from tinyrobust.graphs.folding import foldable
from tinyrobust.graphs.freeze import with_fixed_weights
from tinyrobust.quantizers.activations import ActivationQuantizer
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.quantizers.post_training import Calibrated, Seen
from tinyrobust.recipe import Recipe

# Batch norm averages over about the last 50 batches at its momentum of 0.9: twice that forgets what it knew before.
_BATCHES = 100

_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]


def calibration_images(recipe: Recipe, dataset: Dataset) -> int:
    """How many training images a network is calibrated on: the first in the order in which the seed drew them, stratified.

    Raises:
        RecipeError: The recipe asks for more than there are.
    """
    there, asked = len(dataset.train.x), recipe.train.calibration.images
    if asked is None:
        return min(there, _BATCHES * recipe.train.batch_size)
    if asked > there:
        raise RecipeError(
            f"Expected at most as many calibration images as there are training images, {there:,}. "
            f"Received: train.calibration.images = {asked:,}.",
            hint="Leave it out to calibrate on all of them, up to a hundred batches.",
        )
    return asked


def quantize_after(trained: keras.Model, network: keras.Model, dataset: Dataset, recipe: Recipe, path: Path) -> keras.Model:
    """Gives `network` the weights of the float network, and what `[train.calibration]` asks to be measured on n images.

    In this order, each step on the same n training images without augmentation:

    1. The bounds of `calibrated` activations, from what the *float* network puts out there: it is what quantization should
       resemble, and one pass serves all layers. (On the quantized network, layer by layer, early errors would move late
       ranges.)
    2. Batch norm's means and variances, measured anew on the quantized network, as rounding to few levels shifts what layers
       put out: moving averages over a hundred batches, in which the n images come round again where they are fewer. It is a
       part of the method, not learning.
    3. Bias correction, see `correct_biases`: with new batch-norm statistics, only layers without batch norm are left for it.

    A network that rounds neither weights nor activations is taken as it is.

    Args:
        trained: The float network.
        network: The same layers with the recipe's quantizers.
        dataset: Training images.
        recipe: Batch size and `[train.calibration]`.
        path: Where the network is saved.

    Returns:
        `network`.

    Raises:
        RecipeError: More calibration images are asked for than there are training images.
        RunFolderError: The file cannot be written.
    """
    images = dataset.train.take(np.arange(calibration_images(recipe, dataset))).x
    settings, size = recipe.train.calibration, recipe.train.batch_size
    take_weights(trained, network)
    if _rounds(network):
        _set_bounds(trained, network, images, size)
        constant = with_fixed_weights(network)
        constant.trainable = True  # batch norm follows its batches in trainable layers alone
        if settings.batch_norm:
            _measure_anew(constant, images, size)
        if settings.bias_correction != "none":
            correct_biases(
                trained, constant, images, size, norm=settings.bias_correction == "mean-and-norm", norms=not settings.batch_norm
            )
        _give_back(constant, network)
    archive.save(network, path)
    return network


def take_weights(trained: keras.Model, network: keras.Model) -> None:
    """Gives a network the weights of another of the same layers; what its own quantizers declare beside them stays."""
    quantized = weight_layers(network)
    for layer in network.layers:
        if not layer.weights:
            continue
        source = trained.get_layer(layer.name)
        if isinstance(layer, ActivationQuantizer) and type(source) is not type(layer):
            continue  # what an activation has of its own, another kind has not
        if layer in quantized:
            own = layer.own_variables()  # what its quantizer declares among them, which the float layer does not have
            for name, variable in source.own_variables().items():
                own[name].assign(variable)
        else:
            layer.set_weights(source.get_weights())


def _rounds(network: keras.Model) -> bool:
    weights = any(layer.weight_quantizer for layer in weight_layers(network))
    return weights or any(isinstance(layer, ActivationQuantizer) and layer.rounding for layer in network.layers)


def _batches(images: Images, size: int) -> Iterator[_Floats]:
    for start in range(0, len(images), size):
        yield scale(images[start : start + size])


def _outputs(model: keras.Model, layers: list[keras.Layer], images: Images, size: int) -> Iterator[list[_Floats]]:
    """What `layers` put out at inference, batch by batch."""
    part = keras.Model(model.inputs[0], [layer.output for layer in layers])
    for batch in _batches(images, size):
        yield [np.asarray(ops.convert_to_numpy(value)) for value in keras.tree.flatten(part(batch, training=False))]


def _set_bounds(trained: keras.Model, network: keras.Model, images: Images, size: int) -> None:
    layers = [layer for layer in network.layers if isinstance(layer, Calibrated)]
    if not layers:
        return
    sources = [trained.get_layer(layer.name) for layer in layers]
    largest = np.zeros(len(layers))
    for values in _outputs(trained, sources, images, size):
        largest = np.maximum(largest, [value.max() for value in values])
    seen = [Seen.nothing(one) for one in largest.tolist()]
    if any(layer.range != "min-max" for layer in layers):
        for values in _outputs(trained, sources, images, size):
            for one, value in zip(seen, values, strict=True):
                one.add(value)
    for layer, one in zip(layers, seen, strict=True):
        layer.calibrate(one)


def _measure_anew(network: keras.Model, images: Images, size: int) -> None:
    size = min(size, len(images))
    for batch in range(_BATCHES):
        rows = np.arange(batch * size, (batch + 1) * size) % len(images)
        network(scale(images[rows]), training=True)


@dataclass(frozen=True, eq=False)
class _Moments:
    """Mean and variance of what each output channel of a layer is, over images and places."""

    mean: _Doubles
    variance: _Doubles


def _moments(model: keras.Model, names: list[str], images: Images, size: int) -> list[_Moments]:
    count, sums, squares = 0, [np.zeros(1)] * len(names), [np.zeros(1)] * len(names)
    for values in _outputs(model, [model.get_layer(name) for name in names], images, size):
        count += len(values[0])
        rows = [value.astype(np.float64).reshape(len(value), -1, value.shape[-1]).mean(axis=1) for value in values]
        sums = [total + row.sum(axis=0) for total, row in zip(sums, rows, strict=True)]
        second = [np.square(value, dtype=np.float64).reshape(len(value), -1, value.shape[-1]).mean(axis=1) for value in values]
        squares = [total + row.sum(axis=0) for total, row in zip(squares, second, strict=True)]
    means = [total / count for total in sums]
    return [_Moments(mean, square / count - mean**2) for mean, square in zip(means, squares, strict=True)]


def correct_biases(
    trained: keras.Model, constant: keras.Model, images: Images, size: int, *, norm: bool = False, norms: bool = True
) -> None:
    """Bias correction: what rounding shifts in the mean output of a layer's channels is subtracted again.

    With y what a layer of the float network puts out on the images and y' that of the quantized one, layer by layer from the
    input on, those before it being corrected (Nagel et al. 2019, arXiv 1906.04721, section 4.2 and the empirical variant of its
    appendix): `b <- b - (E[y'] - E[y])` per channel where the layer has a bias, and where a batch norm alone reads it, the same
    to its moving mean, `mu <- mu + (E[y'] - E[y])`. With `norm`, batch norm takes up the change of scale too, which Banner et
    al. 2019 (arXiv 1810.05723, section 4.3) write into the weights: with `r = std(y') / std(y)`,
    `sigma <- r sigma` and `mu <- E[y'] - r (E[y] - mu)`, so that mean and deviation of what batch norm puts out are the float
    network's. A layer with neither is left alone: nothing in it can take it up.

    Args:
        trained: The float network.
        constant: The quantized one, with its weights as constants; changed in place.
        images: uint8 [n, h, w, c].
        size: Of a batch.
        norm: Whether to correct scales where batch norm can.
        norms: Whether batch norms are corrected; False where their statistics were measured anew, which does the same.
    """
    folds = foldable(constant) if len(constant.inputs) == len(constant.outputs) == 1 else {}
    names = [layer.name for layer in weight_layers(constant) if (norms if layer.name in folds else layer.use_bias)]
    if not names:
        return
    for name, expected in zip(names, _moments(trained, names, images, size), strict=True):
        (found,) = _moments(constant, [name], images, size)
        if name in folds:
            _correct_norm(constant.get_layer(folds[name]), expected, found, norm)
        else:
            bias = constant.get_layer(name).bias
            bias.assign(ops.convert_to_numpy(bias) - (found.mean - expected.mean))


def _correct_norm(layer: keras.layers.BatchNormalization, expected: _Moments, found: _Moments, norm: bool) -> None:
    mean, variance = (ops.convert_to_numpy(value) for value in (layer.moving_mean, layer.moving_variance))
    ratio = np.ones_like(found.mean)
    if norm:
        # A channel that is constant, before or after rounding, has no scale to be corrected.
        varies = (found.variance > 0) & (expected.variance > 0)
        ratio[varies] = np.sqrt(found.variance[varies] / expected.variance[varies])
    layer.moving_mean.assign(found.mean - ratio * (expected.mean - mean))
    layer.moving_variance.assign(np.maximum(ratio**2 * (variance + layer.epsilon) - layer.epsilon, 0))


def _give_back(constant: keras.Model, network: keras.Model) -> None:
    """Writes what calibration changed into the network that it was made from: batch norms and biases."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(constant.get_layer(layer.name).get_weights())
        elif layer in weight_layers(network) and layer.use_bias:
            layer.bias.assign(constant.get_layer(layer.name).bias)
