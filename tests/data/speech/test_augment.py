import numpy as np
import pytest

from tinyrobust.data.speech.augment import augmented, masked, mixed, reverberated, through_microphone
from tinyrobust.recipe.speech import Masks, SpeechAugment

RANDOM = np.random.default_rng(0)
TIME = np.arange(16000) / 16000
CLIP = (8000 * np.sin(2 * np.pi * 1000 * TIME) * np.hanning(16000)).astype(np.int16)
NOISE = [RANDOM.normal(0, 500, 40000).astype(np.int16)]


def change(copy: int = 0, name: str = "up/a.wav", seed: int = 7, clip: np.ndarray = CLIP, **settings: object) -> np.ndarray:
    return augmented(clip, name, copy, SpeechAugment(**settings), seed, NOISE)


def loudest(sound: np.ndarray) -> int:
    return int(np.abs(np.fft.rfft(sound.astype(float))).argmax())


def test_nothing_asked_for_is_nothing_changed() -> None:
    np.testing.assert_array_equal(change(), CLIP)


def test_a_copy_is_a_function_of_seed_name_and_number() -> None:
    every = {"shift_ms": 100, "noise": 0.5, "gain_db": (-6, 6), "speed": (0.9, 1.1)}
    places = [(copy, name, seed) for copy in range(3) for name in ("up/a.wav", "up/b.wav") for seed in (1, 2)]
    found = {place: change(*place, **every).tobytes() for place in places}
    assert len(set(found.values())) == len(places)
    assert {place: change(*place, **every).tobytes() for place in reversed(places)} == found


def test_shifts_cover_the_range_both_ways_and_bring_in_silence() -> None:
    impulse = np.zeros(16000, np.int16)
    impulse[8000] = 1000
    places = [int(change(copy, clip=impulse, shift_ms=100).argmax()) for copy in range(200)]
    assert min(places) >= 8000 - 1600
    assert max(places) <= 8000 + 1600
    assert min(places) < 8000 - 1400
    assert max(places) > 8000 + 1400


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_is_mixed_in_at_the_ratio_asked_for(snr_db: float) -> None:
    found = change(noise=1.0, snr_db=(snr_db, snr_db)).astype(float)
    added = found - CLIP
    ratio = 10 * np.log10((CLIP.astype(float) ** 2).mean() / (added**2).mean())
    assert abs(ratio - snr_db) < 0.1


def test_noise_has_its_probability() -> None:
    changed = sum((change(copy, noise=0.3) != CLIP).any() for copy in range(300))
    assert abs(changed - 90) < 32  # four standard deviations of a binomial


def test_silence_stays_silence_and_needs_no_noise() -> None:
    silence = np.zeros(16000, np.int16)
    assert not change(clip=silence, noise=1.0).any()
    np.testing.assert_array_equal(augmented(CLIP, "a", 0, SpeechAugment(noise=1.0), 7, []), CLIP)
    np.testing.assert_array_equal(mixed(CLIP / 32768, np.zeros(16000), 0.0), CLIP / 32768)


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_speed_changes_pitch_and_length(speed: float) -> None:
    found = change(speed=(speed, speed))
    assert found.shape == (16000,)
    assert abs(loudest(found) - 1000 * speed) < 3
    above = np.flatnonzero(np.abs(found.astype(float)) > 4000)
    original = np.flatnonzero(np.abs(CLIP.astype(float)) > 4000)
    assert abs((above[-1] - above[0]) / (original[-1] - original[0]) - 1 / speed) < 0.03


def test_pitch_keeps_the_length() -> None:
    found = change(pitch=(12.0, 12.0))
    assert found.shape == (16000,)
    assert abs(loudest(found) - 2000) < 20


def test_gain_is_in_decibels_and_clips() -> None:
    np.testing.assert_allclose(change(gain_db=(-20, -20)), CLIP / 10, atol=0.5)
    assert change(gain_db=(20, 20)).max() == 32767


def test_a_microphone_changes_loudness_by_frequency_and_delays_nothing() -> None:
    flat, falling = np.full(8, -6.0), np.array([0.0, 0, 0, 0, 0, -10, -20, -30])
    np.testing.assert_allclose(through_microphone(CLIP / 1.0, flat), CLIP * 10 ** (-6 / 20), atol=1e-6)
    np.testing.assert_allclose(through_microphone(CLIP / 1.0, falling), CLIP, rtol=0, atol=80)  # 1 kHz is before the fall
    high = np.sin(2 * np.pi * 4000 * TIME)
    np.testing.assert_allclose(through_microphone(high, falling), high / 10, atol=1e-6)
    found = [change(copy, response_db=6).astype(float) for copy in range(40)]
    loudness = [20 * np.log10(sound.std() / CLIP.std()) for sound in found]
    assert -6.1 < min(loudness) < -3
    assert 3 < max(loudness) < 6.1
    np.testing.assert_array_equal(change(3, response_db=6), found[3])


def test_a_room_adds_a_tail_of_the_length_and_loudness_asked_for() -> None:
    impulse = np.zeros(16000)
    impulse[1000] = 1
    for decay_ms, direct_db in ((100.0, 0.0), (400.0, 10.0)):
        tail = reverberated(impulse, decay_ms, direct_db, np.random.default_rng(1)) - impulse
        count = round(decay_ms * 16)
        assert abs(tail[:1000]).max() < 1e-9
        assert abs(tail[1000 + count :]).max() < 1e-9
        assert abs(10 * np.log10((tail**2).sum()) + direct_db) < 1e-6
        first, second = (tail[1000 + part : 1000 + part + count // 2] for part in (0, count // 2))
        assert abs(10 * np.log10((first**2).sum() / (second**2).sum()) - 30) < 2  # 60 dB over the whole of it
    found = change(3, room=1.0)
    np.testing.assert_array_equal(change(3, room=1.0), found)
    assert (found != CLIP).any()


def test_colored_noise_has_another_spectrum_in_every_copy_and_the_ratio_asked_for() -> None:
    added = [change(copy, noise=1.0, colored=1.0, snr_db=(10, 10)).astype(float) - CLIP for copy in range(20)]
    for noise in added:
        assert abs(10 * np.log10((CLIP.astype(float) ** 2).mean() / (noise**2).mean()) - 10) < 0.1
    power = np.abs(np.fft.rfft(added, axis=1)) ** 2
    tilt = 10 * np.log10(power[:, 200:1000].mean(axis=1) / power[:, 4000:7000].mean(axis=1))
    assert tilt.min() < -8
    assert tilt.max() > 8
    recorded = change(noise=1.0, snr_db=(10, 10))
    np.testing.assert_array_equal(change(noise=1.0, colored=0.0, snr_db=(10, 10)), recorded)


def test_masks_are_blocks_of_the_middle() -> None:
    x = np.zeros((49, 10, 1), np.uint8)
    widths = set()
    for copy in range(60):
        found = masked(x, "up/a.wav", copy, Masks(time=1, time_width=8), 7)[..., 0]
        rows = np.flatnonzero(found[:, 0])
        np.testing.assert_array_equal(found, np.where(np.isin(np.arange(49), rows)[:, None], 128, 0) * np.ones((1, 10)))
        assert len(rows) == 0 or rows[-1] - rows[0] + 1 == len(rows)
        widths.add(len(rows))
    assert widths == set(range(9))
    assert not x.any()
    both = masked(x, "b", 0, Masks(time=2, channels=2, channels_width=4), 7)
    np.testing.assert_array_equal(masked(x, "b", 0, Masks(time=2, channels=2, channels_width=4), 7), both)
    assert (masked(x, "b", 0, Masks(time=50, time_width=49), 7) == 128).all()
