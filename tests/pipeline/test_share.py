"""What a run takes over from another one, and from which it does not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinyrobust import recipe
from tinyrobust.data.arrays import Dataset, Split
from tinyrobust.pipeline import plan, share
from tinyrobust.pipeline.folder import RunFolder, begun

_TRAIN = plan.named("train")


@pytest.fixture
def dataset() -> Dataset:
    split = Split(np.zeros((2, 4, 4, 1), np.uint8), np.arange(2))
    return Dataset("two", split, split, split, ("a", "b"), "f" * 64)


def _run(runs: Path, dataset: Dataset, *overrides: str) -> RunFolder:
    resolved = recipe.load("digits-stq", overrides)
    (runs / resolved.run_name).mkdir(parents=True)
    return begun(runs / resolved.run_name, resolved, dataset)


@pytest.fixture
def giver(tmp_path: Path, dataset: Dataset) -> RunFolder:
    """A run with a trained network."""
    run = _run(tmp_path, dataset)
    with run.stage(_TRAIN):
        (run.path / "model.keras").write_text("weights")
        (run.path / "history.jsonl").write_text('{"epoch": 1, "seconds": 1000.5}\n')
    return run


@pytest.fixture
def taker(giver: RunFolder, dataset: Dataset) -> RunFolder:
    """A run beside it whose network is the same."""
    return _run(giver.path.parent, dataset, "export.agreement=0.9")


def test_a_stage_of_the_same_key_is_taken_over_with_its_record(giver: RunFolder, taker: RunFolder) -> None:
    assert share.take(taker, _TRAIN) == giver.path.name
    assert taker.is_complete("train")
    assert taker.record.stages["train"].seconds == 1000.5
    assert (taker.path / "model.keras").read_text() == "weights"
    assert not (taker.path / "model.keras").samefile(giver.path / "model.keras")


def test_who_computed_it_is_remembered(giver: RunFolder, taker: RunFolder, dataset: Dataset) -> None:
    share.take(taker, _TRAIN)
    (giver.path / "model.keras").unlink()
    assert share.take(_run(giver.path.parent, dataset, "export.agreement=0.8"), _TRAIN) == giver.path.name


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: (run.path / "history.jsonl").unlink(),
        lambda run: (run.path / "history.jsonl").write_text("other"),
        lambda run: (run.path / "run.json").write_text("{"),
        lambda run: (run.path / "run.json").write_text((run.path / "run.json").read_text().replace('"seconds"', '"minutes"')),
    ],
    ids=["missing", "changed", "half a record", "another record"],
)
def test_a_damaged_run_gives_nothing_and_leaves_nothing(
    giver: RunFolder, taker: RunFolder, damage: Callable[[RunFolder], object]
) -> None:
    damage(giver)
    before = sorted(taker.path.iterdir())
    assert share.take(taker, _TRAIN) is None
    assert sorted(taker.path.iterdir()) == before
    assert not taker.is_complete("train")


@pytest.mark.parametrize(
    "other", [{"versions": {"keras": "1.0"}}, {"platform": "elsewhere"}, {"dataset_fingerprint": "0" * 64}]
)
def test_where_figures_may_differ_nothing_is_taken(taker: RunFolder, other: dict[str, object]) -> None:
    taker.record = taker.record.model_copy(update=other)
    assert share.take(taker, _TRAIN) is None


def test_a_run_that_learns_otherwise_takes_nothing(giver: RunFolder, dataset: Dataset) -> None:
    assert share.take(_run(giver.path.parent, dataset, "train.ema=0.9"), _TRAIN) is None


def test_rows_that_quantize_one_float_network_share_it(tmp_path: Path, dataset: Dataset) -> None:
    """However they are calibrated, and in whatever precision; and the row that leaves it in float has it too."""
    float_stage, trained = plan.named("float"), _TRAIN
    after, rules = "train.quantization=after", 'precision.rule=[{layers=".*", weights=%s, activations=%s}]'
    giver = _run(tmp_path, dataset, after, rules % ('"pwlq"', '"calibrated"'), "train.calibration.images=8")
    with giver.stage(float_stage):
        for file in float_stage.files:
            (giver.path / file).write_text('{"epoch": 1, "seconds": 1.0}\n')
    for overrides in (
        (rules % ('"pwlq"', '"calibrated"'), "train.calibration.images=2048"),
        (rules % ('{kind="uniform", bits=4, range="mse"}', '"relu6"'), 'train.calibration.bias_correction="mean"'),
        (rules % ('"float"', '"float"'),),
    ):
        taker = _run(tmp_path, dataset, after, *overrides)
        assert share.take(taker, float_stage) == giver.path.name
        assert taker.key(trained) != giver.key(trained)
    other = _run(tmp_path, dataset, after, rules % ('"pwlq"', '"calibrated"'), "train.learning_rate=0.01")
    assert share.take(other, float_stage) is None


def test_a_report_belongs_to_its_run(giver: RunFolder, taker: RunFolder) -> None:
    report = plan.named("report")
    with giver.stage(report):
        for file in report.files:
            (giver.path / file).write_text("page")
    assert share.take(taker, report) is None
