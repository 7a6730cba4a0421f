"""The streams that a file listens to, and the figures that come out."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.data.speech.frontend import Grid, front_end
from tinyrobust.data.speech.recordings import Recordings
from tinyrobust.errors import DataError
from tinyrobust.listening.detection_record import DetectionRecord
from tinyrobust.listening.evaluation_audio import SLOT, streams
from tinyrobust.listening.measure import THRESHOLDS, measure, rate
from tinyrobust.listening.spotter import Spotter
from tinyrobust.recipe.listening import Listening

SETTINGS = Listening(snr_db=20)


@pytest.fixture(scope="module")
def recordings(tone_spotter: Any) -> Recordings:
    found: Recordings = tone_spotter.data.speech.recordings
    return found


@pytest.fixture(scope="module")
def record(tone_spotter: Any, recordings: Recordings) -> DetectionRecord:
    return measure(Spotter(tone_spotter.path), recordings, "tones", SETTINGS)


def test_the_recordings_are_what_the_features_were_made_of(tone_spotter: Any, recordings: Recordings) -> None:
    data = tone_spotter.data
    record = data.speech.record
    for part in ("train", "validation", "test"):
        split = getattr(data, part)
        rows = np.arange(len(split))[::-3]
        x = Grid.of(record).quantized(front_end(record.settings).features(recordings.audio(part, rows)))
        np.testing.assert_array_equal(x, split.x[rows])


def test_a_clip_that_has_gone_is_named(recordings: Recordings, tmp_path: Path) -> None:
    clip = next(clip for clip in recordings.parts["test"] if clip.start is None)
    gone = dataclasses.replace(clip, path=tmp_path / "gone.wav")
    with pytest.raises(DataError, match=r"gone\.wav: .*there is no such file"):
        Recordings({"test": (gone,)}, recordings.background).audio("test")


def test_words_stand_in_noise_at_the_ratio_asked_for(tone_spotter: Any, recordings: Recordings) -> None:
    """What the stream has beside the clip is the noise: its power is that of the clip less 20 dB."""
    made = streams(recordings, tone_spotter.data.classes, "test", "tones", SETTINGS)
    labels = [clip.label for clip in recordings.parts["test"]]
    assert np.bincount(made.labels).tolist() == [labels.count(0), labels.count(1)]
    assert len(made.keywords) == SLOT * len(made.onsets) + SLOT // 2
    assert ((made.onsets % SLOT >= 8000) & (made.onsets % SLOT < 8000 + 1600)).all()
    clips = recordings.audio("test") / 32768
    for onset, label in list(zip(made.onsets, made.labels, strict=True))[:5]:
        audible = made.keywords[onset : onset + 16_000] / 32768
        noise = min(
            (audible - clip for clip, one in zip(clips, labels, strict=True) if one == label), key=lambda rest: (rest**2).sum()
        )
        power = ((audible - noise) ** 2).mean()
        assert 10 * math.log10(power / (noise**2).mean()) == pytest.approx(20, abs=0.05)


def test_the_record_says_how_much_was_heard(record: DetectionRecord, recordings: Recordings, tone_spotter: Any) -> None:
    for measured in (record.validation, record.test):
        material = measured.material
        labels = [tone_spotter.data.classes[clip.label] for clip in recordings.parts[material.part]]
        assert material.keywords == labels.count("low") + labels.count("high")
        assert material.others == labels.count("unknown")
        assert material.noise_seconds == pytest.approx(2 * 2 - 0.02)  # a tenth of each recording of 20 s, faded
        assert material.hours == pytest.approx((material.other_seconds + material.noise_seconds) / 3600)
        assert [point.threshold for point in measured.points] == list(THRESHOLDS)
        assert sum(word.false_rejects.n for word in measured.words) == material.keywords
        assert sum(word.false_rejects.count for word in measured.words) == measured.chosen.false_rejects.count


def test_a_spotter_that_learned_its_words_hears_them(record: DetectionRecord) -> None:
    chosen = record.test.chosen
    assert chosen.false_reject_rate < 0.2
    assert chosen.false_accepts.count < record.test.material.others / 2
    # A threshold that nothing reaches hears nothing, in either kind of sound.
    assert record.test.points[-1].false_accepts.count <= record.test.points[0].false_accepts.count


def test_the_threshold_is_chosen_on_validation(record: DetectionRecord) -> None:
    def errors(point: Any) -> float:
        material = record.validation.material
        slots = (material.other_seconds + material.noise_seconds) / 2
        return (point.false_rejects.count + point.wrong) / material.keywords + point.false_accepts.count / slots

    fewest = min(errors(point) for point in record.validation.points)
    assert record.threshold == max(point.threshold for point in record.validation.points if errors(point) == fewest)
    assert record.threshold == record.validation.chosen.threshold == record.test.chosen.threshold
    assert "errors are fewest" in record.reason


@pytest.mark.parametrize(("most", "reason"), [(1e9, "the lowest from which on"), (0.0, "")])
def test_a_threshold_for_so_many_false_accepts(most: float, reason: str, tone_spotter: Any, recordings: Recordings) -> None:
    settings = SETTINGS.model_copy(update={"false_accepts_per_hour": most, "clips": 4})
    found = measure(Spotter(tone_spotter.path), recordings, "tones", settings)
    kept = [p.threshold for p in found.validation.points if p.false_accepts_per_hour > most]
    above = [threshold for threshold in THRESHOLDS if threshold > max(kept, default=0)]
    assert found.threshold == (above or [THRESHOLDS[-1]])[0]
    assert reason in found.reason


def test_equal_runs_give_equal_records(
    record: DetectionRecord, tone_spotter: Any, recordings: Recordings, tmp_path: Path
) -> None:
    again = measure(Spotter(tone_spotter.path), recordings, "tones", SETTINGS)
    assert again == record
    again.save(tmp_path / "detection.json")
    assert DetectionRecord.load(tmp_path / "detection.json") == record


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.390)])
def test_the_interval_of_a_rate(count: int, low: float, high: float) -> None:
    """Garwood's table (Ulm 1990, American Journal of Epidemiology 131:373, table 1)."""
    found = rate(count, 0.5)
    assert found.per_hour == 2 * count
    assert (found.low * 0.5, found.high * 0.5) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_without_any_other_sound_nothing_is_measured(tone_spotter: Any, recordings: Recordings) -> None:
    words = {part: tuple(clip for clip in clips if clip.label < 2) for part, clips in recordings.parts.items()}
    silent = dataclasses.replace(recordings, parts=words, background=dataclasses.replace(recordings.background, recordings={}))
    with pytest.raises(DataError, match="what must not be taken for a keyword"):
        streams(silent, tone_spotter.data.classes, "test", "tones", SETTINGS)
