import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.data import available, load, read_card
from tinyrobust.data.cards import Tfds
from tinyrobust.data.tfds import read_tfds, tfds_folder
from tinyrobust.errors import DataError
from tinyrobust.recipe.data import Augment, Data

SVHN = Data(name="svhn_cropped", color="rgb")
LOADER = Tfds(kind="tfds", name="svhn_cropped", version="3.1.0")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which no folder for data is named."""
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.delenv("TINYROBUST_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def copy(shared: Path, tmp_path: Path) -> Path:
    """A copy of the small set that may be damaged."""
    folder = tmp_path / "data" / "svhn_cropped" / "3.1.0"
    shutil.copytree(shared / "data/tfds/svhn_cropped/3.1.0", folder)
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o755)
    return folder


def test_the_folder_is_the_first_that_is_given(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    within = Path("svhn_cropped/3.1.0")
    assert tfds_folder(LOADER) == nowhere / "home/tensorflow_datasets" / within
    monkeypatch.setenv("TINYROBUST_DATA", "/ours")
    assert tfds_folder(LOADER) == Path("/ours/tfds") / within
    monkeypatch.setenv("TFDS_DATA_DIR", "/theirs")
    assert tfds_folder(LOADER) == Path("/theirs") / within
    assert tfds_folder(LOADER, nowhere) == nowhere / within
    (nowhere / "tfds" / within).mkdir(parents=True)
    assert tfds_folder(LOADER, nowhere) == nowhere / "tfds" / within


def test_missing_data_says_where_it_is_expected_and_how_to_get_it(nowhere: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(Data(name="cifar10"), 7, nowhere / "data")
    text = str(caught.value)
    assert f"Expected CIFAR-10 in {nowhere}/data/cifar10/3.0.2" in text
    assert f"tfds.builder('cifar10:3.0.2', data_dir='{nowhere}/data').download_and_prepare()" in text
    assert "--data-dir" in text
    assert "TFDS_DATA_DIR" in text
    assert not (nowhere / "data").exists()


def test_a_set_with_several_forms_names_the_one_of_the_card(nowhere: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(Data(name="imagenette"), 7, nowhere / "data")
    text = str(caught.value)
    assert f"in {nowhere}/data/imagenette/160px-v2/1.0.0" in text
    assert f"tfds.builder('imagenette/160px-v2:1.0.0', data_dir='{nowhere}/data').download_and_prepare()" in text


def test_flip_is_refused_before_anything_is_read(nowhere: Path) -> None:
    with pytest.raises(DataError, match=r"flip = false: a mirrored image of MNIST"):
        load(Data(name="mnist", augment=Augment(flip=True)), 7, nowhere)


def test_a_partial_set_loads_and_says_so(shared: Path) -> None:
    dataset = load(SVHN, 7, shared / "data/tfds")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (975, 108, 486)
    assert dataset.input_shape == (32, 32, 3)
    assert dataset.notes == (
        "svhn_cropped: 1,083 of 73,257 training images found",
        "svhn_cropped: 486 of 26,032 test images found",
    )
    assert load(SVHN, 7, shared / "data").fingerprint == dataset.fingerprint


def test_cifar10_is_read_whole_in_official_order(shared: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    card = read_card("cifar10")
    assert isinstance(card.loader, Tfds)
    assert available(card, shared / "data/tfds")
    source = read_tfds(card, card.loader, shared / "data/tfds", lambda *call: calls.append(call))
    assert (len(source.train), len(source.test)) == (50000, 10000)
    assert np.bincount(source.train.y).tolist() == [5000] * 10
    assert np.bincount(source.test.y).tolist() == [1000] * 10
    # The first labels of data_batch_1 and test_batch: frog, truck, truck, deer ...; cat, ship, ship, airplane ...
    assert source.train.y[:20].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3, 4, 7, 7, 2, 9, 9, 9, 3, 2, 6]
    assert source.test.y[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert calls[0] == ("reading cifar10 (train)", 500, 50000)
    assert calls[-1] == ("reading cifar10 (test)", 10000, 10000)


def test_mnist_loads_gray_with_a_resized_subset(shared: Path) -> None:
    data = Data(name="mnist", size=14, train_samples=1000, test_samples=200)
    dataset = load(data, 7, shared / "data/tfds")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (900, 100, 200)
    assert dataset.input_shape == (14, 14, 1)
    assert dataset.notes == ()


def cut_short(folder: Path) -> None:
    path = folder / "svhn_cropped-train.tfrecord-00000"
    path.write_bytes(path.read_bytes()[:1_000_000])


def without_a_file(folder: Path) -> None:
    (folder / "svhn_cropped-test.tfrecord-00000").unlink()


def damaged_description(folder: Path) -> None:
    (folder / "features.json").write_text("{")


def other_count(folder: Path) -> None:
    path = folder / "dataset_info.json"
    path.write_text(path.read_text().replace('"1083"', '"1084"'))


@pytest.mark.parametrize("damage", [cut_short, without_a_file, damaged_description, other_count])
def test_a_damaged_set_is_refused(copy: Path, damage: Any) -> None:
    damage(copy)
    with pytest.raises(DataError, match=r"it cannot be read \(.*\)\. Delete that folder and get it again"):
        load(SVHN, 7, copy.parent.parent)


def test_images_of_another_size_than_the_cards_are_refused(copy: Path) -> None:
    card = read_card("svhn_cropped").model_copy(update={"image": (16, 16, 3)})
    with pytest.raises(DataError, match=r"Expected uint8 images of \(16, 16, 3\)\. Received: uint8 \(32, 32, 3\)"):
        read_tfds(card, LOADER, copy.parent.parent)


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
from pathlib import Path
from tinyrobust.data import load
from tinyrobust.errors import MissingToolError
from tinyrobust.recipe.data import Data
assert len(load(Data(name="digits"), 7).test) == 360
try:
    load(Data(name="svhn_cropped"), 7, Path(sys.argv[1]))
except MissingToolError as error:
    assert "needs TensorFlow" in str(error) and ".npz" in str(error), error
else:
    raise SystemExit("MissingToolError expected")
assert "tensorflow_datasets" not in sys.modules
"""


def test_without_tensorflow_digits_load_and_tfds_sets_say_what_is_missing(shared: Path) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW, str(shared / "data/tfds")], check=True)


def test_listing_data_sets_imports_nothing_heavy() -> None:
    code = (
        "import sys, tinyrobust.data as data; data.cards();"
        "assert not {'tensorflow', 'tensorflow_datasets', 'keras', 'sklearn', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
