"""The whole line on real photographs: few of CIFAR-10's, but every stage."""

from pathlib import Path

import numpy as np
import pytest

import tinyrobust
from tinyrobust import data, recipe
from tinyrobust.deploy import artefact

_TRAINED, _TESTED = 4_000, 1_000


@pytest.fixture
def photographs(shared: Path, tmp_path: Path) -> Path:
    """The first images of CIFAR-10's parts, in colour, as anybody's `.npz`."""
    resolved = recipe.load("cifar10-stq", ["data.color='rgb'"])
    found = data.load(resolved.data, resolved.seed, shared / "data" / "tfds")
    few = {"train": (found.train, _TRAINED), "test": (found.test, _TESTED)}
    x = {f"x_{part}": split.x[:count] for part, (split, count) in few.items()}
    y = {f"y_{part}": split.y[:count] for part, (split, count) in few.items()}
    np.savez(tmp_path / "photographs.npz", **x, **y, classes=np.array(found.classes))
    return tmp_path / "photographs.npz"


def test_every_stage(photographs: Path, tmp_path: Path) -> None:
    run = tinyrobust.run(
        "cifar10-stq",
        overrides=[
            f"data.name='{photographs}'",
            "network.width=0.25",
            "train.epochs=5",
            "robustness.samples=24",
            "export.agreement=0.9",
        ],
        runs_dir=tmp_path,
    )
    assert list(run.record.stages) == ["train", "export", "footprint", "attack", "amplification", "report"]
    assert run.record.dataset_sizes == {"train": 3_600, "validation": 400, "test": 1_000}
    assert run.history[-1]["quantized_fraction"] == 1.0

    clean = {accuracy.target: accuracy.test for accuracy in run.robustness.clean}
    assert clean["int8"].n == 1_000
    assert clean["int8"].value > 0.25  # a network that learns nothing has 0.1
    assert abs(clean["int8"].value - clean["keras"].value) < 0.02
    assert run.robustness.headline.value < 0.2  # nothing defends it: an evaluation that says otherwise is broken

    assert run.footprint.weights_packed.value < 17_000  # a quarter of the width: a sixteenth of what cifar10-stq may have
    kernels = [t.data for t in artefact.read(run.path / "model.tflite").tensors if t.data is not None and t.data.ndim == 4]
    ternary = [np.unique(kernel).tolist() == [-127, 0, 127] for kernel in kernels if kernel.dtype == np.int8]
    assert sum(ternary) == len(ternary) - 1  # all convolutions but the stem
    assert "cifar10-stq" in (run.path / "report.html").read_text(encoding="utf-8")
