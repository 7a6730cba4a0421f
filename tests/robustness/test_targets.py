"""Black boxes, white boxes and their input ranges."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import log_softmax, softmax

from tinyrobust.attacks.repair import UnitMargin, smoothed
from tinyrobust.deploy import tflm
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.rebuild import rebuild
from tinyrobust.errors import ModelFileError
from tinyrobust.robustness import targets
from tinyrobust.robustness.targets import memo as memos


@pytest.fixture
def images(digits_net) -> np.ndarray:
    return digits_net.x[:30].astype(np.float32) / 255


def _upstream(logits: np.ndarray, labels: np.ndarray) -> tf.Tensor:
    """The gradient of the cross-entropy with respect to the logits."""
    return tf.constant(softmax(logits, axis=1) - np.eye(logits.shape[1])[labels], tf.float32)


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
def test_repeated_questions_cost_nothing_until_forgotten(make, digits_net, images) -> None:
    target = make(digits_net)
    first = target.predict(images)
    asked = target.queries
    again = target.predict(np.concatenate([images[::-1], images]))
    np.testing.assert_array_equal(again, np.concatenate([first[::-1], first]))
    assert target.queries == target.forward_passes == asked == 30
    assert target.backward_passes == 0
    assert target.predict(images[:0]).shape == (0, 10)
    target.forget()
    target.predict(images)
    assert target.queries == 60


def test_a_full_memo_forgets_and_stays_right(monkeypatch) -> None:
    monkeypatch.setattr(memos, "_MEMORY", 0)
    memo = memos.Memo(lambda rows: rows * np.float32(2))
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
    assert targets.KerasTarget(rebuild(path), input_range=(-100.0, 100.0)).nb_classes == 12


_RANGES = {
    "0..255": (0.0, 255.0),
    "-1..1": (-1.0, 1.0),
    "pixel - 128": (-128.0, 127.0),
    "normalised": targets.normalised([0.4, 0.5, 0.6], [0.2, 0.3, 0.25]),
}


@pytest.mark.parametrize("name", _RANGES)
def test_an_epsilon_means_the_same_in_every_input_range(name) -> None:
    """The same network behind different preprocessing has the same logits and gradients for images in [0, 1]."""
    low, high = (np.broadcast_to(np.float32(bound), (3,)) for bound in _RANGES[name])
    keras.utils.set_random_seed(0)
    inner = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    own = keras.Input((8, 8, 3))
    undone = keras.layers.Rescaling((1 / (high - low)).tolist(), (-low / (high - low)).tolist())(own)
    stated = targets.KerasTarget(keras.Model(own, inner(undone)), input_range=_RANGES[name])
    plain = targets.KerasTarget(inner)
    x, y = np.random.default_rng(0).random((9, 8, 8, 3), dtype=np.float32), np.arange(9) % 3
    np.testing.assert_allclose(stated.predict(x), plain.predict(x), atol=1e-4)
    np.testing.assert_allclose(stated.loss_gradient(x, y), plain.loss_gradient(x, y), atol=1e-4)
    assert stated.input_range == _RANGES[name]


def test_normalisation_needs_a_positive_deviation_per_channel() -> None:
    assert targets.normalised([0.5], [0.25]) == ((-2.0,), (2.0,))
    for mean, std in (([0.5], [0.0]), ([0.5, 0.5], [1.0])):
        with pytest.raises(ModelFileError, match="positive deviation per channel"):
            targets.normalised(mean, std)


def test_the_rebuilt_white_box_agrees_with_its_file(shared) -> None:
    path = shared / "peers" / "mlperf-tiny-ic.tflite"
    x = np.random.default_rng(0).random((20, 32, 32, 3), dtype=np.float32)
    flashed = targets.int8(path)
    assert flashed.input_range == (0, 255)
    white = targets.KerasTarget(rebuild(path), input_range=flashed.input_range)
    assert np.mean(white.predict(x).argmax(axis=1) == flashed.predict(x).argmax(axis=1)) >= 0.9
    assert np.any(white.loss_gradient(x, np.arange(20) % 10).reshape(20, -1), axis=1).all()


def test_repaired_names_the_same_classes(distilled_net) -> None:
    x = distilled_net.x[:100].astype(np.float32) / 255
    plain, mended = (
        targets.KerasTarget(distilled_net.model),
        targets.KerasTarget(smoothed(distilled_net.model), transform=UnitMargin()),
    )
    np.testing.assert_array_equal(plain.predict(x).argmax(axis=1), mended.predict(x).argmax(axis=1))
    gradients = [target.loss_gradient(x, distilled_net.y[:100]).reshape(100, -1) for target in (plain, mended)]
    assert [bool(np.any(gradient, axis=1).all()) for gradient in gradients] == [False, True]


@pytest.mark.parametrize("rebuild_it", [False, True])
def test_bpda_has_the_files_logits_and_the_networks_slope_there(rebuild_it, digits_net, images) -> None:
    flashed = targets.int8(digits_net.tflite)
    model = rebuild(digits_net.tflite) if rebuild_it else digits_net.model
    target = targets.BpdaTarget(flashed, model)
    labels = digits_net.y[:30]
    logits = flashed.logits(images)
    np.testing.assert_array_equal(target.predict(images), logits)
    with tf.GradientTape() as tape:
        inputs = tf.constant(images)
        tape.watch(inputs)
        slope = model(inputs)
    expected = tape.gradient(slope, inputs, output_gradients=_upstream(logits, labels))
    np.testing.assert_allclose(target.loss_gradient(images, labels), expected, atol=1e-5)
    assert (target.forward_passes, target.backward_passes) == (60, 30)


def test_bpda_reads_the_logits_before_a_softmax(shared) -> None:
    path = shared / "peers" / "mlperf-tiny-ic.tflite"
    flashed = targets.int8(path)
    x = np.random.default_rng(0).random((6, 32, 32, 3), dtype=np.float32)
    target = targets.BpdaTarget(flashed, rebuild(path), model_range=flashed.input_range)
    logits = target.predict(x)
    assert flashed.model_file.ends_in_softmax
    np.testing.assert_allclose(softmax(logits, axis=1), flashed.predict(x), atol=2 / 256)
    assert np.any(target.loss_gradient(x, logits.argmax(axis=1)).reshape(6, -1), axis=1).all()


def test_bpda_needs_a_network_of_the_same_shape(digits_net, shared) -> None:
    with pytest.raises(ModelFileError, match=r"Expected a network of input shape and classes .*32, 32, 3"):
        targets.BpdaTarget(targets.int8(shared / "peers" / "mlperf-tiny-ic.tflite"), digits_net.model)


@pytest.fixture(scope="module")
def members(digits_net) -> list[keras.Model]:
    keras.utils.set_random_seed(5)
    other = keras.models.clone_model(keras.Model(digits_net.model.inputs[0], digits_net.model.outputs[0]))
    other.set_weights(
        [weight + np.random.default_rng(1).normal(0, 0.1, weight.shape) for weight in digits_net.model.get_weights()]
    )
    return [digits_net.model, other]


def test_an_ensemble_is_the_mean_of_its_members(members, images) -> None:
    logits = np.stack([np.asarray(member(images)) for member in members])
    by_logits = targets.EnsembleTarget(members, mean="logits")
    by_probabilities = targets.EnsembleTarget(members, mean="probabilities")
    np.testing.assert_allclose(by_logits.predict(images), logits.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(
        softmax(by_probabilities.predict(images), axis=1), softmax(logits, axis=2).mean(axis=0), atol=1e-5
    )
    assert by_logits.queries == 60


def test_probabilities_that_underflow_keep_their_logarithms(members, images) -> None:
    far = [keras.Model(m.inputs[0], keras.layers.Rescaling(200.0)(m.outputs[0])) for m in members]
    found = targets.EnsembleTarget(far).predict(images)
    each = np.stack([log_softmax(np.asarray(member(images), np.float64), axis=1) for member in far])
    np.testing.assert_allclose(found, np.logaddexp(*each) - np.log(2), rtol=1e-3, atol=1e-2)


def test_an_ensembles_gradient_is_that_of_its_mean(members, images, digits_net) -> None:
    target, labels = targets.EnsembleTarget(members, mean="logits"), digits_net.y[:30]
    upstream = _upstream(target.predict(images), labels)
    expected = np.zeros_like(images)
    for member in members:
        with tf.GradientTape() as tape:
            inputs = tf.constant(images)
            tape.watch(inputs)
            logits = member(inputs)
        expected += tape.gradient(logits, inputs, output_gradients=upstream) / 2
    np.testing.assert_allclose(target.loss_gradient(images, labels), expected, atol=1e-5)


def test_members_must_fit_together(members) -> None:
    other = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    for models in ([], [members[0], other]):
        with pytest.raises(ModelFileError, match="Expected members of one input shape"):
            targets.EnsembleTarget(models)


def test_verdicts_are_checked_on_the_golden(digits_net, images) -> None:
    target = targets.int8(digits_net.tflite)
    predicted = target.predict(images).argmax(axis=1)
    recheck = target.recheck(images, predicted)
    assert recheck.checked == (30 if tflm.available() else 0)
    assert recheck.differing == np.sum(recheck.predicted != predicted) <= 1


def test_a_false_verdict_is_found_out(digits_net, images) -> None:
    if not tflm.available():
        pytest.skip("tflite-micro is not installed")
    target = targets.int8(digits_net.tflite)
    false = (target.predict(images).argmax(axis=1) + 1) % 10
    assert target.recheck(images, false).differing >= 29


def test_without_the_golden_nothing_is_claimed(digits_net, images, monkeypatch) -> None:
    monkeypatch.setattr(tflm, "available", lambda: False)
    predicted = np.zeros(30, np.int64)
    recheck = targets.int8(digits_net.tflite).recheck(images, predicted)
    assert (recheck.checked, recheck.differing) == (0, 0)
    np.testing.assert_array_equal(recheck.predicted, predicted)


def test_a_file_that_cannot_be_rebuilt_is_still_a_black_box(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 1), batch_size=1)
    flat = keras.layers.Flatten()(keras.layers.Conv2D(3, 3, activation=tf.sort)(image))
    path = tmp_path / "strange.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, keras.layers.Dense(3)(flat))).convert())
    assert targets.int8(path).predict(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 3)
    with pytest.raises(ModelFileError, match=r"Received: .*TOPK_V2"):
        rebuild(path)
