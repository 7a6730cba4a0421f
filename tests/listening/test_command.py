"""`tinyrobust listen`, as it is typed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from tinyrobust.cli.app import app
from tinyrobust.data.speech.frontend_record import FRONTEND, FrontendRecord
from tinyrobust.data.speech.sound import read_sound, sound_blocks
from tinyrobust.errors import TinyRobustError
from tinyrobust.listening.files import listen_to
from tinyrobust.listening.measure import measure
from tinyrobust.listening.spotter import Listener, Spotter
from tinyrobust.recipe.listening import Listening

RATE = 16_000


def _listen(model: Path, *words: str | Path) -> Any:
    return CliRunner().invoke(app, ["listen", "--model", str(model), *map(str, words)])


def _words(answer: Any) -> list[list[str]]:
    assert answer.exit_code == 0, answer.output
    return [[found["word"] for found in file["detections"]] for file in json.loads(answer.output)["files"]]


@pytest.fixture(scope="module")
def heard_clips(tone_spotter: Any) -> dict[str, Path]:
    """A clip of each word, of speakers that were not learned from, that the file is sure of."""
    from tinyrobust.data.arrays import scale

    data, spotter = tone_spotter.data, Spotter(tone_spotter.path)
    scores = spotter.model.predict(scale(data.test.x))
    clips = data.speech.recordings.parts["test"]
    best = {
        word: int((scores[:, label] - np.delete(scores, label, 1).max(1)).argmax())
        for label, word in enumerate(("low", "high"))
    }
    return {word: clips[row].path for word, row in best.items()}


def test_a_clip_of_a_second_is_heard(tone_spotter: Any, heard_clips: dict[str, Path]) -> None:
    answer = _listen(tone_spotter.path, *heard_clips.values(), "--json")
    assert _words(answer) == [["low"], ["high"]]
    found = json.loads(answer.output)["files"][0]
    assert found["seconds"] == 1.0
    assert found["detections"][0]["seconds"] == 1.0
    people = _listen(tone_spotter.path.parent, heard_clips["low"])  # a folder as those of the zoo
    assert "0:01.00" in people.output
    assert "low" in people.output
    assert "Threshold 0.5: the default" in " ".join(people.output.split())


def test_words_are_heard_where_they_are(tone_spotter: Any, heard_clips: dict[str, Path], tmp_path: Path) -> None:
    """Three words in ten seconds of faint noise, in stereo at 44.1 kHz: each once, within a second and the smoothing time."""
    import librosa

    sound = np.random.default_rng(0).normal(0, 0.002, 10 * RATE)
    for start, word in ((1.23, "high"), (4.5, "low"), (7.77, "high")):
        at = int(start * RATE)
        sound[at : at + RATE] += read_sound(heard_clips[word]) / 32768
    path = tmp_path / "stereo.flac"
    wide = librosa.resample(sound, orig_sr=RATE, target_sr=44_100)
    soundfile.write(path, np.stack([wide, wide], axis=1), 44_100)
    found = json.loads(_listen(tone_spotter.path, path, "--json").output)["files"][0]
    assert found["seconds"] == pytest.approx(10)
    assert [one["word"] for one in found["detections"]] == ["high", "low", "high"]
    for one, start in zip(found["detections"], (1.23, 4.5, 7.77), strict=True):
        assert start + 0.3 < one["seconds"] < start + 2.3


def test_a_clip_shorter_than_a_second_is_heard_as_it_was_learned(
    tone_spotter: Any, heard_clips: dict[str, Path], tmp_path: Path
) -> None:
    sound = read_sound(heard_clips["low"])[:14_000]
    soundfile.write(tmp_path / "short.wav", sound, RATE)
    assert _words(_listen(tone_spotter.path, tmp_path / "short.wav", "--json")) == [["low"]]


def test_a_threshold_that_nothing_reaches_hears_nothing(tone_spotter: Any, heard_clips: dict[str, Path]) -> None:
    assert _words(_listen(tone_spotter.path, heard_clips["low"], "--threshold", "1", "--json")) == [[]]
    assert "no keyword" in _listen(tone_spotter.path, heard_clips["low"], "--threshold", "1").output


def test_the_threshold_that_was_measured_is_taken(tone_spotter: Any, heard_clips: dict[str, Path], tmp_path: Path) -> None:
    for name in (tone_spotter.path.name, FRONTEND):
        shutil.copy(tone_spotter.path.parent / name, tmp_path / name)
    spotter = Spotter(tmp_path / "model.tflite")
    record = measure(spotter, tone_spotter.data.speech.recordings, "tones", Listening(clips=5, hop_ms=200))
    record.save(tmp_path / "detection.json")
    output = " ".join(_listen(tmp_path / "model.tflite", heard_clips["low"]).output.split())
    assert f"Threshold {record.threshold:g}: detection.json, chosen on validation audio" in output
    # That of another file is not this one's.
    record.model_copy(update={"model_sha256": "0" * 64}).save(tmp_path / "detection.json")
    assert "Threshold 0.5: the default" in " ".join(_listen(tmp_path / "model.tflite", heard_clips["low"]).output.split())


def test_blocks_of_a_file_are_the_file(tone_spotter: Any) -> None:
    """A recording that is read in blocks is heard as one that is read at once."""
    sound = tone_spotter.data.speech.recordings.background.recordings
    path = next(iter(sound))
    np.testing.assert_array_equal(np.concatenate(list(sound_blocks(path, seconds=3))), read_sound(path))
    spotter, settings = Spotter(tone_spotter.path), Listening(smoothing_ms=100)
    whole = Listener(spotter, settings, 0.1)
    assert listen_to(path, Listener(spotter, settings, 0.1)).detections == (*whole.feed(read_sound(path)), *whole.finish())


def _without_front_end(folder: Path, model: Path) -> list[Path]:
    return [shutil.copy(model, folder / "alone.tflite")]


def _of_another_front_end(folder: Path, model: Path) -> list[Path]:
    record = FrontendRecord.load(model.parent / FRONTEND)
    other = {"shape": (49, 40), "low": (-1.0,) * 40, "high": (1.0,) * 40}
    record.model_copy(update=other).save(folder / "other.json")
    return [model, Path("--frontend"), folder / "other.json"]


def _of_other_classes(folder: Path, model: Path) -> list[Path]:
    record = FrontendRecord.load(model.parent / FRONTEND)
    record.model_copy(update={"classes": ("low", "high")}).save(folder / "other.json")
    return [model, Path("--frontend"), folder / "other.json"]


def _with_a_broken_front_end(folder: Path, model: Path) -> list[Path]:
    (folder / "broken.json").write_text("{")
    return [model, Path("--frontend"), folder / "broken.json"]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (_without_front_end, "Expected the record of the front end that alone.tflite was trained with"),
        (_of_another_front_end, r"Expected inputs of shape \(49, 40, 1\)"),
        (_of_other_classes, "Expected 2 outputs"),
        (_with_a_broken_front_end, r"Cannot read .*broken\.json"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_front_end_that_does_not_fit_is_refused(
    made: Any, expected: str, tone_spotter: Any, heard_clips: dict[str, Path], tmp_path: Path
) -> None:
    answer = _listen(*made(tmp_path, tone_spotter.path), heard_clips["low"])
    assert isinstance(answer.exception, TinyRobustError)
    assert answer.exception.hint
    with pytest.raises(TinyRobustError, match=expected):
        raise answer.exception


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "there is no such file"),
        (b"", "it is empty"),
        (b"no sound", "it is no sound file that can be read"),
        ("no samples", "it has no samples"),
        ("not finite", "it has samples that are not finite"),
        ("cut", "it is cut short|it is no sound file"),
    ],
)
def test_a_file_that_cannot_be_heard_is_named(
    content: bytes | str | None, expected: str, tone_spotter: Any, tmp_path: Path
) -> None:
    path = tmp_path / "broken.flac"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 5 * RATE), RATE)
        path.write_bytes(path.read_bytes()[:40_000])
    elif content:
        path = tmp_path / "broken.wav"
        soundfile.write(path, np.full(RATE, np.nan)[: 0 if content == "no samples" else RATE], RATE, subtype="FLOAT")
    answer = _listen(tone_spotter.path, path)
    assert isinstance(answer.exception, TinyRobustError)
    with pytest.raises(TinyRobustError, match=rf"Expected a sound file\. Received: .*{path.name}: ({expected})"):
        raise answer.exception


@pytest.mark.parametrize(("words", "received"), [([], "neither"), (["--microphone", "clip.wav"], "both")])
def test_recordings_or_a_microphone(words: list[str], received: str, tone_spotter: Any) -> None:
    answer = _listen(tone_spotter.path, *words)
    assert isinstance(answer.exception, TinyRobustError)
    assert f"Received: {received}" in answer.exception.message


def test_a_microphone_that_is_not_there_says_what_to_install(tone_spotter: Any) -> None:
    try:
        import sounddevice
    except (ImportError, OSError):
        expected = "pip install 'tinyrobust[microphone]'"
    else:
        if any(device["max_input_channels"] for device in sounddevice.query_devices()):
            pytest.skip("there is a microphone on this machine: it would be listened to until Ctrl-C")
        expected = "python -m sounddevice"
    answer = _listen(tone_spotter.path, "--microphone")
    assert isinstance(answer.exception, TinyRobustError)
    assert expected in str(answer.exception)
