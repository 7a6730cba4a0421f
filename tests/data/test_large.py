"""Sets that do not fit the budget: the same images, the same batches and the same training, from disk."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tinyrobust
from tinyrobust.data import Dataset, load, memory, read_card
from tinyrobust.data.batches import Batches, InOrder
from tinyrobust.data.converted import converted
from tinyrobust.data.images import squared
from tinyrobust.data.rows import Rows
from tinyrobust.errors import DataError
from tinyrobust.recipe.data import Augment, Data, Fold

Budget = Callable[[str], None]

IMAGENETTE = Data(name="imagenette", color="rgb")
RESISC45 = Data(name="resisc45", color="rgb", train_samples=300)
SVHN = Data(name="svhn_cropped", color="gray", size=16)


def same(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_array_equal(one, other)


def assert_equal_batches(one: Dataset, other: Dataset) -> None:
    for epoch in (0, 3):
        batches = [Batches(each.train, Augment(flip=True, crop=4), 8, 7, epoch) for each in (one, other)]
        for index in (3, 0, len(batches[0]) - 1):
            for first, second in zip(batches[0][index], batches[1][index], strict=True):
                same(first, second)
    for (x, y), (also_x, also_y) in zip(InOrder(one.validation, 8), InOrder(other.validation, 8), strict=True):
        same(x, also_x)
        same(y, also_y)


@pytest.mark.parametrize(
    "data",
    [
        IMAGENETTE,
        IMAGENETTE.model_copy(update={"size": 48, "color": "gray"}),
        RESISC45,
        RESISC45.model_copy(update={"size": 32, "fold": Fold(of=3, index=1)}),
    ],
    ids=lambda data: f"{data.name}-{data.color}-{data.size}",
)
def test_batches_from_disk_are_those_from_memory(large_sets: Path, budget: Budget, data: Data) -> None:
    budget("10K")
    streamed = load(data, 7, large_sets)
    budget("4G")
    held = load(data, 7, large_sets)
    assert all(isinstance(split.x, Rows) for split in (streamed.train, streamed.validation, streamed.test))
    assert all(isinstance(split.x, np.ndarray) for split in (held.train, held.validation, held.test))
    assert streamed.fingerprint == held.fingerprint
    assert (streamed.notes, streamed.input_shape) == (held.notes, held.input_shape)
    assert_equal_batches(streamed, held)
    same(streamed.test.x[:], held.test.x[:])


def test_a_set_of_small_images_may_stay_on_disk_too(shared: Path, budget: Budget) -> None:
    budget("100K")
    streamed = load(SVHN, 7, shared / "data/tfds")
    budget("2G")
    held = load(SVHN, 7, shared / "data/tfds")
    assert isinstance(streamed.train.x, Rows)
    assert isinstance(held.train.x, np.ndarray)
    assert streamed.fingerprint == held.fingerprint
    assert_equal_batches(streamed, held)


def test_large_images_that_become_small_are_converted_once_and_held_in_memory(large_sets: Path, budget: Budget) -> None:
    budget("64M")  # 253 MiB as they are, 1 MiB as prepared
    data, calls = RESISC45.model_copy(update={"size": 16}), []
    first = load(data, 7, large_sets, lambda label, *_: calls.append(label))
    assert isinstance(first.train.x, np.ndarray)
    assert "reading resisc45 (train)" in calls
    calls.clear()
    again = load(data, 8, large_sets, lambda label, *_: calls.append(label))
    assert calls == []
    same(first.test.x[:], again.test.x[:])


def test_a_set_without_test_images_is_cut_the_same_for_every_seed(large_sets: Path, budget: Budget) -> None:
    budget("1M")
    data = Data(name="resisc45", color="rgb")
    one, other = load(data, 1, large_sets), load(data, 2, large_sets)
    # 30 images of each of 45 classes; a fifth is the test's.
    assert np.bincount(one.test.y).tolist() == [6] * 45
    assert (len(one.train), len(one.validation)) == (972, 108)
    assert isinstance(one.train.x, Rows)
    assert isinstance(one.test.x, Rows)
    assert isinstance(one.validation.x, Rows)
    assert isinstance(other.test.x, Rows)
    same(one.test.x.index, other.test.x.index)
    parts = [split.x.index for split in (one.train, one.validation, one.test)]
    assert sorted(np.concatenate(parts)) == list(range(1350))
    assert one.notes == (
        "resisc45: 1,080 of 25,200 training images found",
        "resisc45: 270 of 6,300 test images found",
    )


def test_images_that_vary_in_size_become_the_square_in_their_middle(large_sets: Path, budget: Budget) -> None:
    import tensorflow_datasets as tfds

    budget("2G")
    builder = tfds.builder_from_directory(large_sets / "imagenette/160px-v2/1.0.0")
    originals = [record["image"] for record in tfds.as_numpy(builder.as_dataset(split="validation", shuffle_files=False))]
    assert len({image.shape for image in originals}) > 10
    expected = []
    for image in originals:
        top = (image.shape[0] - 160) // 2
        square = Image.fromarray(image[top : top + 160, :160])
        expected.append(np.asarray(square.resize((48, 48), Image.Resampling.BILINEAR)))
    same(load(IMAGENETTE.model_copy(update={"size": 48}), 7, large_sets).test.x[:], np.stack(expected))
    assert load(IMAGENETTE, 7, large_sets).input_shape == (160, 160, 3)


@pytest.mark.parametrize(("shape", "top", "left"), [((5, 9, 3), 0, 2), ((9, 4, 1), 2, 0), ((6, 6, 1), 0, 0)])
def test_the_square_is_the_largest_in_the_middle(shape: tuple[int, ...], top: int, left: int) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    side = min(shape[:2])
    same(squared(image), image[top : top + side, left : left + side])


PEAK = """
import sys
from pathlib import Path
import keras, tensorflow, tensorflow_datasets
from tinyrobust.data import load
from tinyrobust.data.batches import Batches, InOrder
from tinyrobust.recipe.data import Augment, Data

def mib(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

folder = Path(sys.argv[1])
load(Data(name="imagenette", size=32), 7, folder)  # what libraries take at their first use
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
before = mib("VmRSS")
dataset = load(Data(name="resisc45", color="rgb"), 7, folder)
for batches in (Batches(dataset.train, Augment(flip=True, crop=8), 8, 7), InOrder(dataset.validation, 8)):
    for index in range(len(batches)):
        batches[index]
print(mib("VmHWM") - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of a process's memory is read from Linux' /proc"
)
def test_a_set_larger_than_the_budget_takes_little_memory(large_sets: Path, tmp_path: Path) -> None:
    """253 MiB of images: read, converted and learned from in less than half of that; held in memory they take twice as much."""
    code = [sys.executable, "-c", PEAK, str(large_sets)]
    places = {"TINYROBUST_MEMORY": "32M", "TINYROBUST_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(code, env=os.environ | places, capture_output=True, text=True, check=True)
    assert float(done.stdout.splitlines()[-1]) < 126


KILLED = """
import os, signal
import numpy as np
from tinyrobust.data.converted import converted

def batches():
    for k in range(4):
        yield np.full((2, 300, 300, 3), k, np.uint8), np.array([k, k])
        if k == 2:
            os.kill(os.getpid(), signal.SIGKILL)

converted("killed", {}, (8, 300, 300, 3), batches)
"""


def test_a_killed_conversion_leaves_nothing_that_is_taken_for_whole(budget: Budget, tmp_path: Path) -> None:
    budget("1M")
    killed = subprocess.run([sys.executable, "-c", KILLED], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    cache = tmp_path / "cache"
    assert list(cache.glob(".partial-*"))
    assert not list(cache.glob("killed-*.npy"))
    x, y = np.arange(8 * 2700, dtype=np.uint8).reshape(8, 30, 30, 3).repeat(10, axis=1).repeat(10, axis=2), np.arange(8)
    found = converted("killed", {}, (8, 300, 300, 3), lambda: [(x[:5], y[:5]), (x[5:], y[5:])])
    same(found.x[:], x)
    same(found.y, y)
    assert not list(cache.glob(".partial-*"))


def test_a_file_that_was_cut_short_is_noticed_and_made_anew(large_sets: Path, budget: Budget, tmp_path: Path) -> None:
    budget("1M")
    first = load(IMAGENETTE, 7, large_sets)
    (path,) = (tmp_path / "cache").glob("imagenette-train-*-images.npy")
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match=r"it is shorter\. Something changed the file"):
        first.train.x[:]
    assert load(IMAGENETTE, 7, large_sets).fingerprint == first.fingerprint


def test_images_that_do_not_fit_the_disk_are_refused_before_they_are_written(budget: Budget, tmp_path: Path) -> None:
    budget("1M")
    with pytest.raises(DataError, match=r"953,674,316 MiB of free space.*1,000,000,000 prepared.*TINYROBUST_CACHE") as caught:
        converted("huge", {}, (10**9, 1000, 1000, 1), list)
    assert "smaller data.size" in str(caught.value)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_of_several_at_once_one_converts(budget: Budget) -> None:
    budget("1M")
    passes: list[int] = []

    def batches() -> Any:
        passes.append(1)
        for k in range(4):
            yield np.full((2, 3, 3, 1), k, np.uint8), np.array([k, k])

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: converted("shared", {}, (8, 3, 3, 1), batches), range(4)))
    assert len(passes) == 1
    for split in found:
        same(split.x[::2][:, 0, 0, 0], np.arange(4))
        same(split.take(np.array([7, 0])).x[:][:, 0, 0, 0], np.array([3, 0]))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 2 * 2**30),
        ("500", 500),
        ("64k", 65536),
        ("500M", 500 * 2**20),
        (" 4 GiB ", 4 * 2**30),
        ("1.5G", 3 * 2**29),
        ("4T", 4 * 2**40),
    ],
)
def test_the_budget_is_a_size(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("TINYROBUST_MEMORY", text)
    assert memory.budget() == size


@pytest.mark.parametrize("text", ["much", "-1", "K", "4Q"])
def test_a_budget_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TINYROBUST_MEMORY", text)
    with pytest.raises(DataError, match="TINYROBUST_MEMORY as a size such as 500M or 4G"):
        memory.budget()


RECIPE = """
[data]
name = "imagenette"
color = "rgb"
size = 16
validation = 0.2
[[precision.rule]]
layers = ".*"
weights = "stochastic-ternary"
[network]
kind = "stqnet"
width = 0.25
[train]
epochs = 2
batch_size = 16
[export]
accuracy_drop = 100.0
agreement = 0.0
[robustness]
samples = 5
epsilons = [0.1]
headline = 0.1
"""


@pytest.mark.slow
def test_the_same_recipe_runs_with_both(large_sets: Path, budget: Budget, tmp_path: Path) -> None:
    recipe = tmp_path / "large.toml"
    recipe.write_text(RECIPE)
    budget("10K")
    streamed = tinyrobust.run(recipe, runs_dir=tmp_path / "streamed", data_dir=large_sets, until="attack")
    budget("2G")
    held = tinyrobust.run(recipe, runs_dir=tmp_path / "held", data_dir=large_sets, until="export")
    curves = [[{**row, "seconds": 0} for row in run.history] for run in (streamed, held)]
    assert curves[0] == curves[1]
    assert (streamed.path / "model.tflite").read_bytes() == (held.path / "model.tflite").read_bytes()
    assert streamed.path.name == held.path.name
    # An evaluation of a run that was trained from disk goes on where the images are in memory: they are the same.
    finished = tinyrobust.run(recipe, runs_dir=tmp_path / "streamed", data_dir=large_sets, until="attack")
    assert finished.robustness.clean[0].test.n == 20


def test_the_cards_say_how_the_sets_are_cut() -> None:
    resisc45, imagenette = read_card("resisc45"), read_card("imagenette")
    assert (resisc45.loader.kind, imagenette.loader.kind) == ("tfds", "tfds")
    assert (resisc45.loader.split_seed, imagenette.loader.test) == (0, "validation")
    assert resisc45.train_images + resisc45.test_images == 31500
    assert "140 images of each class" in resisc45.splits
