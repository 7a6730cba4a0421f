"""The compiled ART estimator: predictions and gradients of a network, each one TensorFlow graph.

ART's own `TensorFlowV2Classifier` runs the model eagerly for every gradient, which is ten times slower. Here every function is
traced once, for a batch of any size: measured on CPU, a dynamic batch dimension costs as much as a fixed one, needs no
padding and never retraces.
"""

import math
from collections.abc import Callable, Hashable

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from art.estimators.classification import TensorFlowV2Classifier
from art.utils import check_and_transform_label_format

from tinyrobust.attacks.graph import any_size
from tinyrobust.attacks.repair import Slopes
from tinyrobust.attacks.target import Graph, InputRange
from tinyrobust.errors import DataError, ModelFileError
from tinyrobust.gradients import value_and_gradient

FloatArray = npt.NDArray[np.float32]
Network = Callable[[tf.Tensor], tf.Tensor]
# From logits [n, classes] to logits that name the same class: gradient repair.
Transform = Callable[[tf.Tensor], tf.Tensor]

# Samples in a graph execution, and values of one at which they are as many.
_BATCH, _VALUES = 256, 1024


class GraphClassifier(TensorFlowV2Classifier):
    """Anything that TensorFlow can differentiate from inputs to logits, as an ART classifier, for ART's attacks and for ours.

    The loss is the cross-entropy of each sample, summed over the batch: a sample's gradient does not depend on its batch (a
    mean would divide it by the batch size).

    Args:
        network: From float32 inputs [n, *input_shape] in [0, 1] to logits [n, classes]; used inside of graphs.
        input_shape: Of one sample.
        classes: How many.
        transform: Applied to the logits: gradient repair.
        slopes: Those of a network that is `smoothed`, where restarts of an attack are to have others.
        batch_size: The largest number of samples in one graph execution; bounds the memory. Absent: 256, and of samples smaller
            than 32x32 as many as make up the same: what a call costs is more than what a few hundred digits cost.
        passes: How often a network is evaluated for one answer: random passes, members of an ensemble.

    Attributes:
        forward_passes: Samples that have gone through a network so far, times `passes`.
        backward_passes: Samples whose gradient has been computed so far, times `passes`.
        passes: As given.
        input_range: What 0 and 1 become in the network's own units.
        deterministic: Whether the same inputs get the same logits every time.
        graphs: Compiled loops of attacks on this target; they live as long as it does.
    """

    input_range: InputRange = (0.0, 1.0)
    deterministic: bool = True

    def __init__(
        self,
        network: Network,
        input_shape: tuple[int, ...],
        classes: int,
        *,
        transform: Transform | None = None,
        slopes: Slopes | None = None,
        batch_size: int | None = None,
        passes: int = 1,
    ) -> None:
        self._network, self._transform, self._slopes, self.passes = network, transform, slopes, passes
        self._batch_size = batch_size or max(_BATCH, _BATCH * _VALUES // max(1, math.prod(input_shape)))
        self.forward_passes = self.backward_passes = 0
        self.graphs: dict[Hashable, Graph] | None = {}
        self._traced = {False: self.graphs}  # slopes are decided when a graph is traced
        super().__init__(
            model=lambda x, training=False: self.logits(x),  # noqa: ARG005 - how ART calls a model
            nb_classes=classes,
            input_shape=input_shape,
            loss_object=keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum"),
            clip_values=(0.0, 1.0),
        )
        self._logits = any_size(self.logits)
        self._loss_gradient = any_size(self._of_loss)
        self._output_gradient = any_size(self._of_outputs)

    @property
    def queries(self) -> int:
        """Samples that have gone through a network so far, for predictions and for gradients."""
        return self.forward_passes

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Logits [n, classes] of a float32 tensor [n, ...] in [0, 1]: differentiable, and usable inside of a graph.

        It does not count: who calls it in a graph of their own calls `count`.
        """
        logits = tf.cast(self._network(x), tf.float32)
        return logits if self._transform is None else self._transform(logits)

    def forget(self) -> None:
        """Forgets answers and random draws so far: what follows does not depend on what came before."""

    def redraw(self, restart: int) -> None:
        """Has the slopes of that restart from here on; 0 are those of everything that is no attack."""
        if self._slopes is not None:
            self._slopes.redraw(restart)
            self.graphs = self._traced.setdefault(self._slopes.averaged, {})

    def count(self, forward: int = 0, backward: int = 0) -> None:
        """Adds samples that went through `logits`, and samples whose gradient was computed, in a graph of an attack's own."""
        self.forward_passes += forward * self.passes
        self.backward_passes += backward * self.passes

    def predict(
        self,
        x: npt.ArrayLike,
        batch_size: int = 128,  # noqa: ARG002
        training_mode: bool = False,  # noqa: ARG002
        **kwargs: object,  # noqa: ARG002
    ) -> FloatArray:
        """Logits [n, classes] of inputs [n, ...]; always in inference mode and in batches of the estimator's own size."""
        return self._batched(self._logits, x)

    def loss_gradient(
        self,
        x: npt.ArrayLike | tf.Tensor,
        y: npt.ArrayLike,
        training_mode: bool = False,  # noqa: ARG002
        **kwargs: object,  # noqa: ARG002
    ) -> FloatArray | tf.Tensor:
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
        x: FloatArray,
        label: int | list[int] | npt.NDArray[np.int64] | None = None,
        training_mode: bool = False,  # noqa: ARG002
        **kwargs: object,  # noqa: ARG002
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

    def _of_loss(self, x: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        def loss(inputs: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(labels, self.logits(inputs)))

        return value_and_gradient(loss, x)[1]

    def _of_outputs(self, x: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return value_and_gradient(lambda inputs: tf.reduce_sum(self.logits(inputs) * weights), x)[1]

    def _batched(self, function: Callable[..., tf.Tensor], *arrays: npt.ArrayLike) -> FloatArray:
        rows = [np.asarray(array, dtype=np.float32) for array in arrays]
        size = self._batch_size
        if rows[0].shape[1:] != tuple(self.input_shape) or rows[0].ndim != len(self.input_shape) + 1:
            raise DataError(f"Expected inputs of shape [n, {', '.join(map(str, self.input_shape))}]. Received: {rows[0].shape}")
        if not len(rows[0]):  # the kernels refuse empty batches
            return np.zeros((0, self.nb_classes) if function is self._logits else (0, *self.input_shape), np.float32)
        self.count(len(rows[0]), 0 if function is self._logits else len(rows[0]))
        parts = [
            function(*(tf.constant(array[start : start + size]) for array in rows)).numpy()
            for start in range(0, len(rows[0]), size)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_logits(model: keras.Model) -> None:
    """Refuses a model that does not map inputs of a fixed shape to one row of logits.

    Raises:
        ModelFileError: It does not; a softmax or sigmoid at the end is named.
    """
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
