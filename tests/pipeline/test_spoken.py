"""A keyword spotter from nothing: words spoken by espeak-ng, and everything that a run of speech does with them."""

import itertools
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import tinyrobust
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.listening.detection_record import DetectionRecord
from tinyrobust.robustness.robustness_record import RobustnessRecord

WORDS, OTHERS = ("yes", "no", "up", "stop"), ("marvin", "zero")
ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-rp")
# espeak-ng's voices are formant filters: m is for a man's, f for a woman's. Who speaks in a part speaks in no other.
VOICES = {
    "train": ("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3"),
    "validation": ("m6", "f4"),
    "test": ("m7", "f5"),
}
SPEEDS = (140, 185)

_RECIPE = """
description = "Words spoken by espeak-ng: for the tests."
[data]
name = "{spoken}"
[data.speech]
task = "own-words"
words = ["yes", "no", "up", "stop"]
[data.speech.frontend]
kind = "mfcc"
[data.speech.augment]
copies = 3
shift_ms = 100
noise = 0.5
[network]
kind = "dscnn"
width = 0.25
[[precision.rule]]
layers = "stem|logits"
weights = "fixed-point"
[[precision.rule]]
layers = ".*"
weights = "ternary"
[train]
epochs = 12
batch_size = 32
learning_rate = 1e-2
[export]
accuracy_drop = 5.0
agreement = 0.9
[robustness]
protocol = "{protocol}"
epsilons = [0.02, 0.05]
headline = 0.05
samples = 12
[robustness.waveform]
protocol = "{protocol_of_sound}"
epsilons = [0.001]
snr_db = [20.0, 10.0]
shift_ms = [50]
samples = 12
[listening]
clips = 60
[footprint]
boards = ["nucleo-l432kc"]
"""

_PROTOCOL = """
description = "A short look, for the tests."
[[attack]]
name = "pgd"
kind = "pgd"
steps = 10
random_starts = 1
transfer_to = ["int8"]
"""

_PROTOCOL_OF_SOUND = (
    _PROTOCOL.replace("steps", 'norm = "snr"\nsteps')
    + """
[[attack]]
name = "shift"
kind = "shift"
on = "int8"
"""
)


def speak(folder: Path) -> None:
    """Writes `<word>/<voice>_nohash_<n>.wav`, two noises, and the lists that keep the voices of the parts apart."""
    ways = list(enumerate(itertools.product(ACCENTS, SPEEDS)))
    listed: dict[str, list[str]] = {part: [] for part in VOICES}
    calls = []
    for word, (part, voices) in itertools.product((*WORDS, *OTHERS), VOICES.items()):
        (folder / word).mkdir(parents=True, exist_ok=True)
        for voice, (number, (accent, speed)) in itertools.product(voices, ways):
            name = f"{word}/{voice}_nohash_{number}.wav"
            listed[part].append(name)
            calls.append(["espeak-ng", "-v", f"{accent}+{voice}", "-s", str(speed), "-w", str(folder / name), word])
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda call: subprocess.run(call, check=True, capture_output=True), calls))
    (folder / "validation_list.txt").write_text("\n".join(listed["validation"]))
    (folder / "testing_list.txt").write_text("\n".join(listed["test"]))
    (folder / "_background_noise_").mkdir()
    random = np.random.default_rng(0)
    for name, width in (("hiss", 1), ("rumble", 60)):
        noise = np.convolve(random.normal(0, 0.03, 20 * 16_000), np.ones(width) / width**0.5, "same")
        soundfile.write(folder / "_background_noise_" / f"{name}.wav", noise, 16_000)


def recipe(folder: Path) -> str:
    """The recipe for the words in `folder`, beside two short protocols."""
    short, of_sound = folder / "short.toml", folder / "of-sound.toml"
    short.write_text(_PROTOCOL)
    of_sound.write_text(_PROTOCOL_OF_SOUND)
    return _RECIPE.format(spoken=folder / "words", protocol=short, protocol_of_sound=of_sound)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed: sudo apt install espeak-ng")
    folder = tmp_path_factory.mktemp("spoken")
    speak(folder / "words")
    (folder / "spoken.toml").write_text(recipe(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYROBUST_CACHE", str(folder / "cache"))
        yield tinyrobust.run(folder / "spoken.toml", runs_dir=folder / "runs")


def test_voices_that_it_never_heard_are_understood(run: Any) -> None:
    found = next(row.test for row in run.robustness.clean if row.target == "int8")
    assert found.n >= 90
    # Six classes of one size: who guesses, or always names one, is right one time in six. Three times that is no luck.
    assert found.low > 0.5
    counted = np.array(run.robustness.confusion)
    assert counted.sum() == found.n
    assert np.trace(counted) == found.count


def test_the_parts_have_voices_of_their_own(run: Any) -> None:
    record = FrontendRecord.load(run.path / "frontend.json")
    assert record.partition == "lists"
    assert record.classes == (*WORDS, "unknown", "silence")
    assert run.record.dataset_sizes["train"] == 4 * run.record.dataset_sizes["test"]


def test_the_front_end_is_a_header_beside_the_model(run: Any) -> None:
    header = (run.path / "model_frontend.h").read_text()
    assert "spoken_" in header
    assert (run.path / "model_frontend_vectors.h").is_file()


def test_it_is_attacked_on_features_and_on_sound(run: Any) -> None:
    sound = RobustnessRecord.load(run.path / "robustness-waveform.json")
    assert (sound.domain, sound.headline_norm) == ("waveform", "snr")
    assert {row.norm for row in sound.attacks} == {"snr", "shift"}
    loudest = [row.robust.count for row in sound.worst if (row.norm, row.target) == ("snr", "all")]
    assert loudest == sorted(loudest, reverse=True)
    # Nothing was done against attacks. A gradient that goes through the front end breaks what chance and shifts do not.
    assert loudest[-1] < sound.samples / 2
    assert run.robustness.domain == "features"
    with np.load(run.path / "per_sample-waveform.npz") as arrays:
        added = arrays["example/adversarial"].astype(float) - arrays["example/image"]
        clips = arrays["example/image"].astype(float)
    assert len(added) > 0
    assert (20 * np.log10(np.linalg.norm(clips, axis=1) / np.linalg.norm(added, axis=1)) > 9.99).all()


def test_it_listens(run: Any) -> None:
    record = DetectionRecord.load(run.path / "detection.json")
    assert record.test.material.keywords > 0
    assert {word.word for word in record.test.words} == set(WORDS)
    # The lowest threshold misses fewest; one that nothing reaches misses all.
    missed = [point.false_rejects.value for point in record.test.points]
    assert min(missed) < 0.5


def test_the_page_plays_clips_and_draws_the_curve(run: Any) -> None:
    text = (run.path / "report.html").read_text()
    assert len(re.findall(r'<audio controls [^>]*src="data:audio/wav;base64,', text)) >= 2
    assert 'id="confusion"' in text
    assert 'aria-label="Trade-off over ' in text
    assert not re.search(r"https?://|<script", text)
    assert "Listening to a stream" in (run.path / "README.md").read_text()
