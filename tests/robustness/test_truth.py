"""What a gradient promises and what comes of it, on networks whose margins are known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.attacks.estimator import GraphClassifier
from tinyrobust.robustness.truth import Margins

_SHAPE = (4, 4, 1)
_RADIUS = 0.1


def _network(margin) -> GraphClassifier:
    """Two logits, 0 and minus what `margin` makes of inputs [n, 16]: for the class 1 that is how far it is behind."""

    def logits(x: tf.Tensor) -> tf.Tensor:
        return tf.stack([tf.zeros(tf.shape(x)[:1]), -margin(tf.reshape(x, (-1, 16)))], axis=1)

    return GraphClassifier(logits, _SHAPE, 2)


_SIGNS = np.where(np.arange(16) % 3, 1.0, -1.0).astype(np.float32)


def _linear(x: tf.Tensor) -> tf.Tensor:
    return tf.linalg.matvec(x, 2 * _SIGNS)


def _treads(x: tf.Tensor) -> tf.Tensor:
    return tf.floor(5 * _linear(x)) + 0.0 * _linear(x)


def _falling_treads(x: tf.Tensor) -> tf.Tensor:
    return 2 * tf.stop_gradient(_linear(x)) - _linear(x)


def _wave(x: tf.Tensor) -> tf.Tensor:
    return 0.01 * _linear(x) + 0.1 * tf.sin(500 * tf.linalg.matvec(x, tf.reverse(tf.constant(_SIGNS), [0]) * 0.37))


@pytest.fixture
def samples() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).uniform(0.3, 0.7, (24, *_SHAPE)).astype(np.float32), np.ones(24, np.int64)


def _promise(margin, samples, view=None):
    network = _network(margin)
    return Margins(network.predict, *samples, _RADIUS, "linf").along(view or network)


def test_a_linear_network_keeps_its_promise(samples) -> None:
    promise = _promise(_linear, samples)
    # 16 slopes of 2, each over the radius.
    np.testing.assert_allclose(promise.promised, 16 * 2 * _RADIUS, rtol=1e-4)
    np.testing.assert_allclose(promise.along, promise.promised, rtol=1e-4)
    assert (promise.elsewhere < promise.along).all()
    assert promise.told.all()


def test_the_box_is_no_room(samples) -> None:
    x, label = samples
    edge = np.where(_SIGNS.reshape(_SHAPE) > 0, np.float32(1), np.float32(0)) + 0 * x
    promise = _promise(_linear, (edge, label))
    np.testing.assert_allclose([promise.promised, promise.along], 0, atol=1e-6)


def test_treads_have_no_slope_and_do_not_tell(samples) -> None:
    promise = _promise(_treads, samples)
    np.testing.assert_array_equal(promise.promised, 0)
    assert not promise.kept.any()
    # A view that knows what is below the treads does.
    assert _promise(_treads, samples, _network(_linear)).kept.all()


def test_slopes_that_are_turned_around_do_not_tell(samples) -> None:
    assert (_promise(_falling_treads, samples).promised > 0).all()
    assert not _promise(_treads, samples, _network(_falling_treads)).kept.any()


def test_steep_slopes_that_go_nowhere_do_not_tell(samples) -> None:
    # At its crests a wave is flat, and promises little.
    assert _promise(_wave, samples).told.mean() < 0.2


def test_a_curve_that_falls_behind_half_of_the_way_still_tells(samples) -> None:
    x, label = samples

    def hill(values: tf.Tensor) -> tf.Tensor:
        away = _linear(values - x.reshape(-1, 16))  # along the slope it is 3.2 at the radius, 1.6 at half of the way
        return away - 0.32 * tf.square(away)

    promise = Margins(_network(hill).predict, x, label, _RADIUS, "linf").along(_network(hill))
    np.testing.assert_allclose(promise.along, 1.6 - 0.32 * 1.6**2, rtol=1e-3)
    assert promise.along.max() < promise.promised.min()
    assert promise.told.all()


def test_scales_of_a_view_are_no_promise(samples) -> None:
    large = _network(lambda x: 1000 * _linear(x))
    promise = _promise(_linear, samples, large)
    assert promise.kept.all()
    assert not promise.told.any()


def test_sound_has_a_radius_for_every_clip() -> None:
    """SNR: an L2 ball whose radius is a share of the clip's own length."""
    weights = np.zeros(32, np.float32)
    weights[4] = 3.0
    network = GraphClassifier(lambda x: tf.stack([tf.linalg.matvec(x, weights), 0 * x[:, 0]], axis=1), (32,), 2)
    clips = np.full((2, 32), 0.5, np.float32)
    clips[0, 8], clips[1, 8] = 0.7, 0.9
    promise = Margins(network.predict, clips, np.ones(2, np.int64), 0.5, "snr").along(network)
    np.testing.assert_allclose(promise.along, 3.0 * 0.5 * np.array([0.2, 0.4]), rtol=1e-3)
    assert promise.told.all()


def test_a_keras_network_is_one_too(samples) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input(_SHAPE), keras.layers.Flatten(), keras.layers.Dense(3)])
    network = GraphClassifier(lambda x: model(x, training=False), _SHAPE, 3)
    assert Margins(network.predict, *samples, _RADIUS, "linf").along(network).told.mean() > 0.9
