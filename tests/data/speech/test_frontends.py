from pathlib import Path

import keras
import librosa
import numpy as np
import pytest
import tensorflow as tf
from pymicro_features import MicroFrontend

from tinyrobust.data.speech.frontend import Grid, front_end
from tinyrobust.data.speech.frontends.micro import HIGH, LOW
from tinyrobust.data.speech.sound import one_second, read_sound
from tinyrobust.recipe.frontend import Mfcc, Micro

SETTINGS = {
    "49x10": Mfcc(kind="mfcc"),
    "49x40": Mfcc(kind="mfcc", coefficients=40),
    "wide": Mfcc(kind="mfcc", window_ms=25, hop_ms=10, mels=64, coefficients=13, low_hz=0, high_hz=8000, top_db=60),
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
    found = front_end(settings).features(audio)
    # One step of float32 at the value of silence, -632 (-800 of 64 bands), is 6e-5; the sums of 64 bands may differ by two.
    expected = [plain(clip, settings) for clip in audio]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4 if settings.mels > 40 else 1e-4)


@pytest.mark.parametrize("settings", [SETTINGS["49x10"], SETTINGS["49x40"]], ids=["49x10", "49x40"])
def test_mfcc_is_librosas_on_real_clips(real: np.ndarray, settings: Mfcc) -> None:
    np.testing.assert_allclose(front_end(settings).features(real), [plain(clip, settings) for clip in real], rtol=0, atol=1e-4)


def test_a_clip_has_49_frames() -> None:
    assert [front_end(settings).shape for settings in (*SETTINGS.values(), MICRO)] == [(49, 10), (49, 40), (97, 13), (49, 40)]


@pytest.mark.parametrize("settings", [SETTINGS["49x10"], SETTINGS["49x40"]], ids=["49x10", "49x40"])
def test_the_layer_is_librosa_to_a_thousandth(real: np.ndarray, settings: Mfcc) -> None:
    expected = np.stack([plain(clip, settings) for clip in real])
    found = keras.ops.convert_to_numpy(front_end(settings).layer()(real.astype(np.float32) / 32768))[..., 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_the_layer_on_a_grid_is_what_the_network_sees(real: np.ndarray) -> None:
    front = front_end(Mfcc(kind="mfcc"))
    found = front.features(real)
    grid = front.grid(found)
    seen = np.clip(keras.ops.convert_to_numpy(front.layer(grid)(real.astype(np.float32) / 32768)), 0, 1)
    assert seen.min() == 0
    assert np.abs(seen * 255 - grid.quantized(found)).max() <= 0.5 + 1e-3


def test_gradients_reach_the_sound_and_are_true(real: np.ndarray) -> None:
    # A clip without exact zeros: where power is below 1e-10 the logarithm is cut off.
    clip = next(one for one in real if np.abs(one.astype(int)).mean() > 500 and one[-1000:].any())
    sound = tf.constant(clip[np.newaxis].astype(np.float32) / 32768)
    layer = front_end(Mfcc(kind="mfcc")).layer()
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
    x = front_end(MICRO).grid(np.empty((0, 49, 40))).quantized(front_end(MICRO).features(real[:5]))
    for clip, found in zip(real[:5], x, strict=True):
        state, rows = MicroFrontend(), []
        for at in range(0, 32000, 320):
            rows += [row] if (row := state.process_samples(clip.tobytes()[at : at + 320]).features) else []
        assert len(rows) == 98
        values = np.rint(np.array(rows[::2]) / 0.0390625).astype(int)
        # Word for word what micro_speech does in C.
        expected = np.clip((values * 256 + 666 // 2) // 666 - 128, -128, 127)
        np.testing.assert_array_equal(found[..., 0].astype(int) - 128, expected)
    assert x.min() == 0
    assert x.max() > 200


def test_micro_on_every_value_is_tflms_integer_division() -> None:
    values = np.arange(0, 2000)
    x = front_end(MICRO).grid(np.empty(0)).quantized(np.repeat(values[:, None, None], 40, axis=2).astype(np.float32))
    np.testing.assert_array_equal(x[:, 0, 7, 0], np.clip((values * 256 + 333) // 666, 0, 255))


def test_strides_of_micro() -> None:
    clip = np.random.default_rng(0).integers(-3000, 3000, (1, 16000)).astype(np.int16)
    every = front_end(Micro(kind="micro", stride=1)).features(clip)
    for stride, rows in ((1, 98), (2, 49), (3, 33), (10, 10)):
        front = front_end(Micro(kind="micro", stride=stride))
        assert front.shape == (rows, 40)
        np.testing.assert_array_equal(front.features(clip), every[:, ::stride])


def test_mfcc_remembers_nothing(audio: np.ndarray) -> None:
    front, sound = front_end(Mfcc(kind="mfcc")), audio[:3].ravel()
    clips = np.stack([sound[start : start + 16_000] for start in range(0, 32_001, 960)])
    np.testing.assert_array_equal(front.stream(60, "carried").feed(sound), front.features(clips))


def test_micro_that_is_reset_is_given_clips_and_micro_that_runs_on_is_not(shared: Path) -> None:
    """A front end that has just been switched on takes noise for sound, until its estimate has settled.

    Measured on these 16 clips, one after the other: 70 % of the cells agree within a step of 255; those of a window's first row
    lie 141 steps apart on average, those of its last 1.6.
    """
    paths = sorted((shared / "data/speech_commands/up").glob("*.flac"))[:16]
    sound, front = np.concatenate([read_sound(path) for path in paths]), front_end(MICRO)
    reset, carried = front.stream(100, "reset").feed(sound), front.stream(100).feed(sound)
    clips = np.stack([sound[start : start + 16_000] for start in range(0, len(sound) - 15_999, 1600)])
    np.testing.assert_array_equal(reset, front.features(clips))
    steps = np.abs(np.clip(carried[1:], LOW, HIGH) - np.clip(reset[1:], LOW, HIGH)) * 255 / (HIGH - LOW)
    by_row = steps.mean(axis=(0, 2))
    assert 0.65 < (steps <= 1).mean() < 0.75
    assert by_row[0] > 120
    assert by_row[-1] < 3


def test_the_grid_covers_four_deviations_and_says_what_it_clips() -> None:
    random = np.random.default_rng(0)
    training = random.normal([[[5, -300, 0]]], [[[1, 50, 0]]], (2000, 10, 3)).astype(np.float32)
    grid = Grid.fitted(training)
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
