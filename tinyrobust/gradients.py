"""The one backend seam: gradients with respect to inputs, under TensorFlow and JAX.

Everything else is written in `keras.ops`; only differentiation has no name there.
"""

from collections.abc import Callable
from typing import Any

import keras

from tinyrobust.errors import MissingToolError


def value_and_gradient(function: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
    """The value of a scalar function at `x`, and its gradient with respect to `x`.

    Usable eagerly and inside `tf.function` or `jax.jit`. A sum over a batch gives every sample its own gradient.

    Args:
        function: Takes a tensor of the shape of `x`, returns a scalar tensor.
        x: A float tensor or array.

    Returns:
        The scalar, and a tensor of the shape and type of `x`; zero where the scalar does not depend on `x`.

    Raises:
        MissingToolError: Keras runs on a backend other than TensorFlow and JAX.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
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
