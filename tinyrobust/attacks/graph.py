"""What gradient attacks need of a target: logits as TensorFlow ops, so that a whole attack is one graph.

`GraphClassifier` is such a target. Any other ART classifier with class gradients is bridged: the same attack code then runs
eagerly, as a Python loop around the classifier's own methods.
"""

from collections.abc import Callable, Hashable
from typing import ParamSpec, TypeVar

import numpy as np
import tensorflow as tf
from art.estimators.classification import ClassGradientsMixin

from tinyrobust.attacks.target import Differentiable, Graph, Target
from tinyrobust.errors import ModelFileError

_Inputs = ParamSpec("_Inputs")
_Outputs = TypeVar("_Outputs")


class _Bridge:
    """Any ART classifier with class gradients, called from Python for every forward and backward pass; it counts by itself."""

    graphs: dict[Hashable, Graph] | None = None

    def __init__(self, estimator: ClassGradientsMixin) -> None:
        self._estimator = estimator

    def count(self, forward: int = 0, backward: int = 0) -> None:
        pass

    def redraw(self, restart: int) -> None:
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


def graph_target(estimator: Target) -> Differentiable:
    """The estimator itself when its logits are TensorFlow ops, else a bridge to it.

    Raises:
        ModelFileError: It has no gradients at all.
    """
    if isinstance(estimator, Differentiable):
        return estimator
    if not hasattr(estimator, "class_gradient"):
        raise ModelFileError(
            f"Expected a target with gradients. Received: {type(estimator).__name__}",
            hint="Use an attack that needs predictions only (Square), or attack the differentiable twin.",
        )
    return _Bridge(estimator)


def compiled(target: Differentiable, key: Hashable, function: Callable[_Inputs, _Outputs]) -> Callable[_Inputs, _Outputs]:
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


def any_size(function: Callable[_Inputs, _Outputs]) -> Callable[_Inputs, _Outputs]:
    """`function` as one TensorFlow graph, traced at its first call, for any number of samples.

    It is called without `tf.function`'s search for a trace that fits, which costs as much as a small network.

    Args:
        function: Takes and returns (nested) tensors; the first axis of each is that of the samples.
    """
    traced: list[Callable[_Inputs, _Outputs]] = []

    def call(*arguments: _Inputs.args, **keywords: _Inputs.kwargs) -> _Outputs:
        if not traced:
            shapes = tf.nest.map_structure(
                lambda tensor: tf.TensorSpec((None, *tensor.shape[1:]) if tensor.shape.rank else (), tensor.dtype), arguments
            )
            traced.append(tf.function(function, autograph=False).get_concrete_function(*shapes))
        return traced[0](*arguments, **keywords)

    return call
