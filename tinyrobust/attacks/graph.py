"""What gradient attacks need of a target: logits as TensorFlow ops, so that a whole attack is one graph.

`CompiledClassifier` is such a target. Any other ART classifier with class gradients is bridged: the same attack code then runs
eagerly, as a Python loop around the classifier's own methods.
"""

from collections.abc import Callable, Hashable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from tinyrobust.errors import ModelFileError


@runtime_checkable
class GraphTarget(Protocol):
    """An ART classifier whose logits are differentiable TensorFlow ops.

    Attributes:
        graphs: Compiled functions of attacks on this target, which live as long as it does: an attack at another epsilon is not
            traced again. None: `logits` cannot be traced into a `tf.function`, attacks run eagerly.
    """

    graphs: dict[Hashable, Callable[..., Any]] | None

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        """Logits [n, classes] of float32 inputs [n, ...]; `tf.GradientTape` differentiates through it."""

    def count(self, forward: int = 0, backward: int = 0) -> None:
        """Notes that so many samples have gone forward and backward through `logits`."""


class _Bridge:
    """Any ART classifier with class gradients, called from Python for every forward and backward pass; it counts by itself."""

    graphs: dict[Hashable, Callable[..., Any]] | None = None

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator

    def count(self, forward: int = 0, backward: int = 0) -> None:
        pass

    def logits(self, x: tf.Tensor) -> tf.Tensor:
        # Asked outside of the custom gradient, which would take the network's variables for its own.
        scores = tf.constant(np.asarray(self._estimator.predict(x.numpy()), dtype=np.float32))

        @tf.custom_gradient
        def called(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            def backward(upstream: tf.Tensor) -> tf.Tensor:
                jacobian = np.asarray(self._estimator.class_gradient(inputs.numpy()), dtype=np.float32)
                return tf.einsum("nc,nc...->n...", upstream, tf.constant(jacobian))

            return scores, backward

        return called(x)


def named(logits: tf.Tensor) -> tf.Tensor:
    """The classes [n] that logits [n, classes] name, as NumPy's `argmax` has it: the first that is not a number, if one is.

    TensorFlow's own passes over what is not a number, and an attack would take for broken what its judge does not.
    """
    return tf.argmax(tf.where(tf.math.is_nan(logits), np.float32(np.inf), logits), axis=1)


def graph_target(estimator: Any) -> GraphTarget:
    """The estimator itself when its logits are TensorFlow ops, else a bridge to it.

    Raises:
        ModelFileError: It has no gradients at all.
    """
    if isinstance(estimator, GraphTarget):
        return estimator
    if not hasattr(estimator, "class_gradient"):
        raise ModelFileError(
            f"Expected a target with gradients. Received: {type(estimator).__name__}",
            hint="Use an attack that needs predictions only (Square), or attack the differentiable twin.",
        )
    return _Bridge(estimator)


def compiled(target: GraphTarget, key: Hashable, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one TensorFlow graph, kept with the target; on a target that cannot be traced, `function` as it is.

    Args:
        target: The network that `function` calls.
        key: Names the function and everything that it has closed over, other than the target.
        function: Takes and returns (nested) tensors. The first axis of each is of any size: it is traced once, whatever the
            number of samples.
    """
    if target.graphs is None:
        return function
    if key not in target.graphs:
        target.graphs[key] = any_size(function)
    return target.graphs[key]


def any_size(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one TensorFlow graph, traced at its first call, for any number of samples.

    It is called without `tf.function`'s search for a trace that fits, which costs as much as a small network.

    Args:
        function: Takes and returns (nested) tensors; the first axis of each is that of the samples.
    """
    traced: list[Any] = []

    def call(*arguments: Any) -> Any:
        if not traced:
            specs = tf.nest.map_structure(
                lambda tensor: tf.TensorSpec((None, *tensor.shape[1:]) if tensor.shape.rank else (), tensor.dtype), arguments
            )
            traced.append(tf.function(function, autograph=False).get_concrete_function(*specs))
        return traced[0](*arguments)

    return call
