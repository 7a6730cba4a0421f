"""White-box gradients for a file: forward through the file itself, backward through a network that answers like it."""

import keras
import numpy as np
import tensorflow as tf

from tinyrobust.attacks.estimator import GraphClassifier, Transform, check_logits
from tinyrobust.attacks.repair import Slopes, with_value
from tinyrobust.attacks.target import FloatArray, InputRange
from tinyrobust.errors import ModelFileError
from tinyrobust.robustness.ranges import UNIT, in_units
from tinyrobust.robustness.targets.flashed import Int8Target
from tinyrobust.robustness.targets.stochastic import rewind, seed_generators


class BpdaTarget(GraphClassifier):
    """Backward pass differentiable approximation (Athalye et al. 2018, section 4.1) of a `.tflite`.

    The logits are the file's, bit for bit (before its softmax, if it ends in one); their gradient is the network's, taken at
    the loss of the file's logits. So an attack stops where the file is broken, not where the network is.

    Args:
        flashed: The file.
        model: The network it was made from, or one rebuilt from it: from images in its own units to logits.
        model_range: What 0 and 1 become in the network's units.
        transform: Applied to the file's logits: gradient repair.
        slopes: Of a network that is `smoothed`; see `GraphClassifier`.

    Raises:
        ModelFileError: Network and file do not fit together.
    """

    deterministic = True  # its logits are: where the network is random, slopes are

    def __init__(
        self,
        flashed: Int8Target,
        model: keras.Model,
        *,
        model_range: InputRange = UNIT,
        transform: Transform | None = None,
        slopes: Slopes | None = None,
    ) -> None:
        check_logits(model)
        ours = (tuple(model.input_shape[1:]), int(model.output_shape[-1]))
        theirs = (tuple(flashed.input_shape), flashed.nb_classes)
        if ours != theirs:
            raise ModelFileError(f"Expected a network of input shape and classes {theirs}, as the file. Received: {ours}")
        self.input_range = flashed.input_range

        def answer(x: FloatArray) -> FloatArray:
            return np.asarray(flashed.logits(x), dtype=np.float32)

        def network(x: tf.Tensor) -> tf.Tensor:
            slope = tf.cast(model(in_units(x, model_range), training=False), tf.float32)
            return with_value(slope, tf.ensure_shape(tf.numpy_function(answer, [x], tf.float32), slope.shape))

        self._generators = seed_generators(model)
        super().__init__(network, *theirs, transform=transform, slopes=slopes)
        self.forget()

    def forget(self) -> None:
        """Rewinds the draws of a network that is random, whose slopes are so too."""
        rewind(self._generators, 0)
