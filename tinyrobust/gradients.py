"""Gradients with respect to inputs, under TensorFlow and JAX.

Networks, quantizers and training are written in `keras.ops`, so they run on both: differentiation has no name there, and is
here. Attacks, evaluation targets and export are written for TensorFlow alone.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import keras

from tinyrobust.errors import MissingToolError

Tensor: TypeAlias = Any  # of TensorFlow or JAX, or a NumPy array: what `keras.ops` takes; they have no type in common


def value_and_gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The value of a scalar function at `x`, and its gradient with respect to `x`.

    Usable eagerly and inside `tf.function` or `jax.jit`. A sum over a batch gives every sample its own gradient. The gradient
    can itself be differentiated.

    Args:
        function: Takes a tensor of the shape of `x`, or a list of tensors where `x` is one; returns a scalar tensor.
        x: A float tensor or array, or a list of them.

    Returns:
        The scalar, and a tensor of the shape and type of `x`, or a list of them; zero where the scalar does not depend on `x`.

    Raises:
        MissingToolError: Keras runs on a backend other than TensorFlow and JAX.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = [tf.convert_to_tensor(one) for one in x] if isinstance(x, list) else tf.convert_to_tensor(x)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value = function(x)
        return value, tape.gradient(value, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    if backend == "jax":
        import jax

        return jax.value_and_grad(function)(x)  # type: ignore[no-any-return]
    raise MissingToolError(
        f"Expected Keras on TensorFlow or JAX. Received: backend {backend!r}.",
        hint="Set KERAS_BACKEND=tensorflow (or jax) before Python starts.",
    )
