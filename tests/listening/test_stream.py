"""A stream is cut into windows: the same whatever the chunks, and what a clip of a second would be where it should be."""

from pathlib import Path

import numpy as np
import pytest

from tinyrobust.data.speech.frontend import features, shape
from tinyrobust.data.speech.micro import HIGH, LOW
from tinyrobust.data.speech.sound import read_sound
from tinyrobust.errors import RecipeError
from tinyrobust.listening.stream import Stream
from tinyrobust.recipe.frontend import Mfcc, Micro

FRONT_ENDS: dict[str, Mfcc | Micro] = {
    "mfcc": Mfcc(),
    "mfcc of other windows": Mfcc(window_ms=40, hop_ms=25, coefficients=12, top_db=30),
    "micro": Micro(kind="micro"),
    "micro, every window": Micro(kind="micro", stride=1),
}


@pytest.fixture(params=FRONT_ENDS, ids=FRONT_ENDS)
def settings(request: pytest.FixtureRequest) -> Mfcc | Micro:
    return FRONT_ENDS[request.param]


def _sound(seconds: float) -> np.ndarray:
    """Noise whose loudness and colour change all the time."""
    random = np.random.default_rng(3)
    time = np.arange(int(16_000 * seconds)) / 16_000
    loud = 10 ** (1 + 1.5 * np.sin(2 * np.pi * time / 0.7))
    sound = loud * random.normal(size=len(time)) + 3000 * np.sin(2 * np.pi * (300 + 200 * np.sin(5 * time)) * time) * (
        time % 1 < 0.4
    )
    return np.clip(sound, -32768, 32767).astype(np.int16)


def _in_chunks(stream: Stream, sound: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([stream.feed(sound[start : start + size]) for start in range(0, len(sound), size)])


@pytest.mark.parametrize("state", ["carried", "reset"])
def test_the_only_window_of_a_second_is_the_clip_bit_for_bit(settings: Mfcc | Micro, state: str) -> None:
    sound = _sound(1)
    windows = Stream(settings, 100, state).feed(sound)
    np.testing.assert_array_equal(windows, features(sound[np.newaxis], settings))


@pytest.mark.parametrize("state", ["carried", "reset"])
@pytest.mark.parametrize("size", [37, 160, 512, 16_001])
def test_chunks_make_no_difference(settings: Mfcc | Micro, state: str, size: int) -> None:
    sound = _sound(2.33)
    whole = Stream(settings, 100, state).feed(sound)
    assert whole.shape == (14, *shape(settings))
    np.testing.assert_array_equal(_in_chunks(Stream(settings, 100, state), sound, size), whole)


def test_windows_of_mfcc_are_those_of_clips() -> None:
    sound, settings = _sound(3), Mfcc()
    clips = np.stack([sound[start : start + 16_000] for start in range(0, 32_001, 960)])
    np.testing.assert_array_equal(Stream(settings, 60).feed(sound), features(clips, settings))


def test_micro_that_is_reset_hears_clips_and_micro_that_runs_on_does_not(shared: Path) -> None:
    """A front end that has just been switched on takes noise for sound, until its estimate has settled.

    Measured on these 16 clips, one after the other: 70 % of the cells agree within a step of 255; those of a window's first row
    lie 141 steps apart on average, those of its last 1.6.
    """
    paths = sorted((shared / "data/speech_commands/up").glob("*.flac"))[:16]
    sound, settings = np.concatenate([read_sound(path) for path in paths]), Micro(kind="micro")
    reset, carried = Stream(settings, 100, "reset").feed(sound), Stream(settings, 100).feed(sound)
    clips = np.stack([sound[start : start + 16_000] for start in range(0, len(sound) - 15_999, 1600)])
    np.testing.assert_array_equal(reset, features(clips, settings))
    steps = np.abs(np.clip(carried[1:], LOW, HIGH) - np.clip(reset[1:], LOW, HIGH)) * 255 / (HIGH - LOW)
    by_row = steps.mean(axis=(0, 2))
    assert 0.65 < (steps <= 1).mean() < 0.75
    assert by_row[0] > 120
    assert by_row[-1] < 3


@pytest.mark.parametrize("hop_ms", [0, 30, 1020, -20])
def test_a_hop_that_does_not_fit_is_refused(hop_ms: int) -> None:
    with pytest.raises(RecipeError, match="20 ms or a multiple of it"):
        Stream(Mfcc(), hop_ms)


def test_silence_between_chunks_is_no_sound() -> None:
    stream = Stream(Mfcc(), 100)
    assert len(stream.feed(np.empty(0, np.int16))) == 0
    assert len(stream.feed(_sound(1))) == 1
    assert len(stream.feed(np.empty(0, np.int16))) == 0
    assert stream.windows == 1
