from pathlib import Path

import keras
import librosa
import numpy as np
import pytest
import tensorflow as tf
from pymicro_features import MicroFrontend

from tinyrobust.data.speech.differentiable import MfccLayer
from tinyrobust.data.speech.frontend import Grid, features, fitted_grid, shape
from tinyrobust.data.speech.mfcc import mfcc
from tinyrobust.data.speech.sound import one_second, read_sound
from tinyrobust.recipe.frontend import Mfcc, Micro

SETTINGS = {
    "49x10": Mfcc(),
    "49x40": Mfcc(coefficients=40),
    "wide": Mfcc(window_ms=25, hop_ms=10, mels=64, coefficients=13, low_hz=0, high_hz=8000, top_db=60),
}
MICRO = Micro(kind="micro")


def plain(clip: np.ndarray, settings: Mfcc) -> np.ndarray:
    """What everybody writes with librosa."""
    window, hop = settings.window_ms * 16, settings.hop_ms * 16
    sound = clip.astype(np.float32) / 32768
    bands = librosa.feature.melspectrogram(
        y=sound,
        sr=16000,
        n_fft=512,
        win_length=window,
        hop_length=hop,
        center=False,
        n_mels=settings.mels,
        fmin=settings.low_hz,
        fmax=settings.high_hz,
    )
    return librosa.feature.mfcc(S=librosa.power_to_db(bands, top_db=settings.top_db), n_mfcc=settings.coefficients).T


@pytest.fixture(scope="module")
def audio() -> np.ndarray:
    """Loud and quiet tones, noise, a click, silence: what rounds badly."""
    random = np.random.default_rng(0)
    time = np.arange(16000) / 16000
    sounds = [0.9 * np.sin(2 * np.pi * hertz * time) for hertz in (50, 440, 3000, 7000)]
    sounds += [1e-3 * np.sin(2 * np.pi * 440 * time), random.normal(0, 0.1, 16000), random.normal(0, 1e-4, 16000)]
    sounds += [np.eye(1, 16000, 8000)[0], np.zeros(16000), np.where(time < 0.3, random.normal(0, 0.3, 16000), 0)]
    return np.clip(np.rint(np.array(sounds) * 32768), -32768, 32767).astype(np.int16)


@pytest.fixture(scope="module")
def real(shared: Path) -> np.ndarray:
    paths = sorted((shared / "data" / "speech_commands").glob("*/*.flac"))[::80]
    return np.stack([one_second(read_sound(path, seconds=1)) for path in paths])


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_mfcc_is_librosas(audio: np.ndarray, settings: Mfcc) -> None:
    found = mfcc(audio, settings)
    assert found.shape == (len(audio), *shape(settings))
    # One step of float32 at the value of silence, -632 (-800 of 64 bands), is 6e-5; the sums of 64 bands may differ by two.
    expected = [plain(clip, settings) for clip in audio]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 if settings.mels > 40 else 1e-4)


@pytest.mark.parametrize("settings", [SETTINGS["49x10"], SETTINGS["49x40"]], ids=["49x10", "49x40"])
def test_mfcc_is_librosas_on_real_clips(real: np.ndarray, settings: Mfcc) -> None:
    np.testing.assert_allclose(mfcc(real, settings), [plain(clip, settings) for clip in real], rtol=0, atol=1e-4)


def test_a_clip_has_49_frames() -> None:
    assert [shape(settings) for settings in (*SETTINGS.values(), MICRO)] == [(49, 10), (49, 40), (97, 13), (49, 40)]


@pytest.mark.parametrize("settings", [SETTINGS["49x10"], SETTINGS["49x40"]], ids=["49x10", "49x40"])
def test_the_layer_is_librosa_to_a_thousandth(real: np.ndarray, settings: Mfcc) -> None:
    expected = np.stack([plain(clip, settings) for clip in real])
    found = keras.ops.convert_to_numpy(MfccLayer(settings)(real.astype(np.float32) / 32768))[..., 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_the_layer_on_a_grid_is_what_the_network_sees(real: np.ndarray) -> None:
    settings = Mfcc()
    found = mfcc(real, settings)
    grid = fitted_grid(found, settings)
    seen = keras.ops.convert_to_numpy(MfccLayer(settings, grid, clip=True)(real.astype(np.float32) / 32768))
    assert seen.min() == 0
    assert np.abs(seen * 255 - grid.quantized(found)).max() <= 0.5 + 1e-3


def test_gradients_reach_the_sound_and_are_true(real: np.ndarray) -> None:
    # A clip without exact zeros: where power is below 1e-10 the logarithm is cut off.
    clip = next(one for one in real if np.abs(one.astype(int)).mean() > 500 and one[-1000:].any())
    sound = tf.constant(clip[np.newaxis].astype(np.float32) / 32768)
    layer = MfccLayer(Mfcc())
    weights = tf.constant(np.random.default_rng(0).normal(size=(1, 49, 10, 1)).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(sound)
        value = tf.reduce_sum(layer(sound) * weights)
    gradient = tape.gradient(value, sound)
    assert np.isfinite(gradient).all()
    direction = gradient / tf.norm(gradient)
    step = 1e-4
    ahead, behind = (tf.reduce_sum(layer(sound + sign * step * direction) * weights) for sign in (1, -1))
    np.testing.assert_allclose((ahead - behind) / (2 * step), tf.norm(gradient), rtol=0.05)


def test_micro_is_the_c_codes_output_on_tflms_grid(real: np.ndarray) -> None:
    x = fitted_grid(np.empty((0, 49, 40)), MICRO).quantized(features(real[:5], MICRO))
    for clip, found in zip(real[:5], x, strict=True):
        front_end, rows = MicroFrontend(), []
        for at in range(0, 32000, 320):
            rows += [row] if (row := front_end.process_samples(clip.tobytes()[at : at + 320]).features) else []
        assert len(rows) == 98
        values = np.rint(np.array(rows[::2]) / 0.0390625).astype(int)
        # Word for word what micro_speech does in C.
        expected = np.clip((values * 256 + 666 // 2) // 666 - 128, -128, 127)
        np.testing.assert_array_equal(found[..., 0].astype(int) - 128, expected)
    assert x.min() == 0
    assert x.max() > 200


def test_micro_on_every_value_is_tflms_integer_division() -> None:
    values = np.arange(0, 2000)
    x = fitted_grid(np.empty(0), MICRO).quantized(np.repeat(values[:, None, None], 40, axis=2).astype(np.float32))
    np.testing.assert_array_equal(x[:, 0, 7, 0], np.clip((values * 256 + 333) // 666, 0, 255))


def test_a_clip_does_not_change_the_features_of_the_next(audio: np.ndarray) -> None:
    for settings in (Mfcc(), MICRO):
        together = features(audio, settings)
        np.testing.assert_array_equal(together[3:4], features(audio[3:4], settings))


def test_strides_of_micro() -> None:
    clip = np.random.default_rng(0).integers(-3000, 3000, (1, 16000)).astype(np.int16)
    every = features(clip, Micro(kind="micro", stride=1))
    for stride, rows in ((1, 98), (2, 49), (3, 33), (10, 10)):
        settings = Micro(kind="micro", stride=stride)
        assert shape(settings) == (rows, 40)
        np.testing.assert_array_equal(features(clip, settings), every[:, ::stride])


def test_the_grid_covers_four_deviations_and_says_what_it_clips() -> None:
    random = np.random.default_rng(0)
    training = random.normal([[[5, -300, 0]]], [[[1, 50, 0]]], (2000, 10, 3)).astype(np.float32)
    grid = fitted_grid(training, Mfcc())
    np.testing.assert_allclose(grid.low[:2], [1, -500], atol=2)
    np.testing.assert_allclose(grid.high[:2], [9, -100], atol=2)
    x = grid.quantized(training)
    assert (x.dtype, x.shape) == (np.uint8, (2000, 10, 3, 1))
    assert np.abs(x[..., 0].mean(axis=(0, 1)) - 127.5).max() < 1
    assert 0 < grid.clipped(training) < 3e-4
    back = grid.low + x[..., 0] / 255 * (grid.high - grid.low)
    inside = (training > grid.low) & (training < grid.high)
    assert np.abs(back - training)[inside].max() <= (grid.high - grid.low).max() / 510 + 1e-3


def test_a_grid_rounds_to_the_nearest_step() -> None:
    grid = Grid(np.array([0.0]), np.array([255.0]))
    x = grid.quantized(np.array([[[-3.0], [0.49], [0.5], [254.49], [254.6], [999.0]]], np.float32))
    assert x[0, :, 0, 0].tolist() == [0, 0, 1, 254, 255, 255]
