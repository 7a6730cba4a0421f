"""What gradient attacks maximise, as functions of the logits: one value a sample.

A loss that divides by differences of logits does not change when the logits are scaled, so a network cannot hide behind large
ones; the cross-entropy can saturate (Croce & Hein 2020, section 4). The papers' ratios need three or four classes; what stands
in for them below that is said with each.
"""

from collections.abc import Callable
from typing import Literal

import tensorflow as tf

from tinyrobust.attacks.specs import Loss
from tinyrobust.errors import RecipeError

# From logits [n, classes], labels [n] and the classes to reach [n] (not every loss looks at them) to values [n].
Function = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

_TINY = 1e-12


def cross_entropy(logits: tf.Tensor, label: tf.Tensor, goal: tf.Tensor) -> tf.Tensor:  # noqa: ARG001 - one signature for all
    """Cross-entropy of the label [n]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)


def margin(logits: tf.Tensor, label: tf.Tensor, goal: tf.Tensor) -> tf.Tensor:  # noqa: ARG001 - one signature for all
    """The highest other logit minus the label's [n]: positive when the sample is misclassified (Carlini & Wagner 2017, f6)."""
    return _highest_other(logits, label) - _of(logits, label)


def dlr(logits: tf.Tensor, label: tf.Tensor, goal: tf.Tensor) -> tf.Tensor:  # noqa: ARG001 - one signature for all
    """Difference of logits ratio [n] (Croce & Hein 2020, eq. 6): the margin over the gap of first and third logit.

    With two classes, the margin itself: over its own size it would be constant.
    """
    ahead = _highest_other(logits, label) - _of(logits, label)
    if logits.shape[-1] < 3:
        return ahead
    highest = tf.math.top_k(logits, 3).values
    return ahead / (highest[:, 0] - highest[:, 2] + _TINY)


def targeted_dlr(logits: tf.Tensor, label: tf.Tensor, goal: tf.Tensor) -> tf.Tensor:
    """Targeted difference of logits ratio [n] (Croce & Hein 2020, eq. 7): from the label towards one other class.

    With three classes over the gap of first and third logit, with two the difference itself; see `dlr`.
    """
    ahead = _of(logits, goal) - _of(logits, label)
    if logits.shape[-1] < 3:
        return ahead
    highest = tf.math.top_k(logits, min(4, logits.shape[-1])).values
    return ahead / (highest[:, 0] - tf.reduce_mean(highest[:, 2:], axis=1) + _TINY)


def function(name: Loss | Literal["targeted-dlr"], classes: int, *, targeted: bool = False) -> Function:
    """The loss called `name`, to be maximised.

    Args:
        name: Which.
        classes: Of the network.
        targeted: The labels are classes to reach: the loss is turned around.

    Raises:
        RecipeError: The network has a single class.
    """
    if classes < 2:
        raise RecipeError(f"Expected a network of at least two classes. Received: {classes}")
    chosen = {"ce": cross_entropy, "dlr": dlr, "margin": margin, "targeted-dlr": targeted_dlr}[name]
    return (lambda logits, label, goal: -chosen(logits, label, goal)) if targeted else chosen


def _of(logits: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    return tf.gather(logits, index, axis=1, batch_dims=1)


def _highest_other(logits: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
    others = tf.where(tf.one_hot(label, logits.shape[-1], on_value=True, off_value=False), -float("inf"), logits)
    return tf.reduce_max(others, axis=1)
