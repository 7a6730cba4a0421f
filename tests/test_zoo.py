"""What is committed in models/: files that belong together, work, and are quoted rightly."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tinyrobust import assets, data, recipe
from tinyrobust.cli.tables import kib, percent
from tinyrobust.data.arrays import scale
from tinyrobust.data.speech.frontend_record import FRONTEND, FrontendRecord
from tinyrobust.deploy.frontend_header import VECTORS
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.files import sha256
from tinyrobust.footprint.footprint_record import FootprintRecord
from tinyrobust.graphs.numbers import NETWORK
from tinyrobust.pipeline.c_array import write_array
from tinyrobust.pipeline.networks import own_network
from tinyrobust.reports.card import write_card
from tinyrobust.reports.facts import RunFacts
from tinyrobust.robustness.robustness_record import RobustnessRecord

# What spoke the training clips of the spotters. Others speak otherwise, and the fingerprint says so.
_SPOKEN_BY = "espeak-ng 1.51, flite 2.2-current"
TRAINED = [name for name, path in assets.recipes().items() if path.with_name("model.tflite").is_file()]
_IMAGES = 300


@pytest.fixture(params=TRAINED)
def model(request: pytest.FixtureRequest) -> Path:
    """A folder of the zoo that has a trained file."""
    return assets.recipes()[request.param].parent


def test_there_are_trained_models() -> None:
    of_cifar10 = ("stq", "stq-adversarial", "stq-t50", "stq-rgb", "fp", "8bit", "binary", "ptq-ternary")
    of_speech = ("dscnn", "stq", "stq-t50", "stq-robust")
    expected = {"mnist-stq", "svhn-stq", *(f"cifar10-{one}" for one in of_cifar10), *(f"kws-{one}" for one in of_speech)}
    assert expected <= set(TRAINED)


def test_all_of_a_folder_is_of_one_run_of_its_recipe(model: Path) -> None:
    digest = sha256(model / "model.tflite")
    assert RobustnessRecord.load(model / "robustness.json").model_sha256 == digest
    assert FootprintRecord.load(model / "footprint.json").sha256 == digest
    assert f"recipe hash {recipe.load(model.name).hash[:8]}" in (model / "README.md").read_text()


def test_what_a_card_says_of_the_device_follows_from_the_folder(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / model.name)
    written = write_card(copy, RunFacts(name=model.name, recipe=recipe.load(model.name)))
    said = [
        re.findall(r"## On a device\n(.*?)\n+(?:Classes: |## To)", path.read_text(), re.DOTALL)
        for path in (written, model / "README.md")
    ]
    assert said[0] == said[1]
    assert "that is p - 128" in said[0][0]


@pytest.fixture
def without_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder without data sets, and no other is looked in."""
    for variable in ("TINYROBUST_DATA", "TFDS_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "nothing"))
    return tmp_path / "nothing"


def test_what_is_made_of_a_file_is_what_its_run_made(model: Path, without_data: Path, tmp_path: Path) -> None:
    """The C array, its header and the front end's header follow from what the folder holds: no data, no other package."""
    written = write_array(model, tmp_path, data_dir=without_data)
    expected = _generated(model)
    vectors = expected.pop(VECTORS, None)
    assert {path.name: sha256(path) for path in written.files} == expected
    assert bool(written.left_out) == (vectors is not None)
    array = re.search(r"\{(.*?)\}", (tmp_path / "model_data.cc").read_text(), re.DOTALL)
    assert array is not None
    content = bytes(int(one, 16) for one in array.group(1).replace("\n", "").split(",") if one.strip())
    assert content == (model / "model.tflite").read_bytes()


@pytest.mark.parametrize("name", [name for name in TRAINED if name.startswith("kws-")])
def test_the_test_vectors_are_those_of_the_run(name: str, tmp_path: Path, shared: Path) -> None:
    model = assets.recipes()[name].parent
    written = write_array(model, tmp_path, data_dir=shared / "data")
    assert written.left_out == ""
    assert {path.name: sha256(path) for path in written.files} == _generated(model)


def _generated(model: Path) -> dict[str, str]:
    """The SHA-256 of the files that the run of a zoo model made of its `.tflite`, by name: `sha256sum` wrote them."""
    rows = (line.split() for line in (model / "generated.sha256").read_text().splitlines())
    return {name: digest for digest, name in rows}


def test_the_paper_network_takes_less_than_its_budget() -> None:
    assert FootprintRecord.load(assets.recipes()["cifar10-stq"].with_name("footprint.json")).weights_packed.value < 260_000


def test_the_readme_quotes_the_records(model: Path, checkout: Path) -> None:
    record, size = RobustnessRecord.load(model / "robustness.json"), FootprintRecord.load(model / "footprint.json")
    clean = next(one.test for one in record.clean if one.target == "int8")
    figures = (f"`{model.name}`", percent(clean), percent(record.headline), f"`{record.protocol}`")
    row = f"| {' | '.join(figures)} | {kib(size.weights_packed.value)} KiB |"
    assert row in (checkout / "README.md").read_text()


def test_its_data_are_those_here_and_it_is_as_good_on_images_that_no_one_trained_on(model: Path, shared: Path) -> None:
    resolved = recipe.load(model.name)
    place = shared / ("data" if resolved.data.speech else "data/tfds")
    dataset = data.load(resolved.data, resolved.seed, place, copies=False)
    images = dataset.validation
    right = Int8Model(model / "model.tflite").predict(scale(images.x[:_IMAGES])).argmax(axis=1) == images.y[:_IMAGES]
    record = RobustnessRecord.load(model / "robustness.json")
    expected = next(one.test.value for one in record.clean if one.target == "int8")
    # Four standard deviations of so many images; a broken file names one class in ten.
    assert np.mean(right) >= expected - 4 * (expected * (1 - expected) / _IMAGES) ** 0.5
    if (
        dataset.speech
    ):  # another clip would move them by more than a part in 100,000, another processor does by one in 10 million
        trained, here = FrontendRecord.load(model / FRONTEND), dataset.speech.record
        np.testing.assert_allclose([*here.low, *here.high], [*trained.low, *trained.high], rtol=1e-6)
        if not any(note.endswith(_SPOKEN_BY) for note in dataset.notes):
            pytest.skip(f"the spotters' training clips were spoken by {_SPOKEN_BY}: others are installed")
    assert record.dataset_fingerprint == dataset.fingerprint
    assert f"data fingerprint {dataset.fingerprint}." in (model / "README.md").read_text()
    of_sound = model / "robustness-waveform.json"
    assert not of_sound.is_file() or RobustnessRecord.load(of_sound).dataset_fingerprint == dataset.fingerprint


def test_the_numbers_of_a_network_are_those_of_its_file(model: Path) -> None:
    """Where there are any: no run of the older models is left to take them from."""
    if not (model / NETWORK).is_file():
        pytest.skip(f"{model.name} has no {NETWORK}")
    network = own_network(recipe.load(model.name), model / "model.tflite")
    assert network is not None
    file = Int8Model(model / "model.tflite")
    x = np.random.default_rng(0).random((100, *network.input_shape[1:]), np.float32)
    named = [np.argmax(one, axis=1) for one in (network.predict(x, verbose=0), file.predict(x))]
    assert np.mean(named[0] == named[1]) > 0.9  # noise is nearer to other classes than images are
