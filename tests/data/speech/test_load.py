import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tinyrobust.data import Dataset, available, load, read_card
from tinyrobust.data.arrays import stratified
from tinyrobust.data.batches import Batches
from tinyrobust.data.speech.cache import cached, folder
from tinyrobust.data.speech.frontend import front_end
from tinyrobust.data.speech.sound import read_sound
from tinyrobust.errors import DataError
from tinyrobust.recipe.data import Augment, Data, Fold
from tinyrobust.recipe.frontend import Mfcc, Micro
from tinyrobust.recipe.speech import Masks, Speech, SpeechAugment

OWN = Speech(task="own-words", words=("low", "high"))
CHANGES = SpeechAugment(copies=3, shift_ms=100, noise=0.8, masks=Masks(time=1, channels=1))


def loaded(source: Path, seed: int = 7, progress: Any = None, **settings: Any) -> Dataset:
    data = {"speech": OWN} | settings
    return load(Data(name=str(source), **data), seed, progress=progress)


def test_a_folder_of_clips_is_a_data_set(tones: Path) -> None:
    found = loaded(tones)
    assert found.name == "tones"
    assert found.classes == ("low", "high", "unknown", "silence")
    assert found.input_shape == (49, 10, 1)
    assert found.copies == ()
    assert found.notes == ()
    for split in (found.train, found.validation, found.test):
        assert split.x.dtype == np.uint8
        assert len(np.bincount(split.y)) == 4
    # Every beginning of the training clips is stratified.
    assert np.ptp(np.bincount(found.train.y[:40], minlength=4)) <= 3


def test_a_fraction_of_the_training_clips_has_their_copies_and_their_sound(tones: Path) -> None:
    found = loaded(tones, speech=OWN.model_copy(update={"augment": CHANGES}))
    few = found.with_fraction(0.25, seed=3)
    rows = stratified(found.train.y, round(0.25 * len(found.train)), seed=3)
    np.testing.assert_array_equal(few.train.x, found.train.x[rows])
    for copy, whole in zip(few.copies, found.copies, strict=True):
        np.testing.assert_array_equal(copy, whole[rows])
    assert few.speech is not None
    assert found.speech is not None
    clips, every = few.speech.recordings.parts, found.speech.recordings.parts
    assert clips["train"] == tuple(every["train"][row] for row in rows)
    assert [clip.label for clip in clips["train"]] == few.train.y.tolist()
    assert clips["validation"] == every["validation"]


def test_the_grid_is_fixed_from_the_training_clips_and_recorded(tones: Path) -> None:
    found = loaded(tones)
    assert found.speech is not None
    record = found.speech.record
    assert (record.shape, record.partition, record.padded["train"], record.skipped) == ((49, 10), "SHA-1 rule", 0, ())
    assert record.settings == Mfcc(kind="mfcc")
    assert record.classes == found.classes
    assert 0 <= record.clipped < 0.01
    means = found.train.x.mean(axis=(0, 1, 3))
    np.testing.assert_allclose(means, 127.5, atol=1)
    # What was recorded gives the same features again from the sound: what a chip has to do.
    vectors = found.speech.vectors
    values = front_end(record.settings).features(vectors.audio)
    low, high = np.array(record.low), np.array(record.high)
    again = np.clip(np.floor(255 * (values - low) / (high - low) + 0.5), 0, 255)
    np.testing.assert_array_equal(vectors.features[..., 0], again)
    np.testing.assert_array_equal(vectors.features, found.validation.x[:8])
    assert set(vectors.labels.tolist()) == {0, 1, 2, 3}


def test_it_is_the_same_from_the_cache_and_without_one(tones: Path, tmp_path: Path) -> None:
    speech = OWN.model_copy(update={"augment": CHANGES})
    first = loaded(tones, speech=speech)
    files = sorted(path.name.partition("-")[0] for path in folder().iterdir())
    assert files == ["copies", "features", "features", "features"]
    told: list[str] = []
    again = loaded(tones, speech=speech, progress=lambda label, *_: told.append(label))
    assert told == []
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.copies, first.copies)
    for path in folder().iterdir():
        path.write_bytes(path.read_bytes()[:1000])
    assert loaded(tones, speech=speech).fingerprint == first.fingerprint
    # The same sounds elsewhere are found in the cache too: it goes by content.
    elsewhere = Path(shutil.copytree(tones, tmp_path / "moved"))
    told.clear()
    assert loaded(elsewhere, speech=speech, progress=lambda label, *_: told.append(label)).fingerprint == first.fingerprint
    assert told == []


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TINYROBUST_CACHE", str(tmp_path / "file"))
    assert cached("a", 1, lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]


def test_copies_are_of_the_training_clips_and_training_takes_turns(tones: Path) -> None:
    speech = OWN.model_copy(update={"augment": CHANGES})
    found = loaded(tones, speech=speech)
    assert [copy.shape for copy in found.copies] == [found.train.x.shape] * 3
    plain = loaded(tones)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(plain, split).x, getattr(found, split).x)
    assert plain.fingerprint != found.fingerprint
    changed = [(copy != found.train.x).any(axis=(1, 2, 3)).mean() for copy in found.copies]
    assert min(changed) > 0.98  # every now and then a shift of 0 without noise and masks
    order = [
        Batches(found.train, Augment(), 16, 7, first_epoch=epoch, copies=found.copies)[0][0].tobytes() for epoch in range(6)
    ]
    assert len(set(order)) == 6  # the same copies come again in another order
    x, y = Batches(found.train, Augment(), 16, 7, first_epoch=4, copies=found.copies)[1]
    source = [np.flatnonzero((found.copies[1] == np.round(one * 255)).all(axis=(1, 2, 3)))[0] for one in x]
    np.testing.assert_array_equal(found.train.y[source], y)


def test_copies_do_not_depend_on_which_other_clips_there_are(tones: Path) -> None:
    speech = OWN.model_copy(update={"augment": CHANGES, "frontend": Micro(kind="micro")})  # a grid that is always the same
    whole, part = loaded(tones, speech=speech), loaded(tones, speech=speech, train_samples=40)
    known = {image.tobytes(): index for index, image in enumerate(whole.train.x)}
    places = [known[image.tobytes()] for image in part.train.x]
    for few, many in zip(part.copies, whole.copies, strict=True):
        np.testing.assert_array_equal(few, many[places])


def test_subsets(tones: Path) -> None:
    whole, part = loaded(tones), loaded(tones, train_samples=40, test_samples=12)
    assert (len(part.train), len(part.test)) == (40, 12)
    assert np.ptp(np.bincount(part.test.y, minlength=4)) <= 1
    assert {image.tobytes() for image in part.test.x} != {image.tobytes() for image in whole.test.x[:12]}
    assert loaded(tones, seed=8, test_samples=12).test.y.tolist() == part.test.y.tolist()


def test_what_cannot_be_read_or_is_short_is_in_notes_and_record(tones: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(tones, tmp_path / "tones"))
    (place / "low" / "00000007_nohash_0.wav").write_bytes(b"")
    sound = read_sound(place / "high" / "00000007_nohash_0.wav")
    soundfile.write(place / "high" / "00000007_nohash_0.wav", sound[:4800], 16000)
    found = loaded(place)
    assert found.speech is not None
    assert [Path(one.path).name for one in found.speech.record.skipped] == ["00000007_nohash_0.wav"]
    assert sum(found.speech.record.padded.values()) == 1
    assert "1 sound files could not be read and are left out" in found.notes[0]
    assert "it is empty" in found.notes[0]
    assert "1 clips are shorter than a second" in found.notes[1]
    before = loaded(tones)
    sizes = [sum(len(getattr(one, part)) for part in ("train", "validation", "test")) for one in (found, before)]
    assert sizes[0] == sizes[1] - 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"color": "rgb"}, "no settings of images.*data.color"),
        ({"augment": Augment(crop=1), "size": 8}, "data.size, data.augment"),
        ({"fold": Fold(of=5, index=0)}, "data.fold"),
        ({"validation": 0.2}, "data.validation"),
        ({"train_samples": 10_000}, "data.train_samples of at most"),
        ({"train_samples": 3}, "Expected train clips of every class that can be read"),
    ],
)
def test_what_does_not_fit_is_refused(tones: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        loaded(tones, **settings)


def test_speech_and_images_are_not_mixed_up() -> None:
    with pytest.raises(DataError, match=r"no table \[data.speech\] for Handwritten digits"):
        load(Data(name="digits", speech=OWN), 7)
    with pytest.raises(DataError, match=r"Expected a table \[data.speech\].*12-class"):
        load(Data(name="speech-commands"), 7)


def test_missing_data_says_what_to_download_and_where_to_put_it(tmp_path: Path) -> None:
    assert not available(read_card("speech-commands"), tmp_path)
    with pytest.raises(DataError) as caught:
        load(Data(name="speech-commands", speech=Speech()), 7, tmp_path)
    assert str(tmp_path / "speech_commands_v0.02") in str(caught.value)
    assert "speech_commands_v0.02.tar.gz | tar -xz" in str(caught.value)
    assert "TINYROBUST_DATA" in str(caught.value)


@pytest.mark.parametrize("name", ["speech_commands", "speech_commands_v0.02", "."])
def test_the_archive_is_found_under_its_names(tmp_path: Path, name: str) -> None:
    for word in ("up", "down", "left", "right", "go"):
        (tmp_path / name / word).mkdir(parents=True)
    assert available(read_card("speech-commands"), tmp_path)


def test_the_real_data_set(shared: Path) -> None:
    speech = Speech(task="own-words", words=("up", "down", "left", "right", "go", "one", "two", "three"))
    found = load(Data(name="speech-commands", speech=speech, train_samples=200, test_samples=100), 7, shared / "data")
    assert found.notes[0] == "speech-commands: 4,682 of 105,829 clips found"
    assert (len(found.train), len(found.validation), len(found.test)) == (200, 400, 100)
    assert len(found.classes) == 10
    assert found.speech is not None
    assert found.speech.record.clipped < 0.01
    assert found.speech.record.skipped == ()
