import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.attacks import losses
from tinyrobust.errors import RecipeError

_LOGITS = tf.constant([[5.0, 2.0, 1.0, -1.0, -3.0], [0.0, 4.0, 3.0, 1.0, 1.0]])
_LABEL, _GOAL = tf.constant([0, 2], tf.int64), tf.constant([3, 1], tf.int64)


def _value(name: str, *, targeted: bool = False, scale: float = 1.0) -> np.ndarray:
    return losses.function(name, 5, targeted=targeted)(_LOGITS * scale, _LABEL, _GOAL).numpy()


def test_values_are_those_of_the_papers() -> None:
    logits = _LOGITS.numpy()
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[[0, 1], [0, 2]]
    np.testing.assert_allclose(_value("ce"), expected, rtol=1e-5)
    np.testing.assert_allclose(_value("margin"), [-3, 1])
    np.testing.assert_allclose(_value("dlr"), [-3 / 4, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose(_value("targeted-dlr"), [-6 / 5, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize("name", ["dlr", "targeted-dlr"])
def test_ratios_do_not_see_the_scale_of_the_logits(name) -> None:
    np.testing.assert_allclose(_value(name, scale=1000), _value(name), rtol=1e-5)


def test_targeted_losses_are_turned_around() -> None:
    np.testing.assert_allclose(_value("margin", targeted=True), -_value("margin"))


@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [("dlr", 3, [-3 / 4, 1 / 4]), ("dlr", 2, [-3, -4]), ("targeted-dlr", 3, [-4 / 4, 1 / 4]), ("targeted-dlr", 2, [-3, -4])],
)
def test_with_few_classes_the_ratios_have_what_is_left_of_their_divisor(name, classes, expected) -> None:
    label, goal = ([0, 2], [2, 1]) if classes == 3 else ([0, 1], [1, 0])
    label, goal = tf.constant(label, tf.int64), tf.constant(goal, tf.int64)
    value = losses.function(name, classes)(_LOGITS[:, :classes], label, goal)
    np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_single_classes_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"at least two classes\. Received: 1"):
        losses.function("dlr", 1)
