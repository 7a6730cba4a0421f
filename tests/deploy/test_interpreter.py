import numpy as np
import pytest

from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import ModelFileError


@pytest.fixture(scope="module")
def model(digits_net) -> Int8Model:
    return Int8Model(digits_net.tflite)


def test_the_file_describes_itself(model) -> None:
    assert model.input_shape == (8, 8, 1)
    assert model.classes == 10
    assert model.input_range == pytest.approx((0, 1))


def test_it_agrees_with_the_network(model, digits_net) -> None:
    x = digits_net.x.astype(np.float32) / 255
    logits, expected = model.predict(x), np.asarray(digits_net.model(x))
    assert logits.dtype == np.float32
    assert (logits.argmax(1) == expected.argmax(1)).mean() > 0.98
    assert np.abs(logits - expected).mean() < 0.3


def test_pixels_become_pixel_minus_128(model, digits_net) -> None:
    x = digits_net.x.astype(np.float32) / 255
    np.testing.assert_array_equal(model.quantized(x), digits_net.x.astype(np.int16) - 128)


def test_inputs_saturate_and_halves_round_away_from_zero(model) -> None:
    x = np.zeros((4, 8, 8, 1), np.float32)
    x[:, 0, 0, 0] = (-1, 2, 10.5 / 255, 10.4 / 255)
    assert model.quantized(x)[:, 0, 0, 0].tolist() == [-128, 127, -117, -118]


def test_raw_outputs_are_the_dequantized_ones(model, digits_net) -> None:
    x = digits_net.x[:5].astype(np.float32) / 255
    inputs = model.quantized(x)
    raw = model.run(inputs)
    assert raw.dtype == np.int8
    np.testing.assert_array_equal(model.scores(inputs, raw), model.predict(x))


def test_no_images_give_no_rows(model) -> None:
    assert model.predict(np.zeros((0, 8, 8, 1), np.float32)).shape == (0, 10)


@pytest.mark.parametrize("shape", [(8, 8, 1), (2, 8, 8, 3), (2, 64)], ids=str)
def test_another_shape_is_refused(shape, model) -> None:
    with pytest.raises(ModelFileError, match=r"expected inputs of shape \[n, 8, 8, 1\]\. Received: \("):
        model.predict(np.zeros(shape, np.float32))


def test_another_type_is_refused(model) -> None:
    with pytest.raises(ModelFileError, match=r"expected int8 inputs\. Received: uint8"):
        model.run(np.zeros((1, 8, 8, 1), np.uint8))


@pytest.mark.parametrize("content", [b"", b"not a model at all", None], ids=["empty", "text", "truncated"])
def test_a_broken_file_is_refused(content, digits_net, tmp_path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(digits_net.tflite.read_bytes()[:900] if content is None else content)
    with pytest.raises(ModelFileError, match=r"broken\.tflite"):
        Int8Model(path)


def test_a_float_file_runs_too(digits_net, converted) -> None:
    path = converted(digits_net.model)
    x = digits_net.x[:20].astype(np.float32) / 255
    model = Int8Model(path)
    assert model.input_range is None
    np.testing.assert_allclose(model.predict(x), digits_net.model(x), rtol=1e-4, atol=1e-4)


def test_a_batch_in_the_file_is_refused(digits_net, converted) -> None:
    path = converted(digits_net.model, batch=2)
    with pytest.raises(ModelFileError, match="one image at a time"):
        Int8Model(path)


def test_a_strangers_file_runs(shared) -> None:
    model = Int8Model(shared / "peers" / "mlperf-tiny-ic.tflite")
    assert model.input_shape == (32, 32, 3)
    assert model.input_range == (0, 255)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(model.predict(pixels).sum(1), 1, atol=0.05)  # it ends in a softmax


def test_logits_are_what_goes_into_the_softmax(shared) -> None:
    file = Int8Model(shared / "peers" / "mlperf-tiny-ic.tflite")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3)).astype(np.float32)
    quantized = file.quantized(pixels)
    logits = file.logits(quantized)
    assert file.ends_in_softmax
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(powers / powers.sum(axis=1, keepdims=True), file.predict(pixels), atol=1 / 256)
    assert logits.dtype == np.float32


def test_without_a_softmax_the_outputs_are_the_logits(model, digits_net) -> None:
    x = digits_net.x[:20].astype(np.float32) / 255
    assert not model.ends_in_softmax
    np.testing.assert_array_equal(model.logits(model.quantized(x)), model.predict(x))
