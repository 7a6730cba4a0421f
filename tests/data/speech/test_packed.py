"""Speech Commands in the form of tensorflow-datasets, written here in its own format from tones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.data import Dataset, available, load, read_card
from tinyrobust.data.speech import cache
from tinyrobust.data.speech.corpus import BENCHMARK
from tinyrobust.data.speech.frontend import front_end
from tinyrobust.errors import DataError, RunFolderError
from tinyrobust.recipe.data import Data
from tinyrobust.recipe.speech import Masks, Speech, SpeechAugment

NAME = "speech-commands-tfds"
# As the builder of tensorflow-datasets has them.
LABELS = ["down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes", "_silence_", "_unknown_"]
COUNTS = {"train": 8, "validation": 2, "test": 3}  # of every word; of other words there are four times as many
RATE = 16_000


def sounds(part: str) -> list[tuple[np.ndarray, str]]:
    """Clips of a part, in no order; the last word's are shorter than a second."""
    random = np.random.default_rng(COUNTS[part])
    found = []
    for place, name in enumerate(LABELS):
        for _ in range(COUNTS[part] * (4 if name == "_unknown_" else 1)):
            length = RATE // 2 if name == "yes" else RATE
            tone = np.sin(2 * np.pi * 200 * (place + 1) * np.arange(length) / RATE) * (name != "_silence_")
            found.append((np.round(8000 * tone + random.normal(0, 60, length)).astype(np.int16), name))
    return [found[index] for index in random.permutation(len(found))]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of tensorflow-datasets with a small speech_commands 0.0.3 in it, written by tensorflow-datasets."""
    import tensorflow_datasets as tfds

    base = tmp_path_factory.mktemp("tfds")
    names = tfds.features.ClassLabel(names=LABELS)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="speech_commands",
        version="0.0.3",
        data_dir=base,
        features=tfds.features.FeaturesDict(
            {"audio": tfds.features.Audio(file_format="wav", sample_rate=RATE, dtype=np.int16), "label": names}
        ),
        split_datasets={
            part: [(key, {"audio": audio, "label": name}) for key, (audio, name) in enumerate(sounds(part))] for part in COUNTS
        },
    )
    return base


def loaded(base: Path, seed: int = 7, progress: Any = None, **speech: Any) -> Dataset:
    return load(Data(name=NAME, speech=Speech(**speech)), seed, base, progress)


def test_the_parts_are_those_of_the_set(prepared: Path) -> None:
    assert available(read_card(NAME), prepared)
    found = loaded(prepared)
    assert found.classes == (*BENCHMARK, "unknown", "silence")
    # Of other words as many as of an average word; the test part is taken whole.
    assert np.bincount(found.train.y).tolist() == [8] * 12
    assert np.bincount(found.validation.y).tolist() == [2] * 12
    assert np.bincount(found.test.y).tolist() == [3] * 10 + [12, 3]
    assert found.notes[0] == f"{NAME}: 195 of 100,503 clips found"
    assert found.speech is not None
    assert found.speech.record.partition == "splits of tensorflow-datasets"
    assert found.speech.record.padded == {"train": 8, "validation": 2, "test": 3}


def test_the_sound_is_that_of_the_set(prepared: Path) -> None:
    """Every test clip, bit for bit, under its own class; features are those of the sound."""
    found = loaded(prepared)
    assert found.speech is not None
    audio = found.speech.recordings.audio("test")
    heard = sorted((sound.tobytes(), found.classes[label]) for sound, label in zip(audio, found.test.y, strict=True))
    padded = [np.pad(sound, (0, RATE - len(sound))) for sound, _ in sounds("test")]
    names = [{"_unknown_": "unknown", "_silence_": "silence"}.get(name, name) for _, name in sounds("test")]
    assert heard == sorted((sound.tobytes(), name) for sound, name in zip(padded, names, strict=True))
    record = found.speech.record
    low, high = np.array(record.low), np.array(record.high)
    steps = np.floor(255 * (front_end(record.settings).features(audio) - low) / (high - low) + 0.5)
    np.testing.assert_array_equal(found.test.x[..., 0], np.clip(steps, 0, 255))


def test_silence_is_the_noise_of_its_part(prepared: Path) -> None:
    found = loaded(prepared)
    assert found.speech is not None
    background = found.speech.recordings.background
    known = {sound.tobytes() for sound, name in sounds("train") if name == "_silence_"}
    assert {sound.tobytes() for sound in background.noise()} == known
    assert len(background.regions("test")) == 3
    mixed = loaded(prepared, augment=SpeechAugment(copies=2, noise=1.0, masks=Masks(time=1)))
    assert [copy.shape for copy in mixed.copies] == [mixed.train.x.shape] * 2


def test_other_words_are_drawn_by_the_seed_and_only_for_training(prepared: Path) -> None:
    first, again, other = loaded(prepared), loaded(prepared), loaded(prepared, seed=8)
    assert first.fingerprint == again.fingerprint

    def unknown(found: Dataset, part: str) -> set[bytes]:
        assert found.speech is not None
        rows = np.flatnonzero(getattr(found, part).y == 10)
        return {sound.tobytes() for sound in found.speech.recordings.audio(part, rows)}

    assert unknown(first, "train") != unknown(other, "train")
    assert unknown(first, "validation") == unknown(other, "validation")
    more = loaded(prepared, backwards=0.5, quiet_silence=True)
    assert np.bincount(more.train.y).tolist() == [8] * 10 + [12, 8]
    without = loaded(prepared, unknown=0, silence=0)
    assert without.classes == BENCHMARK
    assert np.bincount(without.test.y).tolist() == [3] * 10


def test_it_is_unpacked_once(prepared: Path) -> None:
    told: list[str] = []
    loaded(prepared, progress=lambda label, *_: told.append(label))
    assert {"unpacking train clips", "computing features of test clips"} <= set(told)
    told.clear()
    loaded(prepared, progress=lambda label, *_: told.append(label))
    assert told == []
    (pack,) = cache.folder().glob("speech_commands-*")
    (pack / "validation.int16").write_bytes(b"cut short")
    loaded(prepared, progress=lambda label, *_: told.append(label))
    assert "unpacking validation clips" in told


def test_other_tasks_are_refused(prepared: Path) -> None:
    with pytest.raises(DataError, match=r"Expected task = \"12-class\".*Received: own-words.*upstream archive"):
        loaded(prepared, task="own-words", words=("up", "down"))
    with pytest.raises(DataError, match=r"Expected validation_speakers = 1 .* does not say who speaks.*Received: 0\.5"):
        loaded(prepared, validation_speakers=0.5)
    with pytest.raises(DataError, match=r"Expected a table \[data.speech\]"):
        load(Data(name=NAME), 7, prepared)


def test_a_cache_that_cannot_be_written_is_named(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TINYROBUST_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunFolderError, match="TINYROBUST_CACHE names another folder"):
        loaded(prepared)


def test_what_is_not_there_or_damaged_is_said(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing is there.*download_and_prepare"):
        loaded(tmp_path)
    folder = tmp_path / "speech_commands" / "0.0.3"
    folder.mkdir(parents=True)
    for path in (prepared / "speech_commands" / "0.0.3").iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[: len(content) // 2] if "-test." in path.name else content)
    with pytest.raises(DataError, match=r"it cannot be read \(.*Delete that folder"):
        loaded(tmp_path)
