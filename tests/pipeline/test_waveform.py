"""A spotter attacked on its sound: from clips to what the file says through the real front end."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinyrobust
from tinyrobust.data.arrays import scale
from tinyrobust.data.sources import load
from tinyrobust.data.speech.frontend import Grid, front_end
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.data.speech.units import samples, shifted, unit
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.errors import DataError, ModelFileError, RecipeError
from tinyrobust.pipeline.attack import attack
from tinyrobust.robustness.robustness_record import RobustnessRecord

_RECIPE = """
[data]
name = "{tones}"
[data.speech]
task = "own-words"
words = ["low", "high"]
[network]
kind = "dscnn"
width = 0.125
[[precision.rule]]
layers = "stem|logits"
weights = "fixed-point"
[[precision.rule]]
layers = ".*"
weights = "ternary"
[train]
epochs = 16
batch_size = 32
learning_rate = 1e-2
[export]
accuracy_drop = 10.0
agreement = 0.8
"""
_PROTOCOL = """
description = "For the tests."
[[attack]]
name = "pgd-snr"
kind = "pgd"
norm = "snr"
steps = 5
random_starts = 1
transfer_to = ["int8"]
[[attack]]
name = "apgd-bpda-linf"
kind = "apgd"
loss = "ce"
on = "bpda"
steps = 6
[[attack]]
name = "universal-snr"
kind = "universal"
norm = "snr"
epochs = 2
transfer_to = ["int8"]
[[attack]]
name = "universal-linf"
kind = "universal"
epochs = 2
transfer_to = ["int8"]
[[attack]]
name = "square-snr"
kind = "square"
on = "int8"
norm = "snr"
iterations = 10
restarts = 1
[[attack]]
name = "square-linf"
kind = "square"
on = "int8"
iterations = 10
restarts = 1
[[attack]]
name = "noise-snr"
kind = "noise"
on = "int8"
norm = "snr"
draws = 2
[[attack]]
name = "shift"
kind = "shift"
on = "int8"
step = 50
"""
_SAMPLES = 24


@pytest.fixture(scope="module")
def folder(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("waveform")
    (folder / "spotter.toml").write_text(_RECIPE.format(tones=tones))
    (folder / "sound.toml").write_text(_PROTOCOL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYROBUST_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def spotter(folder: Path) -> Any:
    return tinyrobust.export(folder / "spotter.toml", runs_dir=folder / "runs")


def _attack(folder: Path, model: Path, output: str, **settings: Any) -> RobustnessRecord:
    chosen = {"protocol": str(folder / "sound.toml"), "samples": _SAMPLES, "snr_db": (30, 20, 10), "epsilons": (0.0005, 0.002)}
    return attack(model, domain="waveform", output=folder / output, **(chosen | settings))


@pytest.fixture(scope="module")
def record(folder: Path, spotter: Any) -> RobustnessRecord:
    return _attack(folder, spotter.path, "attack")


def _pieces(folder: Path, name: str) -> dict[str, np.ndarray]:
    """All pieces of an attack at all radii, by file name."""
    return {
        path.stem: dict(np.load(path))
        for path in sorted((folder / "attack" / "attacks-waveform").glob(f"{name}-*.npz"))
        if not path.stem.endswith("delta")
    }


def _clips(spotter: Any, record_folder: Path) -> np.ndarray:
    dataset = load(spotter.recipe.data, spotter.recipe.seed)
    index = np.load(record_folder / "per_sample-waveform.npz")["index"]
    return dataset.speech.recordings.audio("test", index)


def _names(spotter: Any, audio: np.ndarray) -> np.ndarray:
    """What the file says, through the real front end, step by step as a device does it."""
    front = FrontendRecord.load(spotter.path / "frontend.json")
    steps = Grid.of(front).quantized(front_end(front.settings).features(audio))
    return Int8Model(spotter.path / "model.tflite").predict(scale(steps)).argmax(axis=1)


def test_what_is_measured_is_said(record: RobustnessRecord) -> None:
    assert record.domain == "waveform"
    assert (record.headline_norm, record.headline_epsilon) == ("snr", pytest.approx(0.1))
    assert record.epsilons["snr"] == pytest.approx([10**-1.5, 0.1, 10**-0.5])
    assert record.epsilons["shift"] == [50, 100]
    assert {row.target for row in record.clean} == {"keras", "int8"}
    assert next(row for row in record.clean if row.target == "int8").attacked.value > 0.8


def test_attacks_through_the_front_end_break_it(record: RobustnessRecord) -> None:
    def robust(name: str, target: str) -> list[float]:
        return [row.robust.value for row in record.attacks if (row.attack, row.target) == (name, target)]

    assert robust("pgd-snr", "keras")[-1] < 0.3
    assert robust("pgd-snr", "int8")[-1] < 0.5
    clean = next(row for row in record.clean if row.target == "int8").attacked.value
    assert robust("apgd-bpda-linf", "int8")[-1] < clean - 0.3
    # At the loudest, noise alone may break nearly as much.
    assert sum(robust("pgd-snr", "int8")) < sum(robust("noise-snr", "int8"))
    worst = {(row.norm, round(row.epsilon, 4)): row.robust.value for row in record.worst if row.target == "all"}
    assert worst["snr", 0.3162] <= worst["snr", 0.1] <= worst["snr", 0.0316]


@pytest.mark.usefixtures("record")
def test_counted_examples_are_16_bit_clips_at_the_stated_ratio_that_the_file_gets_wrong(folder: Path, spotter: Any) -> None:
    clips = _clips(spotter, folder / "attack")
    label = np.load(folder / "attack" / "per_sample-waveform.npz")["label"]
    looked_at = 0
    for stem, piece in _pieces(folder, "pgd-snr").items():
        stated = float(stem.removeprefix("pgd-snr-").rpartition("-")[0])
        rows = piece["rows"][piece["kept"]]
        found = samples(piece["adversarial"])
        np.testing.assert_array_equal(unit(found), piece["adversarial"])
        change = np.linalg.norm(found.astype(float) - clips[rows], axis=1)
        assert (change <= stated * np.linalg.norm(clips[rows].astype(float), axis=1) * (1 + 1e-5)).all()
        said = piece["predicted/int8"][piece["kept"]]
        np.testing.assert_array_equal(_names(spotter, found), said)
        looked_at += int((said != label[rows]).sum())
    assert looked_at > 10


@pytest.mark.usefixtures("record")
def test_linf_is_a_share_of_the_16_bit_range(folder: Path, spotter: Any) -> None:
    clips = _clips(spotter, folder / "attack").astype(int)
    for stem, piece in _pieces(folder, "apgd-bpda-linf").items():
        most = int(float(stem.removeprefix("apgd-bpda-linf-").rpartition("-")[0]) * 65536)
        change = np.abs(samples(piece["adversarial"]).astype(int) - clips[piece["rows"][piece["kept"]]])
        assert change.max() <= most
        assert change.max() >= most - 1


@pytest.mark.usefixtures("record")
def test_a_universal_perturbation_is_one_sound(folder: Path, spotter: Any) -> None:
    clips = _clips(spotter, folder / "attack").astype(float)
    for stem, piece in _pieces(folder, "universal-snr").items():
        delta = np.load(folder / "attack" / "attacks-waveform" / f"{stem.rpartition('-')[0]}-delta.npz")["delta"]
        stated = float(stem.removeprefix("universal-snr-").rpartition("-")[0])
        rows = piece["rows"][piece["kept"]]
        if not len(rows):
            continue
        added = samples(piece["adversarial"]) - clips[rows]
        wished = stated * np.linalg.norm(clips[rows], axis=1, keepdims=True) * delta
        assert np.abs(added - wished).max() <= 1.5  # rounding, and a little shrinking to keep to the ratio
    for stem, piece in _pieces(folder, "universal-linf").items():
        delta = np.load(folder / "attack" / "attacks-waveform" / f"{stem.rpartition('-')[0]}-delta.npz")["delta"]
        added = samples(piece["adversarial"]) - clips[piece["rows"][piece["kept"]]]
        assert np.abs(added - 65536 * delta).max(initial=0) <= 1


@pytest.mark.usefixtures("record")
def test_shifts_are_shifts(folder: Path, spotter: Any) -> None:
    clips, arrays = _clips(spotter, folder / "attack"), np.load(folder / "attack" / "per_sample-waveform.npz")
    far = arrays["distance/shift/shift"]
    assert set(np.unique(far[-1][np.isfinite(far[-1])])) <= {0, 50, 100}
    for stem, piece in _pieces(folder, "shift").items():
        most = int(stem.split("-")[1])
        for row, found in zip(piece["rows"][piece["kept"]], samples(piece["adversarial"]), strict=True):
            tried = [0, *(sign * ms * 16 for ms in range(50, most + 1, 50) for sign in (1, -1))]
            assert any(np.array_equal(found, shifted(clips[row : row + 1], by)[0]) for by in tried)


@pytest.mark.usefixtures("record")
def test_pictures_are_clips(folder: Path, spotter: Any) -> None:
    arrays = np.load(folder / "attack" / "per_sample-waveform.npz")
    assert arrays["example/image"].dtype == arrays["example/adversarial"].dtype == np.int16
    np.testing.assert_array_equal(_names(spotter, arrays["example/adversarial"]), arrays["example/predicted"])
    assert (arrays["example/predicted"] != arrays["example/label"]).all()


def test_it_goes_on_where_it_was(folder: Path, spotter: Any, record: RobustnessRecord) -> None:
    shutil.copytree(folder / "attack", folder / "again")
    pieces = folder / "again" / "attacks-waveform"
    for path in [
        folder / "again" / "robustness-waveform.json",
        *pieces.glob("square-linf-*"),
        *pieces.glob("universal-linf-*"),
    ]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in pieces.glob("pgd-snr-*")}
    again = _attack(folder, spotter.path, "again")
    assert kept == {path: path.stat().st_mtime_ns for path in pieces.glob("pgd-snr-*")}
    assert [row.robust for row in again.attacks] == [row.robust for row in record.attacks]
    assert again.worst == record.worst


def test_anybodys_file_with_its_front_end(folder: Path, spotter: Any, record: RobustnessRecord, tones: Path) -> None:
    stranger = folder / "stranger" / "somebodys.tflite"
    stranger.parent.mkdir()
    shutil.copy(spotter.path / "model.tflite", stranger)
    with pytest.raises(ModelFileError, match=r"front end of somebodys\.tflite"):
        _attack(folder, stranger, "stranger/out", data=str(tones))
    shutil.copy(spotter.path / "frontend.json", stranger.parent)
    (folder / "short.toml").write_text(_PROTOCOL.partition('[[attack]]\nname = "universal')[0])
    with pytest.raises(DataError, match="data set is not known"):
        _attack(folder, stranger, "stranger/out")
    found = _attack(
        folder, stranger, "stranger/out", protocol=str(folder / "short.toml"), data=str(tones), snr_db=(10,), epsilons=(0.002,)
    )
    assert "twin" in " ".join(found.notes)
    assert {row.crafted_on for row in found.attacks} == {"twin", "bpda"}
    int8 = next(row for row in record.clean if row.target == "int8")
    assert found.clean[0].test == int8.test  # the test part does not depend on the seed
    assert min(row.robust.value for row in found.attacks if row.attack == "pgd-snr") < 0.5


def test_protocols_of_images_do_not_fit_sound(folder: Path, spotter: Any) -> None:
    with pytest.raises(RecipeError, match="a norm of images"):
        _attack(folder, spotter.path, "other", protocol="paper")
    with pytest.raises(RecipeError, match="a norm of sound"):
        attack(spotter.path, protocol="waveform", output=folder / "other", samples=8)


def test_it_learns_on_attacked_sound(folder: Path) -> None:
    changes = ["train.epochs=2", "data.speech.augment.copies=1", "data.speech.augment.shift_ms=20"]
    perturbation = '{kind="snr", snr_db=[20, 30], steps=2}'
    sound = [f'train.objective=[{{kind="adversarial", perturbation={perturbation}}}]']
    run = tinyrobust.train(folder / "spotter.toml", overrides=[*changes, *sound], runs_dir=folder / "runs")
    assert [row["epoch"] for row in run.history] == [1, 2]
    assert {"adversarial", "val_accuracy"} <= set(run.history[0])
    assert run.history[1]["adversarial"] < run.history[0]["adversarial"]
