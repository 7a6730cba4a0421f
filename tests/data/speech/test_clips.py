from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tinyrobust.data.speech import clips as module
from tinyrobust.data.speech.background import Background
from tinyrobust.data.speech.clips import chunks, content_hash
from tinyrobust.data.speech.corpus import Clip
from tinyrobust.data.speech.sound import joined, one_second, read_sound

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def loudest(sound: np.ndarray, rate: int = RATE) -> float:
    spectrum = np.abs(np.fft.rfft(sound.astype(float)))
    return float(spectrum.argmax() * rate / len(sound))


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_clip_is_read_as_it_is_stored(tmp_path: Path, suffix: str) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, RATE).astype(np.int16)
    soundfile.write(tmp_path / f"a.{suffix}", samples, RATE)
    np.testing.assert_array_equal(read_sound(tmp_path / f"a.{suffix}"), samples)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_another_rate_is_resampled(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1000, rate=rate), rate)
    sound = read_sound(tmp_path / "a.wav")
    assert len(sound) == RATE
    assert loudest(sound) == 1000
    np.testing.assert_allclose(np.abs(sound[1000:-1000]).max() / 32768, 0.3, atol=0.01)


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([tone(1000), np.zeros(RATE)], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav") / 32768, tone(1000) / 2, atol=1 / 32768)


def test_what_is_too_loud_is_clipped_and_not_wrapped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.array([2.0, -2.0, 1.0]), RATE, subtype="FLOAT")
    assert read_sound(tmp_path / "a.wav").tolist() == [32767, -32768, 32767]


def test_a_second_is_read_of_a_long_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(500, 3), RATE)
    assert len(read_sound(tmp_path / "a.wav", seconds=1)) == RATE
    assert len(one_second(read_sound(tmp_path / "a.wav"))) == RATE


def test_clips_are_read_in_order_and_what_is_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)  # several chunks of few files
    soundfile.write(tmp_path / "good.flac", tone(500), RATE)
    soundfile.write(tmp_path / "short.wav", tone(600, 0.3), RATE)
    soundfile.write(tmp_path / "slow.wav", tone(700, rate=8000), 8000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone(800)] * 2, axis=1), RATE)
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "headers.wav", np.empty(0), RATE)
    whole = (tmp_path / "good.flac").read_bytes()
    (tmp_path / "half.flac").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    (tmp_path / "bytes.flac").write_bytes(b"not a sound file" * 20)
    (tmp_path / "zeroed.flac").write_bytes(whole[:8] + bytes(middle - 8) + whole[middle:])
    soundfile.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    names = ["empty.wav", "good.flac", "half.flac", "short.wav", "gone.wav", "slow.wav", "bytes.flac", "headers.wav"]
    names += ["nan.wav", "stereo.wav", "zeroed.flac"]
    clips = [Clip(tmp_path / name, f"word/{name}", 0) for name in names]
    noise = np.arange(3 * RATE).astype(np.int16)
    clips.append(Clip(tmp_path / "noise.wav", "noise", 1, start=100))
    found = list(chunks(clips, Background({tmp_path / "noise.wav": noise}, ())))
    assert len(found) == 3
    audio = np.concatenate([one.audio for one in found])
    assert [names[index] for part in found for index in part.kept[part.kept < len(names)]] == [
        "good.flac",
        "short.wav",
        "slow.wav",
        "stereo.wav",
    ]
    assert [round(loudest(clip) / 5) * 5 for clip in audio[:4]] == [500, 600, 700, 800]
    assert not audio[1, 4800:].any()
    np.testing.assert_array_equal(audio[4], noise[100 : 100 + RATE])
    assert sum(one.padded for one in found) == 1
    reasons = {Path(one.path).name: one.reason for part in found for one in part.skipped}
    assert set(reasons) == set(names) - {"good.flac", "short.wav", "slow.wav", "stereo.wav"}
    assert reasons["empty.wav"] == "it is empty"
    assert reasons["gone.wav"] == "there is no such file"
    assert reasons["headers.wav"] == "it has no samples"
    assert reasons["nan.wav"] == "it has samples that are not finite"
    assert "can be read" in reasons["half.flac"]
    assert "no sound file that can be read" in reasons["bytes.flac"]


def test_the_hash_is_of_contents_and_order(tmp_path: Path) -> None:
    for name, hertz in (("a", 500), ("b", 600), ("c", 500)):
        soundfile.write(tmp_path / f"{name}.wav", tone(hertz), RATE)
    a, b, c = (Clip(tmp_path / f"{name}.wav", name, 0) for name in "abc")
    assert content_hash([a, b]) == content_hash([c, b])
    different = [[b, a], [a], [a, b, b], [Clip(a.path, "a", 0, start=5), b], [Clip(a.path, "a", 0, start=6), b]]
    assert len({content_hash(clips) for clips in [[a, b], *different]}) == 6


def test_clips_are_heard_backwards_and_quieter_where_asked(tmp_path: Path) -> None:
    rising = np.arange(3 * RATE).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", rising[:RATE], RATE, subtype="PCM_16")
    background = Background({tmp_path / "noise.wav": rising}, ())
    clips = [
        Clip(tmp_path / "a.wav", "a", 0, backwards=True),
        Clip(tmp_path / "noise.wav", "n", 1, start=10, loudness=0.5),
        Clip(tmp_path / "noise.wav", "n", 1, start=10, loudness=0.0),
    ]
    (found,) = chunks(clips, background)
    np.testing.assert_array_equal(found.audio[0], rising[:RATE][::-1])
    np.testing.assert_array_equal(found.audio[1], np.rint(rising[10 : 10 + RATE] / 2))
    assert not found.audio[2].any()
    soundfile.write(tmp_path / "noise.wav", rising, RATE, subtype="PCM_16")
    hashes = {
        content_hash([clip]) for clip in [*clips, Clip(tmp_path / "a.wav", "a", 0), Clip(tmp_path / "a.wav", "a", 0, start=10)]
    }
    assert len(hashes) == 5


def test_a_joined_clip_is_one_word_and_then_another() -> None:
    window = np.hanning(RATE)
    low, high = ((20000 * window * np.sin(2 * np.pi * f * np.arange(RATE) / RATE)).astype(np.int16) for f in (500, 2000))
    whole = joined(low, high)
    assert [round(loudest(part) / 20) * 20 for part in (whole[: RATE // 2], whole[RATE // 2 :])] == [500, 2000]
    np.testing.assert_array_equal(whole[: RATE // 2 - 200], low[: RATE // 2 - 200])
    # The second is as loud as the first at the cut, whatever it was; nothing at the cut jumps.
    np.testing.assert_allclose(joined(low, high // 4), whole, atol=30)
    rest = np.roll(high, RATE // 4)  # its middle is late: the half is short, and followed by zeros
    rest[: RATE // 4] = 0
    assert not joined(low, rest)[-RATE // 5 :].any()
    silence = np.zeros(RATE, np.int16)
    assert not joined(silence, silence).any()


def test_joined_clips_hash_as_both_and_need_both(tmp_path: Path) -> None:
    for name, hertz in (("a", 500), ("b", 600), ("c", 700)):
        soundfile.write(tmp_path / f"{name}.wav", tone(hertz), RATE)
    a, b, c = (Clip(tmp_path / f"{name}.wav", name, 0) for name in "abc")
    pairs = [replace(a, then=b), replace(a, then=c), replace(b, then=a), a, replace(a, then=replace(b, start=3))]
    assert len({content_hash([pair]) for pair in pairs}) == 5
    gone = replace(a, then=Clip(tmp_path / "gone.wav", "gone", 0))
    (found,) = chunks([pairs[0], gone], Background({}, ()))
    assert found.kept.tolist() == [0]
    assert [Path(one.path).name for one in found.skipped] == ["gone.wav"]
