"""Batch norm that trains in one kernel."""

import keras
from keras import ops

from tinyrobust.quantizers.base import Tensor


@keras.saving.register_keras_serializable("tinyrobust")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, computed in training by TensorFlow's fused kernel where the inputs are images.

    Keras 3 computes moments, scale and shift in some ten operations, each over the whole activation: a third of the time of a
    training step of `dscnn`. Results are the same but for rounding.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        """Shape in, shape out."""
        fused = training and self.trainable and len(inputs.shape) == 4 and keras.backend.backend() == "tensorflow"
        if not fused:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf  # here: training under JAX runs without TensorFlow

        gamma, beta = ops.convert_to_tensor(self.gamma), ops.convert_to_tensor(self.beta)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=self.epsilon)
        # The kernel gives the variance of the population that the batch is drawn from; Keras averages that of the batch.
        count = ops.cast(ops.prod(ops.shape(inputs)[:-1]), variance.dtype)
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance * (count - 1) / count)
        return outputs

    def _follow(self, average: keras.Variable, value: Tensor) -> None:
        average.assign(average * self.momentum + value * (1 - self.momentum))


@keras.saving.register_keras_serializable("tinyrobust")
class FixedNormalization(keras.layers.BatchNormalization):
    """A scale and a shift of every channel that nothing changes: no training, and no measuring of batches either.

    forward: `gamma * x + beta`, with the mean 0 and the variance 1 that it is given. Whatever reads graphs sees a batch norm.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Tensor:
        """Shape in, shape out; the same in training."""
        del training
        return super().call(inputs, training=False, mask=mask)
