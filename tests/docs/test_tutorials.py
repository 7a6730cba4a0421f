"""The tutorials, followed word for word in a folder that holds only what the reader is said to have."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.robustness.robustness_record import RobustnessRecord

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
_WORDS = ("up", "down", "left", "right", "go", "one", "two", "three")


def follow(name: str, folder: Path) -> str:
    """Runs the blocks of shell and Python of a page in their order; each must succeed.

    Returns:
        What they printed.
    """
    page = (TUTORIALS / name).read_text(encoding="utf-8")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "160"}
    printed = []
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        command = [sys.executable, "-c", block] if language == "python" else ["sh", "-eu", "-c", block]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        printed.append(done.stdout)
    return "\n".join(printed)


def trusted(path: Path, low: float) -> RobustnessRecord:
    """The record of an attack: right before it, and no check raised that looks at answers without attack."""
    record = RobustnessRecord.load(path)
    assert record.headline is not None
    assert [clean.test.value >= low for clean in record.clean if clean.target == "int8"] == [True]
    return record


@pytest.fixture
def on_a_board() -> None:
    """What C on an emulated board needs."""
    if not all(map(shutil.which, ("cc", "make", "arm-none-eabi-gcc", "qemu-system-arm"))):
        pytest.skip("a compiler, make or the emulator is missing")
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")


@pytest.mark.parametrize("page", sorted(path.name for path in TUTORIALS.glob("*.md")))
def test_links_lead_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", (TUTORIALS / page).read_text(encoding="utf-8")):
        text = (TUTORIALS / (target or page)).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings], anchor


def photos(folder: Path) -> None:
    """Jittered crops of a portrait, and of a temple and a flower: photos that installed packages carry."""
    import matplotlib as mpl
    import sklearn
    from PIL import Image

    random = np.random.default_rng(0)
    portrait = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    images = Path(sklearn.__file__).parent / "datasets" / "images"
    # Of the portrait from the hat to the shoulders.
    for kind, path, smallest, lowest in (
        ("person", portrait, 360, 60),
        ("no-person", images / "china.jpg", 150, 427),
        ("no-person", images / "flower.jpg", 150, 427),
    ):
        image = Image.open(path)
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(40 if kind == "person" else 20):
            side = int(random.integers(smallest, min(image.size)))
            left = int(random.integers(0, image.width - side + 1))
            top = int(random.integers(0, min(lowest, image.height - side) + 1))
            image.crop((left, top, left + side, top + side)).save(folder / kind / f"{path.stem}{number:02}.jpg")


@pytest.mark.usefixtures("on_a_board")
def test_the_person_detector(shared: Path, tmp_path: Path) -> None:
    shutil.copy(shared / "field" / "models" / "009_person_detect.tflite", tmp_path / "person.tflite")
    photos(tmp_path / "photos")
    printed = follow("person-detector.md", tmp_path)
    record = trusted(tmp_path / "robustness" / "robustness.json", 0.7)
    assert record.clean[0].test.n == 80
    assert record.samples == 10
    assert record.headline is not None
    assert record.headline.value < record.clean[0].test.value
    assert "Units: 0 and 255 of the data are -1 to 1 in the file's units" in printed
    assert "NUCLEO-L432KC" in printed
    assert {"person.c", "person.h"} <= {path.name for path in (tmp_path / "firmware").iterdir()}
    assert re.search(r"Micro's\s+16 of 16 \(test samples of photos.npz\)", printed)


def recordings(folder: Path) -> None:
    """Ten seconds each of three movements, and of three people who move at their own pace."""
    random, seconds = np.random.default_rng(0), np.arange(500) / 50
    for number in range(9):
        for movement in ("circle", "shake", "still"):
            turns = 2 * np.pi * (random.uniform(0.8, 1.2) * seconds + random.uniform())
            values = random.normal((0, 0, 1), 0.03, (500, 3))
            if movement == "circle":
                values[:, :2] += 0.5 * np.stack([np.sin(turns), np.cos(turns)], axis=1)
            if movement == "shake":
                values[:, 0] += 0.8 * np.sin(4 * turns)
            (folder / movement).mkdir(parents=True, exist_ok=True)
            path = folder / movement / f"{number}.csv"
            np.savetxt(path, values, fmt="%.4f", delimiter=",", header="x,y,z", comments="")


@pytest.mark.usefixtures("on_a_board")
def test_the_accelerometer(tmp_path: Path) -> None:
    recordings(tmp_path / "recordings")
    printed = follow("accelerometer.md", tmp_path)
    record = trusted(tmp_path / "robustness" / "robustness.json", 0.9)
    assert "Epsilons are standard deviations" in " ".join(record.notes)
    assert "0.1 std" in printed
    assert np.argmax([int(line) for line in (tmp_path / "scores.txt").read_text().split()]) == 1
    assert re.search(r"Micro's\s+16 of 16 \(test samples of windows.npz\)", printed)


@pytest.mark.usefixtures("on_a_board")
def test_the_anomaly_detector(tmp_path: Path) -> None:
    printed = follow("anomaly-detector.md", tmp_path)
    record = trusted(tmp_path / "attack-pump" / "robustness.json", 0.9)
    clean, near, far = record.detection
    assert clean.area
    assert far.area
    assert clean.area.value > 0.95 > far.area.value
    assert clean.false_alarms.value < 0.15 < near.false_alarms.value <= far.false_alarms.value
    assert "area under the ROC curve" in printed
    assert {"pump.c", "pump.h"} <= {path.name for path in (tmp_path / "pump-c").iterdir()}


def words(corpus: Path, folder: Path) -> None:
    """A few clips of each word for the test and fewer for the other parts, as the lists of the corpus say."""
    names = ("testing_list.txt", "validation_list.txt")
    listed = {name: {line.rpartition(".")[0] for line in (corpus / name).read_text().split()} for name in names}
    others = ("bed", "cat", "eight", "five", "four", "happy")
    for word in _WORDS + others:
        (folder / word).mkdir(parents=True)
        paths = sorted((corpus / word).glob("*.flac"))
        kinds = [next((name for name in names if f"{word}/{path.stem}" in listed[name]), "") for path in paths]
        for kind in ("", *names):
            wanted = (6 if word in _WORDS else 2) if kind == names[0] else (2 if word in _WORDS else 1)
            of_kind = [path for path, its in zip(paths, kinds, strict=True) if its == kind]
            for path in of_kind[:wanted]:
                shutil.copy(path, folder / word)
    shutil.copytree(corpus / "_background_noise_", folder / "_background_noise_")
    for name in names:
        shutil.copy(corpus / name, folder)


def test_the_wake_word(shared: Path, checkout: Path, tmp_path: Path) -> None:
    zoo = checkout / "models" / "kws-dscnn"
    shutil.copy(zoo / "model.tflite", tmp_path / "spotter.tflite")
    written: dict[str, Any] = json.loads((zoo / "frontend.json").read_text())
    rows = [f"{low},{high}" for low, high in zip(written["low"], written["high"], strict=True)]
    (tmp_path / "ranges.csv").write_text("\n".join(["low,high", *rows]) + "\n")
    words(shared / "data" / "speech_commands", tmp_path / "words")
    printed = follow("wake-word.md", tmp_path)
    assert "Input: int8[1, 49, 16, 1], scale 0.0039216, zero point -128." in printed
    record = trusted(tmp_path / "robustness" / "robustness-waveform.json", 0.75)
    by_name = {
        row.attack: row.robust.value for row in record.attacks if row.norm == "snr" and row.epsilon == pytest.approx(0.1)
    }
    assert by_name["made"] < by_name["random"]
    ours = json.loads((tmp_path / "frontend.json").read_text())
    assert all(ours[key] == written[key] for key in ("shape", "low", "high", "classes"))
