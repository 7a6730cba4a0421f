"""TensorFlow Lite Micro's own kernels, and how far the fast interpreter is from them."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.deploy import golden
from tinyrobust.deploy.golden import Golden
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import MissingToolError, ModelFileError
from tinyrobust.robustness.targets import int8


@pytest.fixture(autouse=True)
def _needs_the_wheel(request) -> None:
    if not golden.installed() and "missing" not in request.node.name:
        pytest.skip("tflite-micro is not installed")


def test_it_answers_like_the_fast_interpreter_up_to_rounding(digits_net) -> None:
    file = Int8Model(digits_net.tflite)
    quantized = file.quantized(digits_net.x[:100].astype(np.float32) / 255)
    exact, fast = Golden(digits_net.tflite).run(quantized), file.run(quantized)
    assert exact.shape == fast.shape == (100, 10)
    assert exact.dtype == fast.dtype == np.int8
    assert np.abs(exact.astype(int) - fast).max() <= 2


def test_a_missing_wheel_is_named(digits_net, monkeypatch) -> None:
    monkeypatch.setattr(golden, "installed", lambda: False)
    with pytest.raises(MissingToolError, match="Expected the tflite-micro wheel") as caught:
        Golden(digits_net.tflite)
    assert "tinyrobust[mcu]" in str(caught.value.hint)


def test_what_it_cannot_run_is_said(unsupported) -> None:
    assert Int8Model(unsupported).classes == 3
    with pytest.raises(ModelFileError, match="cannot be run by TensorFlow Lite Micro"):
        Golden(unsupported)


def test_a_verdict_that_it_cannot_check_stands(unsupported) -> None:
    recheck = int8(unsupported).recheck(np.zeros((4, 8, 8, 1), np.float32), np.arange(4) % 3)
    assert (recheck.checked, recheck.differing) == (0, 0)
    np.testing.assert_array_equal(recheck.predicted, np.arange(4) % 3)


@pytest.fixture(scope="module")
def unsupported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float file with TOPK_V2, for which TensorFlow Lite Micro has no kernel."""
    image = keras.Input((8, 8, 1), batch_size=1)
    flat = keras.layers.Flatten()(keras.layers.Conv2D(3, 3, activation=tf.sort)(image))
    path = tmp_path_factory.mktemp("unsupported") / "sorted.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, keras.layers.Dense(3)(flat))).convert())
    return path
