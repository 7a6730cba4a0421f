"""The generated C equals TensorFlow Lite Micro on a thousand real inputs of every model there is, and on the boards on 16."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tinyrobust.data.arrays import scale
from tinyrobust.data.sources import load
from tinyrobust.deploy import device, firmware
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.probing import Inputs
from tinyrobust.errors import MissingToolError
from tinyrobust.recipe.data import Data

pytestmark = pytest.mark.slow
COUNT = 1000
KEYWORDS = ("mlperf-tiny-kws", "ds-cnn-ternary")


@pytest.fixture(scope="module")
def speech(shared: Path) -> np.ndarray:
    """Features of a thousand clips as keyword spotters take them: 49 frames of 10 MFCC, float32 [n, 49, 10]."""
    import librosa
    import soundfile

    folder = shared / "data" / "speech_commands"
    words = [sorted(word.glob("*.flac")) for word in sorted(folder.iterdir()) if word.is_dir() and word.name[0] != "_"]
    clips = [word[i] for i in range(max(map(len, words))) for word in words if i < len(word)][:COUNT]
    found = []
    for clip in clips:
        sound = librosa.util.fix_length(soundfile.read(clip, dtype="float32")[0], size=16_000)
        mel = librosa.feature.melspectrogram(y=sound, sr=16_000, n_fft=480, hop_length=320, center=False, n_mels=40)
        found.append(librosa.feature.mfcc(S=np.log(mel + 1e-6), n_mfcc=10).T[:49])
    return np.stack(found)


@pytest.mark.parametrize("name", KEYWORDS)
def test_keyword_spotters_on_speech(name, speech, shared, assert_exact, tmp_path):
    model = _copy(shared / "peers" / f"{name}.tflite", tmp_path)
    artefact = read(model)
    source = artefact.tensors[artefact.inputs[0]]
    # The trained one takes MFCC as they are; the one with random weights takes numbers around 0.
    values = speech if name == "mlperf-tiny-kws" else (speech - speech.mean(axis=0)) / speech.std(axis=0)
    raw = np.rint(values / source.scales[0]) + source.zero_points[0]
    rows = np.clip(raw, -128, 127).astype(np.int8).reshape(COUNT, -1)
    assert len(np.unique(rows)) > 100
    assert_exact([model], [rows], "-O2")


def test_image_classification_on_cifar10(shared, assert_exact, tmp_path):
    model = _copy(shared / "peers" / "mlperf-tiny-ic.tflite", tmp_path)
    rows = _pixels(model, Data(name="cifar10", color="rgb"), shared)
    assert_exact([model], [rows], "-O2")


@pytest.fixture(scope="module")
def digits_stq(benchmark: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zoo's `digits-stq`, trained here for a minute."""
    path: Path = benchmark.trained(tmp_path_factory.mktemp("digits-stq"))
    return path


def test_digits_stq_on_digits(digits_stq, assert_exact, tmp_path):
    model = _copy(digits_stq, tmp_path)
    assert_exact([model], [_pixels(model, Data(name="digits", color="gray"), None)], "-O2")


def test_models_of_the_zoo_on_their_data(checkout, shared, assert_exact, tmp_path):
    """Those whose file is in the checkout."""
    from tinyrobust import recipe

    files = sorted((checkout / "models").glob("*/model.tflite"))
    if not files:
        pytest.skip("no model of the zoo has its file in this checkout")
    for file in files:
        model = _copy(file, tmp_path)
        assert_exact([model], [_pixels(model, recipe.load(file.parent.name).data, shared)], "-O2")


@pytest.mark.parametrize("board", ["mps2-an386", "mps2-an500"])
def test_digits_stq_on_the_board(digits_stq, board):
    try:
        firmware.require()
    except MissingToolError as error:
        pytest.skip(str(error))
    rows = _pixels(digits_stq, Data(name="digits", color="gray"), None)[:16]
    record = device.measure(digits_stq, Inputs(rows, "digits"), board=board)
    assert (record.equal, record.n) == (16, 16)


def test_the_benchmark_prints_what_is_measured(benchmark, shared, tmp_path, capsys):
    """One model on one board: the rows of the tables, and the same in JSON; as footprint says."""
    import json

    from tinyrobust.footprint.measure import footprint

    try:
        firmware.require()
    except MissingToolError as error:
        pytest.skip(str(error))
    name, path = "mlperf-tiny-kws", tmp_path / "figures.json"
    status = benchmark.main(["--model", name, "--board", "mps2-an386", "--json", str(path)])
    printed = capsys.readouterr().out
    (told,) = json.loads(path.read_text())
    assert status == 0
    assert told["model"] == name
    assert all(goal["met"] and f"| {goal['what']} | {goal['ours']:,} |" in printed for goal in told["goals"])
    assert [(one["board"], one["optimisation"]) for one in told["builds"]] == [("mps2-an386", "-Os"), ("mps2-an386", "-O2")]
    assert f"| mps2-an386 | -Os | 16 of 16 | {_flash(told['builds'][0]):,} |" in printed
    assert all(layer["kernel"] in printed for layer in told["builds"][0]["layers"])
    sized = footprint(shared / "peers" / f"{name}.tflite", device=True).device
    assert sized.flash.value == _flash(told["builds"][0])
    assert sized.emulation.static_ram + told["builds"][0]["stack"] == sized.ram.value
    assert sized.instructions.value == pytest.approx(told["builds"][0]["instructions"], rel=0.01)  # 3 inputs against 16


def _flash(build: dict) -> int:
    return build["code"] + build["rodata"] + build["data"]


def _copy(model: Path, folder: Path) -> Path:
    """The tests write beside the file."""
    copy = folder / f"{model.parent.name}-{model.name}"
    copy.write_bytes(model.read_bytes())
    return copy


def _pixels(model: Path, data: Data, shared: Path | None) -> np.ndarray:
    """A thousand images of a data set as the file takes them, int8 [n, bytes]: test images first."""
    dataset = load(data, 0, shared / "data" / "tfds" if shared else None)
    images = np.concatenate([dataset.test.x, dataset.train.x])[:COUNT]
    assert len(images) == COUNT
    interpreter = Int8Model(model)
    quantized = interpreter.quantized_pixels(scale(images), interpreter.pixel_range())
    return np.ascontiguousarray(quantized).reshape(COUNT, -1).view(np.int8)
