"""Ensembles: the mean of several networks' answers."""

from collections.abc import Sequence
from typing import Literal

import keras
import tensorflow as tf

from tinyrobust.attacks.estimator import GraphClassifier, Transform, check_logits
from tinyrobust.attacks.repair import Slopes
from tinyrobust.attacks.target import InputRange
from tinyrobust.errors import ModelFileError
from tinyrobust.robustness.ranges import UNIT, in_units


class EnsembleTarget(GraphClassifier):
    """Several networks that answer together.

    Args:
        models: The members, at least one, each from images in the same units to logits of the same classes.
        mean: Of what the answer is the mean. For "probabilities" the logits are the logarithm of the mean softmax, so that
            their softmax is that mean and their cross-entropy that of the ensemble.
        input_range: What 0 and 1 become in the members' units.
        transform: Applied to the ensemble's logits: gradient repair.
        slopes: Of a network that is `smoothed`; see `GraphClassifier`.

    Raises:
        ModelFileError: There are no members, or they do not fit together.
    """

    deterministic = True

    def __init__(
        self,
        models: Sequence[keras.Model],
        *,
        mean: Literal["logits", "probabilities"] = "probabilities",
        input_range: InputRange = UNIT,
        transform: Transform | None = None,
        slopes: Slopes | None = None,
    ) -> None:
        for model in models:
            check_logits(model)
        shapes = {(tuple(model.input_shape[1:]), int(model.output_shape[-1])) for model in models}
        if len(shapes) != 1:
            raise ModelFileError(f"Expected members of one input shape and number of classes. Received: {sorted(shapes)}")
        self.input_range = input_range

        def network(x: tf.Tensor) -> tf.Tensor:
            inputs = in_units(x, input_range)
            logits = tf.stack([tf.cast(model(inputs, training=False), tf.float32) for model in models])
            if mean == "logits":
                return tf.reduce_mean(logits, axis=0)
            # The logarithm of the mean, without leaving logarithms: probabilities underflow.
            return tf.reduce_logsumexp(tf.nn.log_softmax(logits), axis=0) - tf.math.log(float(len(models)))

        super().__init__(network, *next(iter(shapes)), transform=transform, slopes=slopes, passes=len(models))
