"""How batches get to the training step."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import tensorflow as tf

_AHEAD = 2  # batches that are made while a step runs


def feed(batches: keras.utils.PyDataset) -> "keras.utils.PyDataset | tf.data.Dataset":
    """What `fit` is given for `batches`: under TensorFlow a `tf.data` pipeline of the same batches in the same order.

    The one that Keras makes of them tunes itself while it runs. The thread that does sleeps for twice as long each time, up to
    a minute, and the end of an epoch waits until it wakes (TensorFlow 2.21, `Model::OptimizeLoop` in
    tensorflow/core/framework/model.cc): epochs take 10, 20, 41, 82 seconds, and nothing between. There is nothing to tune.

    Args:
        batches: Its items are tuples of arrays, or of dicts of arrays; only the first axis of the last item may differ from the
            others'.
    """
    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf  # here: training under JAX runs without TensorFlow

    def each() -> Iterator[Any]:
        yield from (batches[index] for index in range(len(batches)))

    def spec(one: NDArray[np.generic], other: NDArray[np.generic]) -> tf.TensorSpec:
        shape = [size if size == same else None for size, same in zip(one.shape, other.shape, strict=True)]
        return tf.TensorSpec(shape, one.dtype)

    specs = keras.tree.map_structure(spec, batches[0], batches[len(batches) - 1])
    options = tf.data.Options()
    options.autotune.enabled = False
    pipeline = tf.data.Dataset.from_generator(each, output_signature=specs)
    return pipeline.apply(tf.data.experimental.assert_cardinality(len(batches))).prefetch(_AHEAD).with_options(options)
