"""The table [data.speech]: what it may say, and that recipes without it are the same runs as before."""

from pathlib import Path

import pytest

from tinyrobust import recipe
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.frontend import Mfcc, Micro

_SPEECH = """\
[data]
name = "speech-commands"
[data.speech]
task = "own-words"
words = ["up", "down"]
[data.speech.frontend]
kind = "mfcc"
coefficients = 40
[data.speech.augment]
copies = 4
snr_db = [5, 15]
[data.speech.augment.masks]
time = 1
[[precision.rule]]
layers = ".*"
weights = "ternary"
[train]
epochs = 5
"""


@pytest.fixture
def spoken(tmp_path: Path) -> Path:
    path = tmp_path / "spoken.toml"
    path.write_text(_SPEECH)
    return path


def test_what_it_says(spoken: Path, tmp_path: Path) -> None:
    loaded = recipe.load(spoken)
    assert loaded.data.speech is not None
    assert loaded.data.speech.frontend == Mfcc(kind="mfcc", coefficients=40)
    assert loaded.data.speech.augment.snr_db == (5, 15)
    again = tmp_path / "again" / "spoken.toml"
    again.parent.mkdir()
    again.write_text(loaded.to_toml())
    assert recipe.load(again) == loaded
    assert recipe.load(again).hash == loaded.hash


def test_the_other_front_end(spoken: Path) -> None:
    spoken.write_text(_SPEECH.replace('kind = "mfcc"\ncoefficients = 40', 'kind = "micro"'))
    loaded = recipe.load(spoken)
    assert loaded.data.speech is not None
    assert loaded.data.speech.frontend == Micro(kind="micro", stride=2)


def test_every_setting_changes_the_hash(spoken: Path) -> None:
    settings = [
        "task=all-words",
        "unknown=2",
        "silence=0.5",
        "frontend.mels=50",
        "frontend.coefficients=12",
        "augment.copies=5",
        "augment.shift_ms=9",
        "augment.response_db=3",
        "augment.room=0.5",
        "augment.room_ms=[60,300]",
        "augment.room_db=[0,9]",
        "augment.colored=0.5",
        "augment.masks.time=2",
        "backwards=1",
        "joined=1",
        "quiet_silence=true",
        "validation_speakers=0.5",
    ]
    hashes = {recipe.load(spoken).hash}
    for setting in settings:
        words = ["data.speech.words=[]"] if setting.startswith("task") else []
        hashes.add(recipe.load(spoken, [f"data.speech.{setting}", *words]).hash)
    assert len(hashes) == len(settings) + 1


def test_learning_on_attacked_sound_has_keys_of_its_own() -> None:
    """In a union of two tables, the nearest key is one of the table that was meant."""
    with pytest.raises(RecipeError, match=r"perturbation\.snr\.snr: there is no such key\. Did you mean 'snr_db'"):
        recipe.load("kws-stq-robust", ["train.objective.0.perturbation.snr=20"])
    with pytest.raises(RecipeError, match=r"epsilonn: there is no such key\. Did you mean 'epsilon'"):
        recipe.load("digits-stq-adversarial", ["train.objective.0.perturbation.epsilonn=0.1"])
    with pytest.raises(RecipeError, match="where sound is attacked or learned from"):
        recipe.load("digits-stq-adversarial", ['train.objective.0.perturbation={kind="snr"}'])
    with pytest.raises(RecipeError, match="where sound is attacked"):
        recipe.load("digits-stq", ["robustness.waveform.samples=20"])
    with pytest.raises(RecipeError, match="it has no gradients"):
        recipe.load("kws-stq-robust", ['data.speech.frontend={kind="micro"}'])
    with pytest.raises(RecipeError, match="an snr_db that falls"):
        recipe.load("kws-stq", ["robustness.waveform.snr_db=[10, 20]"])


def test_a_table_that_says_what_is_the_default_changes_no_hash() -> None:
    loaded = recipe.load("digits-stq")
    assert recipe.load("digits-stq", ["robustness.grid=false", "footprint.boards=[]"]).hash == loaded.hash
    assert recipe.load("digits-stq", ["robustness.grid=true"]).hash != loaded.hash


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("copies = 4", "copy = 4", "data.speech.augment.copy: .*Did you mean 'copies'", id="augment"),
        pytest.param("task =", "tsak =", "data.speech.tsak: .*Did you mean 'task'", id="speech"),
        pytest.param("coefficients = 40", "coeficients = 40", "coeficients: .*Did you mean 'coefficients'", id="mfcc"),
        pytest.param('"mfcc"', '"lpc"', "frontend.*'lpc'", id="front-end"),
        pytest.param('"mfcc"', '"micro"', "coefficients: there is no such key.*stride", id="key-of-the-other-front-end"),
        pytest.param("= 40", "= 41", "at most as many coefficients as mels. Received: 41 and 40", id="coefficients"),
        pytest.param("[5, 15]", "[15, 5]", "snr_db from low to high. Received: 15.0, 5.0", id="range"),
        pytest.param("copies = 4", "copies = 4\nspeed = [0.1, 1]", "speeds from 0.5 to 2", id="speed"),
        pytest.param("copies = 4", "copies = 4\nroom_ms = [0, 100]", "room_ms from 1 to 1000", id="room"),
        pytest.param('words = ["up", "down"]', "", 'words where task = "own-words"', id="no-words"),
        pytest.param('"up", "down"', '"up", "up"', "every word once", id="twice"),
        pytest.param("words =", "backwards = 1\nunknown = 0\nwords =", "unknown words for those that are made", id="backwards"),
        pytest.param('"up", "down"', '"up", "silence"', "unknown and silence are classes already", id="silence"),
        pytest.param('kind = "mfcc"', 'kind = "mfcc"\nlow_hz = 5000', "low_hz below high_hz. Received: 5000.0", id="band"),
    ],
)
def test_what_does_not_fit_is_said(spoken: Path, old: str, new: str, message: str) -> None:
    assert old in _SPEECH
    spoken.write_text(_SPEECH.replace(old, new))
    with pytest.raises(RecipeError, match=message):
        recipe.load(spoken)


def test_a_camera_corrupts_no_words() -> None:
    with pytest.raises(RecipeError, match=r"Expected no robustness.corruptions beside \[data.speech\]"):
        recipe.load("kws-stq", ["robustness.corruptions=corruptions"])
