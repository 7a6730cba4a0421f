"""How much a trained float network suffers when the weights of one layer are quantized, layer by layer and format by format."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from tinyrobust.data.arrays import Split, scale
from tinyrobust.errors import TrainingError
from tinyrobust.gradients import Tensor
from tinyrobust.progress import Progress
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.search import Search
from tinyrobust.training import perturbations
from tinyrobust.training.objectives.base import Batch

Kernels = Mapping[str, NDArray[np.float32]]
_BATCH = 128
_TINY = 1e-12


class Measure:
    """What a search makes small, of a network as its weights are now.

    - loss: mean cross-entropy on clean images;
    - adversarial-loss: that, plus the mean cross-entropy on images attacked anew, against the weights as they are now;
    - noise: the loss, plus the mean over the layers with weights of their adversarial noise sensitivity
      `ANS_l = |a_l(x') - a_l(x)|_2 / |a_l(x)|_2` (Panda 2020, arXiv 2004.11233), where a_l is what the layer puts out and x' is
      x, attacked as before; mean over the images. The paper reads the bits of a layer off its ANS. Here the question is how
      much a format changes it, and the loss stays in, because a network that says nothing passes no noise on either.

    Before it is measured, batch norm's means and variances are measured anew on the same images, as quantization after training
    does and as training in the format would: a shift that they take out is no harm. The attack draws the same noise each time.

    Args:
        network: The trained float network.
        images: Float images in [0, 1].
        labels: Their classes.
        search: Measure and attack.
        seed: Of the attack.
    """

    def __init__(
        self, network: keras.Model, images: NDArray[np.float32], labels: NDArray[np.int64], search: Search, seed: int
    ) -> None:
        self._network, self._measure = network, search.measure
        starts = range(0, len(images), _BATCH)
        self._batches = [(images[start : start + _BATCH], labels[start : start + _BATCH]) for start in starts]
        self._norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
        self._inside = keras.Model(network.inputs, {layer.name: layer.output for layer in weight_layers(network)})
        self._attack = perturbations.build(search.attack, seed)
        self._noise = ops.convert_to_numpy(self._attack.seed_generator.state)
        self._losses = _in_one_graph(self._losses_of)
        self._train = _in_one_graph(lambda batch: network(batch, training=True))

    def __call__(self) -> float:
        """The measure.

        Raises:
            TrainingError: It is not finite.
        """
        self._norm_anew()
        self._attack.seed_generator.state.assign(self._noise)
        losses = np.concatenate([ops.convert_to_numpy(self._losses(*batch)) for batch in self._batches])
        value = float(losses.mean(dtype=np.float64))
        if not np.isfinite(value):
            raise TrainingError(f"Expected a finite {self._measure} of the float network. Received: {value}")
        return value

    def _losses_of(self, images: Tensor, labels: Tensor) -> Tensor:
        """The measure of every image, [n]."""
        logits = self._network(images, training=False)
        losses = _cross_entropy(logits, labels)
        if self._measure == "loss":
            return losses
        attacked = self._attack(Batch(images, labels, logits, self._network, training=False))
        if self._measure == "adversarial-loss":
            return losses + _cross_entropy(self._network(attacked, training=False), labels)
        clean, noisy = (self._inside(one, training=False) for one in (images, attacked))
        noise = [_length(noisy[name] - clean[name]) / (_length(clean[name]) + _TINY) for name in clean]
        return losses + sum(noise) / len(noise)

    def _norm_anew(self) -> None:
        """Means and variances of batch norm become the means of those of the batches."""
        if not self._norms:
            return
        momenta, found = [norm.momentum for norm in self._norms], []
        for norm in self._norms:
            norm.momentum = 0.0  # each is that of the last batch
        for images, _ in self._batches:
            self._train(images)
            found.append(
                [ops.convert_to_numpy(one) for norm in self._norms for one in (norm.moving_mean, norm.moving_variance)]
            )
        means = iter(np.mean(column, axis=0) for column in zip(*found, strict=True))
        for norm, momentum in zip(self._norms, momenta, strict=True):
            norm.momentum = momentum
            norm.moving_mean.assign(next(means))
            norm.moving_variance.assign(next(means))


def sensitivities(
    trained: keras.Model,
    quantized: Callable[[int], Kernels],
    layers: Sequence[str],
    split: Split,
    search: Search,
    seed: int,
    progress: Progress,
) -> tuple[float, NDArray[np.float64]]:
    """By how much the measure rises when one layer's weights are quantized and all others stay in float.

    Args:
        trained: The float network; it is left as it was.
        quantized: The kernels of all layers in the candidate of that number.
        layers: Which layers are asked about.
        split: Images and labels to measure on: `search.images` of them, evenly spread; all where there are fewer.
        search: Candidates, measure, attack.
        seed: Of the attack.
        progress: Called for every layer.

    Returns:
        The measure of the float network, and [layers, candidates].

    Raises:
        TrainingError: The measure is not finite.
    """
    rows = np.unique(np.linspace(0, len(split.x) - 1, search.images).astype(np.int64))
    kernels = [quantized(number) for number in range(len(search.candidates))]
    found = np.zeros((len(layers), len(search.candidates)))
    with _left_as_it_was(trained):
        measure = Measure(trained, scale(split.x[rows]), split.y[rows], search, seed)
        total = 1 + len(layers)
        progress("precision: the float network", 0, total)
        before = measure()
        for index, name in enumerate(layers):
            progress(f"precision: {name}", 1 + index, total)
            variable = trained.get_layer(name).latent_weights
            own = ops.convert_to_numpy(variable)
            for number in range(len(search.candidates)):
                variable.assign(kernels[number][name])
                found[index, number] = measure() - before
            variable.assign(own)
        progress("precision: measured", total, total)
    return before, found


@contextmanager
def _left_as_it_was(network: keras.Model) -> Iterator[None]:
    weights = network.get_weights()
    try:
        yield
    finally:
        network.set_weights(weights)


def _in_one_graph(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compiled under TensorFlow, where a graph reads variables anew each time; under JAX operation by operation."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf  # here: training under JAX runs without TensorFlow

    compiled: Callable[..., Tensor] = tf.function(function, autograph=False)
    return compiled


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of every sample, [n]."""
    return -ops.sum(ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype) * ops.log_softmax(logits), axis=-1)


def _length(rows: Tensor) -> Tensor:
    """Of every sample in L2, [n]."""
    return ops.sqrt(ops.sum(ops.square(rows), axis=tuple(range(1, len(rows.shape)))))
