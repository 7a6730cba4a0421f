"""Clips that synthesizers speak: the real ones."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.data import load
from tinyrobust.data.speech.cache import folder
from tinyrobust.data.speech.corpus import Clip
from tinyrobust.data.speech.sound import read_sound
from tinyrobust.data.speech.synthetic import common_words, synthetic_clips
from tinyrobust.errors import DataError, MissingToolError
from tinyrobust.recipe.data import Data
from tinyrobust.recipe.speech import Speech, Synthetic

CLASSES = ("one", "right", "unknown", "silence")
FEW = {"unknown": 1.2, "keywords": 0.3, "words": ("tree", "bird", "house", "cloud")}


@pytest.fixture(autouse=True)
def _synthesizers() -> None:
    for program in ("espeak-ng", "flite"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: sudo apt install {program}")


def clips(seed: int = 7, progress: Any = None, **settings: Any) -> list[Clip]:
    return synthetic_clips(Synthetic(**FEW | settings), CLASSES, words=2, average=10, seed=seed, progress=progress)


def test_each_clip_is_a_word_in_the_middle_of_a_second() -> None:
    found = clips()
    assert [clip.label for clip in found] == [0] * 3 + [1] * 3 + [2] * 12
    assert len({clip.name for clip in found}) == len(found)
    for clip in found:
        sound = read_sound(clip.path).astype(np.float64)
        assert sound.shape == (16_000,)
        energy = np.cumsum(sound**2)
        assert 0.3 < np.searchsorted(energy, energy[-1] / 2) / 16_000 < 0.7
        assert np.abs(sound).max() > 1000
        assert 0.2 <= clip.loudness <= 1


def test_a_seed_says_who_speaks_what_and_nothing_is_spoken_twice() -> None:
    told: list[tuple[int, int]] = []
    first = clips(progress=lambda _, done, total: told.append((done, total)))
    assert told[-1] == (18, 18)
    written = {path: path.stat().st_mtime_ns for path in (folder() / "spoken").iterdir()}
    assert clips() == first
    assert {path: path.stat().st_mtime_ns for path in (folder() / "spoken").iterdir()} == written
    other = clips(seed=8)
    assert {clip.path for clip in other} != {clip.path for clip in first}


def test_many_words_are_spoken_before_one_is_spoken_again() -> None:
    spoken = [clip.name.rpartition("/")[2] for clip in clips(unknown=4, words=("tree", "bird", "house")) if clip.label == 2]
    assert sorted(spoken) == sorted(["tree", "bird", "house"] * 13 + [spoken[-1]])


@pytest.mark.parametrize("engine", ["espeak-ng", "flite"])
def test_what_sounds_like_a_keyword_is_not_unknown(engine: str) -> None:
    found = clips(words=("won", "tree", "write", "rite", "bird"), engines=(engine,))
    assert {clip.name.rpartition("/")[2] for clip in found if clip.label == 2} == {"tree", "bird"}


def test_other_words_must_sound_otherwise() -> None:
    with pytest.raises(DataError, match="Received: won, write, each pronounced like one of the task"):
        clips(words=("won", "write"))


def test_the_words_that_come_along_are_none_of_speech_commands(shared: Path) -> None:
    words = common_words()
    assert len(words) == len(set(words)) > 500
    assert not set(words) & {path.name for path in (shared / "data" / "speech_commands").iterdir()}


def test_a_missing_synthesizer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingToolError, match=r"synthesizer espeak-ng.*not installed") as caught:
        clips()
    assert "apt install espeak-ng" in str(caught.value.hint)


def test_an_accent_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"-v atlantic.*voice does not exist"):
        clips(accents=("atlantic",), engines=("espeak-ng",))


def test_a_word_that_cannot_be_spoken_is_named() -> None:
    with pytest.raises(DataError, match=r"Received: '\.', silence from"):
        clips(words=(".",), keywords=0, engines=("espeak-ng",))


def test_only_training_clips_are_synthetic(tones: Path) -> None:
    speech = Speech(task="own-words", words=("low", "high"))
    plain = load(Data(name=str(tones), speech=speech), 7)
    more = load(
        Data(name=str(tones), speech=speech.model_copy(update={"synthetic": Synthetic(unknown=0.5, words=FEW["words"])})), 7
    )
    for part in ("validation", "test"):
        assert more.speech is not None
        assert plain.speech is not None
        assert more.speech.recordings.parts[part] == plain.speech.recordings.parts[part]
    average = np.bincount(plain.train.y)[:2].mean()
    extra = np.bincount(more.train.y) - np.bincount(plain.train.y)
    assert extra.tolist() == [round(0.1 * average)] * 2 + [round(0.5 * average), 0]
    assert f"{extra.sum()} training clips are synthetic: espeak-ng " in more.notes[0]


def test_without_a_class_of_unknown_words_there_are_none() -> None:
    with pytest.raises(ValueError, match="class of unknown words"):
        Speech(task="all-words", synthetic=Synthetic())
    assert Speech(task="all-words", synthetic=Synthetic(unknown=0)).synthetic is not None
