"""The compiled ART estimator: predictions and gradients of a Keras model, each one TensorFlow graph.

ART's own `TensorFlowV2Classifier` runs the model eagerly for every gradient, which is ten times slower. Here every function is
traced once, for a batch of any size: measured on CPU, a dynamic batch dimension costs as much as a fixed one, needs no
padding and never retraces.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from art.estimators.classification import TensorFlowV2Classifier
from art.utils import check_and_transform_label_format

from tinyrobust.errors import ModelFileError
from tinyrobust.gradients import value_and_gradient

FloatArray = npt.NDArray[np.float32]


class CompiledClassifier(TensorFlowV2Classifier):
    """A Keras 3 model whose outputs are logits, as an ART classifier; usable with every ART attack on classifiers.

    The loss is the cross-entropy of each sample, summed over the batch: a sample's gradient does not depend on its batch (a
    mean would divide it by the batch size). The weights are used as they stand: give it a network whose quantized weights are
    frozen.

    Args:
        model: From float32 inputs [n, ...] in [0, 1] to logits [n, classes].
        batch_size: The largest number of samples in one graph execution; bounds the memory.

    Attributes:
        queries: Samples that have gone through the network so far, for predictions and for gradients.

    Raises:
        ModelFileError: The model does not output one row of logits, or its input shape is not fixed.
    """

    def __init__(self, model: keras.Model, batch_size: int = 256) -> None:
        _check(model)
        super().__init__(
            model=model,
            nb_classes=int(model.output_shape[-1]),
            input_shape=tuple(model.input_shape[1:]),
            loss_object=keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum"),
            clip_values=(0.0, 1.0),
        )
        self.queries = 0
        self._batch_size = batch_size
        x = tf.TensorSpec((None, *self.input_shape), tf.float32)
        rows = tf.TensorSpec((None, self.nb_classes), tf.float32)
        self._logits = tf.function(self._run, input_signature=[x], autograph=False)
        self._loss_gradient = tf.function(self._of_loss, input_signature=[x, rows], autograph=False)
        self._output_gradient = tf.function(self._of_outputs, input_signature=[x, rows], autograph=False)

    def predict(self, x: Any, batch_size: int = 128, training_mode: bool = False, **kwargs: Any) -> FloatArray:  # noqa: ARG002
        """Logits [n, classes] of inputs [n, ...]; always in inference mode and in batches of the estimator's own size."""
        return self._batched(self._logits, x)

    def loss_gradient(self, x: Any, y: Any, training_mode: bool = False, **kwargs: Any) -> Any:  # noqa: ARG002
        """The gradient of each sample's cross-entropy with respect to its input.

        Args:
            x: Inputs [n, ...], an array or a TensorFlow tensor.
            y: Labels, one-hot [n, classes] or indices [n].
            training_mode: Ignored: always inference.
            kwargs: Ignored.

        Returns:
            [n, ...], an array for an array and a tensor for a tensor.
        """
        labels = check_and_transform_label_format(np.asarray(y), nb_classes=self.nb_classes)
        gradient = self._batched(self._loss_gradient, x, labels)
        return tf.convert_to_tensor(gradient) if tf.is_tensor(x) else gradient

    def class_gradient(
        self,
        x: Any,
        label: int | list[int] | npt.NDArray[np.int64] | None = None,
        training_mode: bool = False,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> FloatArray:
        """Gradients of logits with respect to the input.

        Args:
            x: Inputs [n, ...].
            label: One class for all samples, a class a sample, or None for all classes.
            training_mode: Ignored: always inference.
            kwargs: Ignored.

        Returns:
            [n, 1, ...] for the chosen logit of every sample, [n, classes, ...] without `label`.
        """
        eye = np.eye(self.nb_classes, dtype=np.float32)
        if label is None:
            chosen = [np.tile(row, (len(x), 1)) for row in eye]
        else:
            chosen = [eye[np.broadcast_to(np.asarray(label), (len(x),))]]
        return np.stack([self._batched(self._output_gradient, x, rows) for rows in chosen], axis=1)

    def _run(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._model(x, training=False), tf.float32)

    def _of_loss(self, x: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        def loss(inputs: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(labels, self._run(inputs)))

        return value_and_gradient(loss, x)[1]

    def _of_outputs(self, x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return value_and_gradient(lambda inputs: tf.reduce_sum(self._run(inputs) * weights), x)[1]

    def _batched(self, function: Callable[..., tf.Tensor], *arrays: Any) -> FloatArray:
        rows = [np.asarray(array, dtype=np.float32) for array in arrays]
        size = self._batch_size
        if not len(rows[0]):  # the kernels refuse empty batches
            return self._batched(function, *(np.zeros((1, *array.shape[1:])) for array in rows))[:0]
        self.queries += len(rows[0])
        parts = [
            function(*(tf.constant(array[start : start + size]) for array in rows)).numpy()
            for start in range(0, len(rows[0]), size)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _check(model: keras.Model) -> None:
    if None in model.input_shape[1:]:
        raise ModelFileError(f"Expected a model with a fixed input shape. Received: {model.input_shape}")
    if len(model.output_shape) != 2:
        raise ModelFileError(f"Expected a model that outputs logits [n, classes]. Received: shape {model.output_shape}")
    last = getattr(model.layers[-1], "activation", None)
    if isinstance(model.layers[-1], keras.layers.Softmax) or last in (keras.activations.softmax, keras.activations.sigmoid):
        raise ModelFileError(
            "Expected a model that outputs logits. Received: probabilities, whose gradients vanish and make it look robust.",
            hint="Remove the softmax at the end.",
        )
