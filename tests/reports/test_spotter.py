"""The page and the card of a spotter of words. The numbers are made up, the sound is made by code."""

import base64
import io
import re
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.errors import RunFolderError
from tinyrobust.files import sha256
from tinyrobust.listening.detection_record import DetectionRecord, EvaluationAudio, Measured, Point, Rate, WordRate
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.listening import Listening
from tinyrobust.reports import formats
from tinyrobust.reports.advice import ADVICE
from tinyrobust.reports.card import write_card
from tinyrobust.reports.confusion import confusion_rows, mistakes
from tinyrobust.reports.facts import RunFacts
from tinyrobust.reports.pairs import read_pairs
from tinyrobust.reports.report import render
from tinyrobust.reports.sound import level, signal_to_noise, spectrogram_uri, wav_uri
from tinyrobust.robustness.robustness_record import AttackResult, RobustnessRecord, WorstCase
from tinyrobust.robustness.statistics import wilson

WORDS = ("up", "down", "unknown", "silence")
RATIOS = (10**-1.5, 0.1, 10**-0.5)
RATE = 16_000


def tone(hertz: float) -> np.ndarray:
    """A second, 16 bits."""
    sound = 0.3 * np.hanning(RATE) * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)
    return np.round(sound * 32768).astype(np.int16)


def detection() -> DetectionRecord:
    def point(threshold: float, accepts: int, missed: int) -> Point:
        rates = [Rate(count=n, hours=0.25, per_hour=4 * n, low=2 * n, high=4 * n + 12) for n in (accepts, accepts // 3)]
        return Point(threshold=threshold, false_accepts=rates[0], on_noise=rates[1], false_rejects=wilson(missed, 200), wrong=3)

    def measured(part: str) -> Measured:
        points = tuple(point(0.3 + 0.1 * i, [40, 12, 4, 1, 0][i], [4, 9, 18, 50, 121][i]) for i in range(5))
        return Measured(
            material=EvaluationAudio(
                part=part,
                source="Words in noise",
                keywords=200,
                keyword_seconds=500,
                others=130,
                other_seconds=400,
                noise_seconds=500,
                hours=0.25,
            ),
            points=points,
            chosen=points[2],
            words=(WordRate(word="up", false_rejects=wilson(11, 100)), WordRate(word="down", false_rejects=wilson(7, 100))),
        )

    return DetectionRecord(
        model="model.tflite",
        model_sha256="5e" * 32,
        settings=Listening(),
        threshold=0.5,
        reason="errors are fewest there",
        validation=measured("validation"),
        test=measured("test"),
        notes=("The noise is that of the recordings.",),
    )


def on_sound(record: RobustnessRecord) -> RobustnessRecord:
    """The record of attacks on the sound, from one of attacks on images."""

    def rows(target: str) -> list[AttackResult]:
        common = next(row for row in record.attacks if row.target == target).model_copy(update={"attack": "pgd-snr"})
        return [
            common.model_copy(update={"norm": "snr", "epsilon": ratio, "robust": wilson(count, 200)})
            for ratio, count in zip(RATIOS, (180, 91, 4), strict=True)
        ]

    shift = record.attacks[0].model_copy(
        update={"attack": "time-shift", "norm": "shift", "epsilon": 50.0, "crafted_on": "int8"}
    )
    return record.model_copy(
        update={
            "domain": "waveform",
            "protocol": "waveform",
            "epsilons": {"linf": [0.0005, 0.001], "snr": list(RATIOS), "shift": [50.0]},
            "headline_epsilon": 0.1,
            "headline_norm": "snr",
            "headline": wilson(83, 200),
            "attacks": [*rows("keras"), *rows("int8"), shift],
            "worst": [
                WorstCase(target=target, norm=norm, epsilon=radius, robust=wilson(83, 200))
                for target in ("keras", "int8", "all")
                for norm, radii in (("snr", RATIOS), ("shift", (50.0,)))
                for radius in radii
            ],
            "minimal": [],
        }
    )


def write_pairs(path: Path) -> None:
    """Six broken clips in the form of `per_sample.npz`."""
    label = np.array([0, 0, 0, 1, 1, 2])
    clips = np.stack([tone(300 + 200 * i) for i in range(6)])
    changed = clips + np.random.default_rng(0).integers(-300, 301, clips.shape).astype(np.int16)
    np.savez_compressed(
        path,
        allow_pickle=False,
        **{
            "index": np.arange(10, 30),
            "label": np.resize(label, 20),
            "clean/int8": np.resize(label, 20),
            "example/index": np.arange(10, 16),
            "example/label": label,
            "example/image": clips,
            "example/adversarial": changed,
            "example/predicted": (label + 1) % 4,
            "example/attack": np.asarray("pgd-snr"),
            "example/target": np.asarray("int8"),
            "example/epsilon": np.asarray(0.1),
        },
    )


@pytest.fixture
def spotter(facts: RunFacts) -> RunFacts:
    values = facts.recipe.model_dump(by_alias=True, exclude={"data"}) | {
        "name": "kws",
        "data": {"name": "speech-commands", "speech": {"task": "own-words", "words": ["up", "down"]}},
        "listening": {},
    }
    values["robustness"]["waveform"] = {}
    assert facts.data
    data = facts.data.model_copy(update={"classes": WORDS, "input_shape": (49, 10, 1)})
    return facts.model_copy(update={"recipe": Recipe.model_validate(values), "data": data})


@pytest.fixture
def spoken(folder: Path) -> Path:
    """What attacks and listening leave in the run folder of a spotter; the other sections are those of every run."""
    for name in ("history.jsonl", "parity.json", "footprint.json"):
        (folder / name).unlink()
    record = RobustnessRecord.load(folder / "robustness.json")
    confusion = [[120, 4, 6, 0], [3, 125, 2, 0], [9, 14, 97, 10], [0, 0, 1, 79]]
    record.model_copy(update={"confusion": confusion}).save(folder / "robustness.json")
    on_sound(record).save(folder / "robustness-waveform.json")
    write_pairs(folder / "per_sample-waveform.npz")
    detection().save(folder / "detection.json")
    return folder


def page(folder: Path, run: RunFacts) -> tuple[str, str]:
    """The page, and its visible text."""
    text = render(folder, run).read_text(encoding="utf-8")
    body = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    return text, " ".join(re.sub(r"<[^>]+>", " ", body).split())


def plain(text: str) -> str:
    return " ".join(text.split())


def test_sound_is_on_the_page_and_plays(spoken: Path, spotter: RunFacts) -> None:
    text, words = page(spoken, spotter)
    assert "media-src data:" in text
    players = re.findall(r'<audio controls preload="metadata" src="data:audio/wav;base64,([^"]+)" aria-label="([^"]+)">', text)
    pairs = read_pairs(spoken / "per_sample-waveform.npz")
    assert len(players) == 2 * len(pairs) == 8
    for pair, (original, _), (changed, label) in zip(pairs, players[::2], players[1::2], strict=True):
        for encoded, samples in ((original, pair.original), (changed, pair.adversarial)):
            with wave.open(io.BytesIO(base64.b64decode(encoded))) as file:
                assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
                np.testing.assert_array_equal(np.frombuffer(file.readframes(RATE), "<i2"), samples)
        assert label.endswith(f"heard as {WORDS[pair.after]}")
        assert f"{pair.snr_db:.1f} dB below the clip" in words
    assert text.count('alt="Spectrogram of') == 3 * len(pairs)
    assert len(text) < 1_500_000


def test_radii_are_said_in_the_words_of_their_norm(spoken: Path, spotter: RunFacts) -> None:
    _, words = page(spoken, spotter)
    assert "30 dB 20 dB 10 dB" in words
    assert "changed as sound at signal-to-noise ratio 20 dB" in words
    assert re.search(r"shift in time.{0,90} 50 ms", words)
    assert plain(formats.proportion(wilson(83, 200))) in words


def test_the_curve_and_its_figures_are_on_the_page(spoken: Path, spotter: RunFacts) -> None:
    text, words = page(spoken, spotter)
    assert 'aria-label="Trade-off over 5 thresholds. At the default, 0.5: 16 false accepts an hour' in text
    assert plain(formats.proportion(wilson(18, 200))) in words
    assert "4 in 15 min 00 s without keywords" in words
    assert "chosen on the validation part: errors are fewest there. The figures are of the test part." in words
    assert "The noise is that of the recordings." in words


def test_the_confusion_matrix_is_on_the_page(spoken: Path, spotter: RunFacts) -> None:
    text, words = page(spoken, spotter)
    assert "unknown as down , 14 of 130" in words
    assert text.count("--share:") == 16
    record = RobustnessRecord.load(spoken / "robustness.json")
    rows = confusion_rows(record, lambda label: WORDS[label])
    assert [row.right.count for row in rows] == [120, 125, 97, 79]
    assert [(one.true, one.named, one.count) for one in mistakes(record, lambda label: WORDS[label])][:2] == [
        ("unknown", "down", 14),
        ("unknown", "silence", 10),
    ]


def test_ids_are_unique_and_links_lead_somewhere(spoken: Path, spotter: RunFacts) -> None:
    text, _ = page(spoken, spotter)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    sections = re.findall(r'<section id="([^"]+)"', text)
    assert sections[:7] == ["robustness", "checks", "examples", "waveform", "sounds", "listening", "confusion"]


def test_what_the_recipe_asks_for_and_is_not_there_is_said(folder: Path, spotter: RunFacts) -> None:
    text, words = page(folder, spotter)
    assert re.findall(r'<section id="([^"]+)" class="absent"', text) == ["waveform", "listening"]
    assert "The sound itself was not attacked yet" in words
    quiet = spotter.recipe.model_copy(update={"listening": None})
    assert 'id="listening"' not in page(folder, spotter.model_copy(update={"recipe": quiet}))[0]


def test_the_card_has_the_key_lines(spoken: Path, spotter: RunFacts) -> None:
    body = write_card(spoken, spotter).read_text(encoding="utf-8")
    assert formats.proportion(wilson(83, 200)) in body
    assert formats.proportion(wilson(18, 200)) in body
    assert "false accepts an hour" in body


def test_another_evaluation_of_the_sound_is_shown(spoken: Path, spotter: RunFacts) -> None:
    (spoken / "attack-more").mkdir()
    (spoken / "model.tflite").write_bytes(b"model")
    record = RobustnessRecord.load(spoken / "robustness-waveform.json")
    other = record.model_copy(update={"protocol": "long", "model_sha256": sha256(spoken / "model.tflite")})
    other.save(spoken / "attack-more" / "robustness-waveform.json")
    _, words = page(spoken, spotter)
    assert "The same file under the protocol long, attacked as sound" in words
    assert f"{plain(formats.proportion(wilson(83, 200)))} stand at signal-to-noise ratio 20 dB" in words


def test_a_doubtful_figure_of_the_sound_is_a_warning(spoken: Path, spotter: RunFacts, doubted: str) -> None:
    doubt = RobustnessRecord.load(spoken / "robustness.json")
    record = RobustnessRecord.load(spoken / "robustness-waveform.json")
    record.model_copy(update={"checks": doubt.checks, "reliable": False}).save(spoken / "robustness-waveform.json")
    text, words = page(spoken, spotter)
    assert f"On the sound: {doubted}" in words
    assert 'href="#waveform-check-softmax"' in text
    card = write_card(spoken, spotter).read_text(encoding="utf-8")
    assert f"On the sound: {doubted} *{ADVICE['softmax']}*" in card


def test_pairs_are_the_samples_that_were_judged(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.npz")
    pairs = read_pairs(tmp_path / "pairs.npz")
    assert [pair.label for pair in pairs] == [0, 0, 1, 2]  # one of every class first
    assert [(pair.before, pair.after) for pair in pairs[:1]] == [(0, 1)]
    assert all(0 < pair.largest_change <= 300 for pair in pairs)
    noise = pairs[0].adversarial.astype(float) - pairs[0].original
    assert pairs[0].snr_db == pytest.approx(20 * np.log10(np.std(pairs[0].original) / np.std(noise)), abs=0.1)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert read_pairs(tmp_path / "none.npz") == []
    (tmp_path / "pairs.npz").write_text("no zip")
    with pytest.raises(RunFolderError, match=r"pairs\.npz"):
        read_pairs(tmp_path / "pairs.npz")


def test_a_spectrogram_shows_where_a_tone_is() -> None:
    levels = level(tone(2000))
    assert levels.shape[0] == 96
    assert int(levels.max(axis=1).argmax()) == 2000 * 96 // 8000
    assert spectrogram_uri(levels, levels.max()).startswith("data:image/png;base64,")


def test_nothing_added_is_infinitely_quiet() -> None:
    assert signal_to_noise(tone(300), tone(300)) == np.inf
    assert signal_to_noise(tone(300), 2 * tone(300)) == pytest.approx(0)


def test_the_same_sound_is_the_same_text() -> None:
    found: Any = wav_uri(tone(500))
    assert found == wav_uri(tone(500))
