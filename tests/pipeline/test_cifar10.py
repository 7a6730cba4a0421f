"""The whole line on real CIFAR-10: short, but every stage on real images."""

from pathlib import Path

import numpy as np
import pytest

import tinyrobust
from tinyrobust.deploy import artefact


@pytest.mark.timeout(2700)  # five minutes of two quiet cores, and there are slower ones that are not quiet
def test_two_epochs_through_every_stage(shared: Path, tmp_path: Path) -> None:
    run = tinyrobust.run(
        "cifar10-stq",
        overrides=["network.width=0.5", "train.epochs=2", "robustness.samples=24"],
        runs_dir=tmp_path,
        data_dir=shared / "data" / "tfds",
    )
    assert list(run.record.stages) == ["train", "export", "footprint", "attack", "report"]
    assert run.record.dataset_sizes == {"train": 45_000, "validation": 5_000, "test": 10_000}
    assert [row["quantized_fraction"] for row in run.history] == [0.75, 1.0]

    clean = {accuracy.target: accuracy.test for accuracy in run.robustness.clean}
    assert clean["int8"].n == 10_000
    assert clean["int8"].value > 0.55  # two epochs; a network that learns nothing has 0.1
    assert abs(clean["int8"].value - clean["keras"].value) < 0.01
    assert run.parity.top1_agreement >= 0.985
    assert run.robustness.headline.value < 0.2  # nothing defends it: an evaluation that says otherwise is broken

    assert run.footprint.weights_packed.value < 65_000  # half the width: a quarter of what cifar10-stq may have
    kernels = [t.data for t in artefact.read(run.path / "model.tflite").tensors if t.data is not None and t.data.ndim == 4]
    ternary = [np.unique(kernel).tolist() == [-127, 0, 127] for kernel in kernels if kernel.dtype == np.int8]
    assert sum(ternary) == len(ternary) - 1  # all convolutions but the stem
    assert "cifar10-stq" in (run.path / "report.html").read_text(encoding="utf-8")
