"""Sound as an input: units, balls of a signal-to-noise ratio, 16-bit samples, and gradients through the front end."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tinyrobust.attacks.norms import distance, project, radii
from tinyrobust.attacks.specs import Pgd, Shift, Square
from tinyrobust.data.speech.frontend import Grid, front_end
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.data.speech.sound import one_second, read_sound
from tinyrobust.data.speech.units import amplitudes, samples, shifted, unit
from tinyrobust.errors import ModelFileError, TinyRobustError
from tinyrobust.recipe.frontend import Mfcc, Micro
from tinyrobust.robustness.bounds import inside
from tinyrobust.robustness.distance import SOUND_NORMS, distances, moved
from tinyrobust.robustness.grid import sampled
from tinyrobust.robustness.targets import KerasTarget, SoundFrontEnd

MFCC = front_end(Mfcc(kind="mfcc"))


@pytest.fixture(scope="module")
def clips(shared: Path) -> np.ndarray:
    """Of some recordings of four words, those whose quietest frame is the loudest.

    Around digital silence, where logarithms are steepest, single precision is too coarse for finite differences.
    """
    chosen = []
    for word in ("up", "down", "two", "go"):
        paths = sorted((shared / "data/speech_commands" / word).iterdir())[:25]
        sounds = [one_second(read_sound(path)) for path in paths]
        chosen.append(max(sounds, key=lambda sound: sound.reshape(50, 320).astype(float).std(axis=1).min()))
    return np.stack(chosen)


def _record(settings: Mfcc | Micro, grid: Grid, shape: tuple[int, int]) -> FrontendRecord:
    low, high = tuple(grid.low.tolist()), tuple(grid.high.tolist())
    about = {"clipped": 0.0, "classes": ("a", "b", "c"), "partition": "none", "padded": {}, "skipped": ()}
    return FrontendRecord(settings=settings, shape=shape, low=low, high=high, **about)


@pytest.fixture(scope="module")
def sound_front_end(clips: np.ndarray) -> SoundFrontEnd:
    return SoundFrontEnd(_record(MFCC.settings, MFCC.grid(MFCC.features(clips)), (49, 10)))


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Smooth, so that finite differences say what its gradient is."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.layers.Input((49, 10, 1)),
        keras.layers.Rescaling(4.0, -2.0),
        keras.layers.Conv2D(8, (10, 4), strides=2, activation="tanh"),
        keras.layers.Flatten(),
        keras.layers.Dense(4),
    ]
    return keras.Sequential(layers)


def test_every_sample_is_exact_in_single_precision() -> None:
    every = np.arange(-32768, 32768).astype(np.int16)
    np.testing.assert_array_equal(samples(unit(every)), every)
    assert unit(np.zeros(1, np.int16))[0] == 0.5
    assert samples(np.array([0.0, 1.0])).tolist() == [-32768, 32767]


def test_the_network_sees_the_real_front_end(clips: np.ndarray, sound_front_end: SoundFrontEnd, network: keras.Model) -> None:
    """Up to coefficients that lie on the edge between two steps of the grid."""
    real = sound_front_end.features(unit(clips))
    whole = sound_front_end.before(network, (0.0, 1.0))
    np.testing.assert_allclose(whole(unit(clips)), network(real), atol=0.02)
    grid = MFCC.grid(MFCC.features(clips))
    rounded = np.asarray(MFCC.layer(grid, rounded=True)(clips.astype(np.float32) / 32768))
    steps = np.abs(np.rint(255 * rounded) - 255 * real)
    assert steps.max() <= 1
    assert (steps > 0).mean() < 0.005
    assert rounded.min() >= 0
    assert rounded.max() <= 1


def test_the_gradient_of_the_whole_white_box(clips: np.ndarray, network: keras.Model) -> None:
    """Front end and network together, against finite differences: along the gradient, and along real noise."""
    grid = MFCC.grid(MFCC.features(clips))
    front, y = MFCC.layer(grid), np.array([0, 1, 2, 3])

    def loss(x: np.ndarray) -> np.ndarray:
        return np.asarray(tf.nn.sparse_softmax_cross_entropy_with_logits(y, network(front(2 * tf.constant(x) - 1))))

    sound = keras.Input((16000,))
    target = KerasTarget(keras.Model(sound, network(front(2 * sound - 1))))
    x = unit(clips)
    gradient = target.loss_gradient(x, y).astype(np.float64)
    random = np.random.default_rng(0)
    for direction in (gradient, gradient + np.abs(gradient).mean() * random.normal(size=x.shape)):
        unit_step = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        slope = (gradient * unit_step).sum(axis=1)
        h = (1e-5 / np.abs(unit_step).max(axis=1))[:, np.newaxis]  # less than a 16-bit step
        there = (loss((x + h * unit_step).astype(np.float32)) - loss((x - h * unit_step).astype(np.float32))) / (2 * h[:, 0])
        np.testing.assert_allclose(there, slope, rtol=0.05)


def test_the_gradient_goes_straight_through_the_grid(
    clips: np.ndarray, sound_front_end: SoundFrontEnd, network: keras.Model
) -> None:
    """It is the front end's slope, by finite differences of the real one, times the network's at the rounded features."""
    grid = MFCC.grid(MFCC.features(clips))
    x, y = unit(clips), np.array([0, 1, 2, 3])
    gradient = KerasTarget(sound_front_end.before(network, (0.0, 1.0))).loss_gradient(x, y).astype(np.float64)
    of_network = KerasTarget(network).loss_gradient(sound_front_end.features(x), y)[..., 0].astype(np.float64)
    step = 2e-5 * gradient / np.abs(gradient).max(axis=1, keepdims=True)  # in amplitude; a 16-bit step is 3e-5
    up, down = (_coefficients(amplitudes(clips) + sign * step) for sign in (1, -1))
    rise = (of_network * (up - down) / (grid.high - grid.low)).sum(axis=(1, 2))
    np.testing.assert_allclose(rise, (gradient * step).sum(axis=1), rtol=0.05)


def _coefficients(sound: np.ndarray) -> np.ndarray:
    """The real front end, on amplitudes that are not 16-bit samples."""
    fixed = MFCC.constants
    frames = np.lib.stride_tricks.sliding_window_view(sound, fixed.fft_size, axis=1)[:, :: fixed.hop]
    return MFCC.coefficients(MFCC.spectra(frames)).astype(np.float64)


def test_micro_has_no_gradients(network: keras.Model) -> None:
    micro = SoundFrontEnd(_record(Micro(kind="micro"), Grid(np.zeros(40), np.ones(40)), (49, 40)))
    assert not micro.differentiable
    with pytest.raises(ModelFileError, match="Expected the front end mfcc"):
        micro.before(network, (0.0, 1.0))


def test_a_front_end_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    grid = Grid(np.zeros(16), np.ones(16))
    with pytest.raises(ModelFileError, match=r"Expected the shape .* \(49, 10\). Received: \(49, 16\)"):
        SoundFrontEnd(_record(Mfcc(kind="mfcc"), grid, (49, 16)))
    with pytest.raises(
        ValueError, match=r"low and high of 10 numbers, one for each coefficient of shape\. Received: 16 and 16"
    ):
        _record(Mfcc(kind="mfcc"), grid, (49, 10))
    with pytest.raises(ValueError, match="below that of high"):
        _record(Mfcc(kind="mfcc"), Grid(np.ones(10), np.ones(10)), (49, 10))
    (tmp_path / "frontend.json").write_text('{"settings": {"kind": "mfcc"}}')
    with pytest.raises(TinyRobustError, match="classes: is missing") as raised:
        FrontendRecord.load(tmp_path / "frontend.json")
    assert "wake-word.md" in (raised.value.hint or "")


def test_radii_are_shares_of_the_loudness(clips: np.ndarray) -> None:
    audio = np.concatenate([clips, np.zeros((1, 16000), np.int16)])
    found = radii(unit(audio), 0.1, "snr", 0.5)
    loud = np.linalg.norm(audio.astype(float), axis=1) / 65536
    np.testing.assert_allclose(found, 0.1 * loud, rtol=1e-6)
    far = unit(audio) + np.random.default_rng(0).normal(0, 0.1, audio.shape).astype(np.float32)
    near = project(tf.constant(far), tf.constant(unit(audio)), tf.constant(found), "l2", (0.0, 1.0))
    lengths = distance(np.asarray(near) - unit(audio), "l2")
    np.testing.assert_allclose(lengths, found, rtol=1e-4, atol=1e-7)
    assert (np.asarray(near)[-1] == 0.5).all()  # around silence there is no ball


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.001), ("snr", 0.1), ("snr", 0.001), ("l2", 0.02)])
def test_examples_become_16_bit_clips_inside_of_the_ball(clips: np.ndarray, norm: str, epsilon: float) -> None:
    x = unit(clips)
    draws = np.random.default_rng(0).uniform(-1, 1, x.shape).astype(np.float32)
    length = np.ones(len(x), np.float32) if norm == "linf" else distance(draws, "l2")
    draws *= (radii(x, epsilon, norm, 0.5) / length)[:, np.newaxis]
    found = sampled(np.clip(x + draws, 0, 1), x, epsilon, norm)
    np.testing.assert_array_equal(unit(samples(found)), found)
    far = distances(found, x, SOUND_NORMS)[norm]
    assert (far <= epsilon * (1 + 1e-5)).all()
    assert (far >= 0.95 * epsilon).all() or epsilon == 0.001


def test_around_a_clip_of_a_few_steps_rounding_is_not_cheating(clips: np.ndarray) -> None:
    x = unit(np.sign(clips))
    draws = np.random.default_rng(0).normal(0, 1, x.shape)
    draws *= (radii(x, 0.0316228, "snr", 0.5) / np.linalg.norm(draws, axis=1))[:, np.newaxis]
    found = (x + draws).astype(np.float32)
    far = distances(found, x, SOUND_NORMS)["snr"]
    assert far.max() > 0.0316228 * (1 + 1e-5)
    np.testing.assert_array_equal(inside(found, x, 0.0316228, "snr", "rounded"), found)
    with pytest.raises(TinyRobustError, match="left its bounds"):
        inside((x + 1.5 * draws).astype(np.float32), x, 0.0316228, "snr", "greedy")


def test_shifts_are_measured_in_milliseconds(clips: np.ndarray) -> None:
    later = shifted(clips, 70 * 16)
    np.testing.assert_array_equal(later[:, 70 * 16 :], clips[:, : -70 * 16])
    assert not later[:, : 70 * 16].any()
    assert moved(unit(later), unit(clips), 100).tolist() == [70] * 4
    assert moved(unit(shifted(clips, -5 * 16)), unit(clips), 100).tolist() == [5] * 4
    assert np.isinf(moved(unit(later), unit(clips), 60)).all()


def test_attacks_keep_to_the_ratio(clips: np.ndarray, sound_front_end: SoundFrontEnd, network: keras.Model) -> None:
    target, x = KerasTarget(sound_front_end.before(network, (0.0, 1.0))), unit(clips)
    y = target.predict(x).argmax(axis=1)
    before = tf.nn.sparse_softmax_cross_entropy_with_logits(y, target.predict(x)).numpy()
    for attack in (
        Pgd.of(norm="snr", steps=5).build(target, 0.1),
        Square.of(norm="snr", iterations=20).build(target, 0.1),
        Square.of(norm="linf", iterations=20).build(target, 0.002),
    ):
        found = attack.generate(x, y)
        far = distances(found, x, SOUND_NORMS)[attack.norm]
        assert (far <= attack.epsilon * (1 + 1e-4)).all()
        after = tf.nn.sparse_softmax_cross_entropy_with_logits(y, target.predict(found)).numpy()
        assert after.mean() > before.mean()


def test_shift_returns_the_clip_shifted(clips: np.ndarray, sound_front_end: SoundFrontEnd, network: keras.Model) -> None:
    target, x = KerasTarget(sound_front_end.before(network, (0.0, 1.0))), unit(clips)
    found = Shift.of(step=20).build(target, 40, drop=False).generate(x, target.predict(x).argmax(axis=1))
    assert set(moved(found, x, 40).tolist()) <= {20, 40}
