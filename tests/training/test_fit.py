"""Training: history, checkpoints, the average, resume that is exact, and errors that lose nothing."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust.errors import RunFolderError, TrainingError
from tinyrobust.training.objectives import Batch, Objective

_STEPS_AN_EPOCH = 6
_WAYS = {
    "adamw-ema": ("train.optimizer=adamw", "train.ema=0.9"),
    "sgd": ("train.optimizer=sgd", "train.learning_rate=0.05", "train.schedule=cosine"),
}


def _assert_same(one: Any, other: Any) -> None:
    """Bit for bit the same run."""
    for first, second in zip(one.network.variables, other.network.variables, strict=True):
        np.testing.assert_array_equal(first, second, err_msg=first.path)
    assert one.history == other.history


class _Stop:
    """A `Progress` that ends the run in the middle of an epoch."""

    def __init__(self, step: int, end: Any) -> None:
        self.step, self.end = step, end

    def __call__(self, _label: str, done: int, _total: int) -> None:
        if done == self.step:
            self.end()


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_the_history_tells_phases_rates_and_curves(trial):
    run = trial()
    shown = []
    run.train(progress=lambda *call: shown.append(call))
    rows = run.history
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["quantized_fraction"] for row in rows] == [0.5, 0.75, 0.875, 1.0]
    assert rows[0]["learning_rate"] > rows[2]["learning_rate"] > rows[3]["learning_rate"] == 0
    keys = {"loss", "accuracy", "cross_entropy"}
    assert set(rows[0]) == {"epoch", "learning_rate", "quantized_fraction", *keys, *(f"val_{key}" for key in keys)}
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert [(done, total) for _, done, total in shown] == [(step + 1, 24) for step in range(24)]
    assert shown[-1][0].startswith("train: epoch 4 of 4, accuracy ")


def test_only_the_newest_checkpoint_remains_and_the_model_loads(trial):
    run = trial("train.epochs=3")
    run.train()
    assert run.checkpoints == ["train-0003.npz"]
    stored = keras.models.load_model(run.files.model, compile=False)
    for saved, trained in zip(stored.variables, run.network.variables, strict=True):
        np.testing.assert_array_equal(saved, trained)


@pytest.mark.parametrize("overrides", _WAYS.values(), ids=_WAYS)
def test_resumed_in_the_middle_it_is_the_uninterrupted_run(trial, overrides):
    whole, again, broken = (trial(*overrides, folder=name) for name in ("whole", "again", "broken"))
    whole.train()
    again.train()
    _assert_same(again, whole)
    for step in (9, 15):  # the middle of the second epoch, and of the third
        with pytest.raises(KeyboardInterrupt):
            broken.train(progress=_Stop(step, _interrupt))
    assert broken.checkpoints == ["train-0002.npz"]
    assert not broken.files.model.exists()
    broken.train()
    _assert_same(broken, whole)
    broken.train()  # every epoch is done: nothing is left but to finish
    _assert_same(broken, whole)


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from conftest import Trial
run = Trial(Path(sys.argv[2]), *sys.argv[3:])
run.train(progress=lambda label, done, total: done == 15 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_killed_and_resumed_in_another_process(trial):
    overrides = _WAYS["adamw-ema"]
    whole, broken = trial(*overrides, folder="whole"), trial(*overrides, folder="broken")
    arguments = [str(Path(__file__).parent), str(broken.files.model.parent), *overrides]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], capture_output=True, check=False, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert broken.checkpoints == ["train-0002.npz"]
    broken.train()
    whole.train()
    _assert_same(broken, whole)


def test_another_seed_is_another_run(trial):
    one, other = trial(folder="one"), trial("seed=8", folder="other")
    one.train(epochs=1)
    other.train(epochs=1)
    assert one.history != other.history


def test_the_average_is_deployed_and_the_latent_weights_are_stored(trial):
    run = trial("train.ema=0.8", "train.epochs=2", "train.schedule=constant")
    seen: list[list[np.ndarray]] = []
    run.train(progress=lambda *_: seen.append([np.array(v) for v in run.network.trainable_variables]))
    average = seen[0]
    for weights in seen[1:]:
        average = [0.8 * old + 0.2 * new for old, new in zip(average, weights, strict=True)]
    for variable, expected in zip(run.network.trainable_variables, average, strict=True):
        np.testing.assert_allclose(variable, expected, atol=1e-5, err_msg=variable.path)
        assert not np.array_equal(variable, seen[-1][0])
    # Validation looked at the average, and put back what was there, to the bit.
    with np.load(run.files.checkpoints / "train-0002.npz") as stored:
        arrays = [stored[f"arr_{index}"] for index in range(len(stored.files))]
    for weights in seen[-1]:
        assert any(np.array_equal(weights, array) for array in arrays)


def test_a_distilled_student_learns(trial, objective):
    settings = ("train.epochs=8", "data.train_samples=1200", "data.augment.crop=0", "train.learning_rate=0.02")
    teacher = trial(*settings, "precision.rule.-1.weights.fractions=[0, 0, 0, 1]", folder="teacher")
    teacher.train(objective("cross-entropy", temperature=20.0))
    student = trial(*settings, folder="student")
    taught = keras.models.load_model(teacher.files.model, compile=False)
    student.train(objective("distillation", temperature=20.0, teacher=taught))
    rows = student.history
    assert {"distillation", "val_distillation"} <= set(rows[0])
    assert rows[-1]["val_accuracy"] > 0.9
    stored = keras.models.load_model(student.files.model, compile=False)
    assert stored.count_params() == student.network.count_params()  # the teacher is not in it


# Errors


class _Poison(Objective):
    """Not a number, in training or on validation images."""

    name = "poison"

    def __init__(self, in_training: bool) -> None:
        self.in_training = in_training

    def __call__(self, batch: Batch) -> Any:
        return keras.ops.mean(batch.logits) * (np.nan if batch.training == self.in_training else 0.0)


def test_a_loss_that_is_not_finite_stops_and_loses_nothing(trial, objective):
    run, whole = trial(folder="run"), trial(folder="whole")
    with pytest.raises(KeyboardInterrupt):
        run.train(progress=_Stop(15, _interrupt))
    before = run.files.history.read_bytes()
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 3, step 1\..*last good checkpoint") as caught:
        run.train(objective("cross-entropy", label_smoothing=0.1), _Poison(in_training=True))
    assert str(run.files.checkpoints / "train-0002.npz") in caught.value.message
    assert "learning_rate" in caught.value.hint
    assert run.checkpoints == ["train-0002.npz"]
    assert run.files.history.read_bytes() == before
    run.train()
    whole.train()
    _assert_same(run, whole)


def test_a_validation_loss_that_is_not_finite_leaves_no_checkpoint(trial, objective):
    run = trial()
    with pytest.raises(TrainingError, match=r"validation loss became nan in epoch 1\. There is no checkpoint yet"):
        run.train(objective("cross-entropy"), _Poison(in_training=False))
    assert run.checkpoints == []


def test_a_learning_rate_that_is_far_too_high(trial):
    run = trial("train.optimizer=sgd", "train.learning_rate=1e30")
    with pytest.raises(TrainingError, match=r"became (nan|inf) in epoch 1.*Lower the learning rate"):
        run.train()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _other_network(path: Path) -> None:
    np.savez(path, np.zeros(3), np.zeros((2, 2)))


def _unlike_numpy(path: Path) -> None:
    np.savez(path, np.array([{"a": 1}], dtype=object))


@pytest.mark.parametrize("damage", [_cut, _flip, _empty, _other_network, _unlike_numpy], ids=lambda f: f.__name__)
def test_a_damaged_checkpoint_is_named(trial, trained_once, damage):
    run = trained_once(trial)
    damage(run.files.checkpoints / "train-0001.npz")
    with pytest.raises(RunFolderError, match=r"checkpoint .*train-0001.npz: .*Delete it and run the same command again"):
        run.train()


@pytest.mark.parametrize("history", [None, "", "no json\n", '{"epoch": 2}\n', "[]\n"], ids=repr)
def test_a_damaged_history_is_named(trial, trained_once, history):
    run = trained_once(trial)
    if history is None:
        run.files.history.unlink()
    else:
        run.files.history.write_text(history)
    with pytest.raises(RunFolderError, match=r"history of 1 epochs in .*history.jsonl.*Delete .*train-0001.npz"):
        run.train()


@pytest.fixture(scope="module")
def _first_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped in its second epoch."""
    return tmp_path_factory.mktemp("first-epoch")


@pytest.fixture
def trained_once(_first_epoch: Path) -> Any:
    """Copies a run that was stopped in its second epoch."""

    def make(trial: Any) -> Any:
        run = trial()
        if not (_first_epoch / "run").exists():
            with pytest.raises(KeyboardInterrupt):
                run.train(progress=_Stop(9, _interrupt))
            shutil.copytree(run.files.model.parent, _first_epoch / "run")
        else:
            shutil.copytree(_first_epoch / "run", run.files.model.parent)
        return run

    return make
