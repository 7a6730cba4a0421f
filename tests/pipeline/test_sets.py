"""Every image set of tensorflow-datasets through every stage; minutes, so `make test-slow` runs it."""

from pathlib import Path

import pytest

import tinyrobust


@pytest.mark.slow
@pytest.mark.parametrize(("name", "color", "epochs", "at_least"), [("mnist", "gray", 1, 0.9), ("svhn_cropped", "rgb", 12, 0.3)])
def test_a_set_through_every_stage(shared: Path, tmp_path: Path, name: str, color: str, epochs: int, at_least: float) -> None:
    overrides = [
        f"data.name={name}",
        f"data.color={color}",
        "data.augment.flip=false",
        "network.width=0.25",
        f"train.epochs={epochs}",
        "train.batch_size=64",
        "robustness.samples=20",
        "export.agreement=0.95",
        "export.accuracy_drop=2.0",
    ]
    run = tinyrobust.run("cifar10-stq", overrides=overrides, runs_dir=tmp_path, data_dir=shared / "data" / "tfds")
    clean = next(accuracy.test for accuracy in run.robustness.clean if accuracy.target == "int8")
    assert clean.value > at_least
    assert (run.path / "report.html").is_file()
    assert run.record.dataset_notes if name == "svhn_cropped" else not run.record.dataset_notes
