import numpy as np
import pytest

from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import ModelFileError
from tinyrobust.robustness import targets


@pytest.fixture
def images(digits_net) -> np.ndarray:
    return digits_net.x[:30].astype(np.float32) / 255


def test_int8_gives_the_files_own_scores(digits_net, images) -> None:
    target = targets.int8(digits_net.tflite)
    np.testing.assert_array_equal(target.predict(images), Int8Model(digits_net.tflite).predict(images))
    assert (target.input_shape, target.nb_classes, target.channels_first) == ((8, 8, 1), 10, False)
    assert tuple(target.clip_values) == (0, 1)


def test_keras_gives_the_networks_logits(digits_net, images) -> None:
    np.testing.assert_allclose(
        targets.KerasTarget(digits_net.model).predict(images), digits_net.model(images), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("make", [lambda net: targets.int8(net.tflite), lambda net: targets.KerasTarget(net.model)])
def test_repeated_questions_cost_nothing(make, digits_net, images) -> None:
    target = make(digits_net)
    first = target.predict(images)
    asked = target.queries
    again = target.predict(np.concatenate([images[::-1], images]))
    np.testing.assert_array_equal(again, np.concatenate([first[::-1], first]))
    assert target.queries == asked == 30
    assert target.predict(images[:0]).shape == (0, 10)


def test_a_full_memo_forgets_and_stays_right(monkeypatch) -> None:
    monkeypatch.setattr(targets, "_MEMORY", 0)
    memo = targets.Memo(lambda rows: rows * np.float32(2))
    for rows in (np.ones((2, 3), np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)):
        np.testing.assert_array_equal(memo(rows), 2 * rows)


def test_pixels_0_to_255_are_recognised(shared) -> None:
    path = shared / "peers" / "mlperf-tiny-ic.tflite"
    target = targets.int8(path)
    assert target.input_range == (0, 255)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(target.predict(pixels / 255), Int8Model(path).predict(pixels))


def test_an_unusual_input_range_must_be_said(shared) -> None:
    path = shared / "peers" / "mlperf-tiny-kws.tflite"
    with pytest.raises(ModelFileError, match="expected an input range like"):
        targets.int8(path)
    assert targets.int8(path, (-100.0, 100.0)).nb_classes == 12
