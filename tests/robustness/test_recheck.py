"""A file that TensorFlow Lite Micro cannot run is still attacked."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.robustness.targets import int8


def test_a_verdict_that_it_cannot_check_stands(unsupported) -> None:
    assert Int8Model(unsupported).classes == 3
    recheck = int8(unsupported).recheck(np.zeros((4, 8, 8, 1), np.float32), np.arange(4) % 3)
    assert (recheck.checked, recheck.differing) == (0, 0)
    np.testing.assert_array_equal(recheck.predicted, np.arange(4) % 3)


@pytest.fixture(scope="module")
def unsupported(converted: Callable[..., Path]) -> Path:
    """A float file with TOPK_V2, for which TensorFlow Lite Micro has no kernel."""
    image = keras.Input((8, 8, 1), batch_size=1)
    flat = keras.layers.Flatten()(keras.layers.Conv2D(3, 3, activation=tf.sort)(image))
    return converted(keras.Model(image, keras.layers.Dense(3)(flat)))
