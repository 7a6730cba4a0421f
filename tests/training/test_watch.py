"""Robust accuracy after every epoch: what it is, which epoch is kept, and how a collapse is undone."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tinyrobust
from tinyrobust import recipe as recipes
from tinyrobust.data.arrays import Split, scale
from tinyrobust.errors import RecipeError, RunFolderError
from tinyrobust.recipe import watch as tables
from tinyrobust.recipe.perturbation import Pgd, PgdL2
from tinyrobust.training import perturbations
from tinyrobust.training.objectives import Batch
from tinyrobust.training.remarks import GAIN, ROBUST, ZERO, remarks
from tinyrobust.training.watch import Attacked, Watch, best_epoch

_WATCH = 'train.watch={samples=32, perturbation={kind="pgd", epsilon=0.1, steps=2}}'


# Training on clean images takes back, in a few epochs, the robustness that the first ones gave, and its loss falls.

_EPOCHS, _STEPS = 8, 6
_COLLAPSES = (
    f"train.epochs={_EPOCHS}",
    "train.optimizer=sgd",
    "train.learning_rate=0.1",
    "train.schedule=constant",
)
_AGAINST = 'perturbation={kind="pgd", epsilon=0.12, steps=3}'


def _array(tensor: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _linear(scale_of_weights: float = 1.0) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Two classes told apart by one value of three, by logits (x0, 0.5), right where x0 is on the side of 1/2 of its label."""
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    network.set_weights(
        [scale_of_weights * np.array([[1, 0], [0, 0], [0, 0]], np.float32), scale_of_weights * np.array([0, 0.5])]
    )
    x = np.full((10, 3), 0.5, np.float32)
    x[:, 0] = [0.55, 0.65, 0.75, 0.85, 0.95, 0.45, 0.35, 0.25, 0.15, 0.05]
    return network, x, np.array([0] * 5 + [1] * 5)


def test_what_is_measured_of_a_network_by_hand() -> None:
    """A change of 0.19 crosses 1/2 from 0.55 and 0.65, and from 0.45 and 0.35: six of ten are left."""
    network, x, y = _linear()
    attacked = Attacked(network, perturbations.build(Pgd(kind="pgd", epsilon=0.19, steps=3, step=1.0), seed=0))
    found = attacked.measure(x, y)
    logits = np.stack([x[:, 0], np.full(10, 0.5)], axis=1)
    moved = np.clip(x[:, 0] + np.where(y == 0, -0.19, 0.19), 0, 1)
    margins = [one * np.where(y == 0, 1, -1) for one in (logits[:, 0] - 0.5, moved - 0.5)]
    clean, worse = (np.log1p(np.exp(-margin)).mean() for margin in margins)
    assert found == {ROBUST: pytest.approx(0.6), GAIN: pytest.approx(worse - clean, rel=1e-4), ZERO: 0}
    assert attacked.measure(x, y) == found  # the same draws


def test_gradients_that_vanish_are_counted() -> None:
    """Logits 200 apart and more: where they are right the softmax is one to the last bit (exp(-200) is none), the loss flat."""
    network, x, y = _linear(4000.0)
    attacked = Attacked(network, perturbations.build(Pgd(kind="pgd", epsilon=0.01, start="input"), seed=0))
    y[4] = 1  # wrong: its gradient is there
    found = attacked.measure(x, y)
    assert found[ZERO] == pytest.approx(0.9)
    assert found[GAIN] == pytest.approx(4, rel=1e-3)  # that of the one: 4000 times 0.01, a tenth of the images
    assert found[ROBUST] == pytest.approx(0.9)


def test_the_best_epoch_is_the_first_of_the_highest() -> None:
    assert best_epoch([]) == 0
    assert best_epoch([{ROBUST: value} for value in (0.1, 0.4, 0.3, 0.4)]) == 2


def test_the_attack_is_in_the_ball_that_is_trained_for() -> None:
    for given, expected in (
        ('{kind="n-fgsm", epsilon=0.2}', Pgd(kind="pgd", epsilon=0.2, steps=10)),
        ('{kind="pgd-l2", epsilon=2, steps=3}', PgdL2(kind="pgd-l2", epsilon=2.0, steps=10)),
    ):
        settings = [f'train.objective=[{{kind="adversarial", perturbation={given}}}]', "train.watch={}"]
        train = recipes.load("digits-stq", settings).train
        assert train.watch is not None
        assert train.watch.against(train.objectives) == expected


@pytest.mark.parametrize(
    ("recipe", "watch", "received"),
    [("digits-stq", "{}", "none"), ("kws-stq-robust", "{}", "snr"), ("digits-stq", '{perturbation={kind="snr"}}', "snr")],
)
def test_without_a_ball_of_inputs_it_is_refused(recipe: str, watch: str, received: str) -> None:
    with pytest.raises(RecipeError, match=rf"Expected train\.watch\.perturbation.*Received: {received}"):
        recipes.load(recipe, [f"train.watch={watch}"])


def _state(run: Any, name: str) -> list[np.ndarray]:
    with np.load(run.files.checkpoints / name) as stored:
        return [stored[f"arr_{index}"] for index in range(len(stored.files))]


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_best_epoch_is_kept_and_the_history_says_which(trial: Any, objective: Any, ema: float) -> None:
    """The figure of that epoch is the figure of the network that is returned; with an average, of the average."""
    run = trial(*_COLLAPSES, f"train.watch={{samples=48, collapse=0.01, {_AGAINST}}}", f"train.ema={ema}")
    network = run.train(objective("cross-entropy"))
    rows = run.history
    best = best_epoch(rows)
    assert best < len(rows)
    assert [row["best_epoch"] for row in rows] == [best_epoch(rows[: number + 1]) for number in range(len(rows))]
    images = run.dataset.validation.take(np.arange(48))
    perturbation = perturbations.build(Pgd(kind="pgd", epsilon=0.12, steps=3), run.recipe.seed)
    x = scale(images.x)
    examples = perturbation(Batch(x, images.y, None, network, training=False))
    right = (_array(network(examples, training=False)).argmax(axis=1) == images.y).mean()
    assert right == pytest.approx(rows[best - 1][ROBUST])
    assert run.checkpoints == ["train-0008.npz", "train-best.npz"]


def test_a_collapse_ends_the_training_where_it_may_not_go_back(trial: Any, objective: Any) -> None:
    run = trial(*_COLLAPSES, f"train.watch={{samples=48, rollbacks=0, {_AGAINST}}}")
    network = run.train(objective("cross-entropy"))
    rows = run.history
    assert len(rows) < _EPOCHS
    assert [row["rollbacks"] for row in rows] == [0] * (len(rows) - 1) + [1]
    best = rows[best_epoch(rows) - 1]
    assert rows[-1][ROBUST] < 0.5 * best[ROBUST]
    assert rows[-1]["loss"] < rows[-2]["loss"]
    kept = _state(run, "train-best.npz")
    for variable in network.trainable_variables:
        assert any(np.array_equal(_array(variable), array) for array in kept), variable.path
    before = [_array(variable) for variable in network.variables]
    again = run.train(objective("cross-entropy"))  # it has ended: nothing is trained
    assert run.history == rows
    for variable, expected in zip(again.variables, before, strict=True):
        np.testing.assert_array_equal(_array(variable), expected)


@pytest.mark.parametrize(
    ("gone_back", "loss", "collapsed"), [(0.0, 0.7, False), (0.0, 0.4, True), (1.0, 0.7, True), (1.0, 1.1, False)]
)
def test_the_loss_falls_from_where_training_went_on(tmp_path: Path, gone_back: float, loss: float, collapsed: bool) -> None:
    """After going back that is the best epoch, the first, with a loss of 1, and not the collapsed one with 0.5."""
    network, _, y = _linear()
    attacked = Attacked(network, perturbations.build(Pgd(kind="pgd", epsilon=0.1), seed=0))
    rows = [{ROBUST: 0.5, "loss": 1.0, "rollbacks": 0.0}, {ROBUST: 0.1, "loss": 0.5, "rollbacks": gone_back}]
    watch = Watch(attacked, Split(np.zeros((10, 1, 3, 1), np.uint8), y), tables.Watch(), tmp_path / "best.npz", rows)
    assert watch._collapsed(0.1, loss, best=1) == collapsed


def _interrupt_at(step: int) -> Any:
    def progress(_label: str, done: int, _total: int) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


def test_it_goes_on_from_the_best_epoch_and_resumed_it_is_the_uninterrupted_run(trial: Any, objective: Any) -> None:
    """The last phase of quantization begins in the epoch of the collapse: the best one has a smaller fraction."""
    phases = "precision.rule.-1.weights.starts=[0.0, 0.25, 0.5, 0.7]"
    overrides = (*_COLLAPSES, f"train.watch={{samples=48, rollbacks=1, {_AGAINST}}}", phases)
    whole, broken = trial(*overrides, folder="whole"), trial(*overrides, folder="broken")
    fractions = []

    def look(*_: Any) -> None:
        fractions.append(float(whole.network.get_layer("block").quantizer_state["quantized_fraction"]))

    whole.train(objective("cross-entropy"), progress=look)
    back = next(row["epoch"] for row in whole.history if row["rollbacks"] == 1)
    assert whole.history[int(whole.history[back - 1]["best_epoch"]) - 1]["quantized_fraction"] < 1
    assert fractions[back * _STEPS :] == [1.0] * (_EPOCHS - back) * _STEPS
    for step in (back * _STEPS - 2, back * _STEPS + 2):  # in the epoch of the collapse, and in the one after
        with pytest.raises(KeyboardInterrupt):
            broken.train(objective("cross-entropy"), progress=_interrupt_at(step))
    restored, best = (_state(broken, name) for name in (f"train-{back:04}.npz", "train-best.npz"))
    differ = [(new, old) for new, old in zip(restored, best, strict=True) if not np.array_equal(new, old)]
    epochs = broken.history[-1]["best_epoch"]
    assert [(int(new), int(old)) for new, old in differ] == [(back * _STEPS, epochs * _STEPS)]  # the optimizer's steps go on
    broken.train(objective("cross-entropy"))
    assert broken.history == whole.history
    for one, other in zip(whole.network.variables, broken.network.variables, strict=True):
        np.testing.assert_array_equal(_array(one), _array(other), err_msg=one.path)


def test_without_the_best_epoch_there_is_no_going_back(trial: Any, objective: Any) -> None:
    """At a rate of nothing the first epoch stays the best."""
    run = trial("train.epochs=3", _WATCH, "train.optimizer=sgd", "train.learning_rate=1e-9")
    with pytest.raises(KeyboardInterrupt):
        run.train(objective("cross-entropy"), progress=_interrupt_at(2 * _STEPS + 1))
    (run.files.checkpoints / "train-best.npz").write_bytes(b"")
    with pytest.raises(
        RunFolderError, match=r"Cannot go back to the best epoch.*train-best.npz.*Delete the folder .*checkpoints"
    ):
        run.train(objective("cross-entropy"))


# What is said of it


def _curves(robust: list[float], **others: list[float]) -> dict[str, list[float]]:
    rows = [{ROBUST: value} for value in robust]
    best = [float(best_epoch(rows[: number + 1])) for number in range(len(rows))]
    flat = {GAIN: [1.0] * len(rows), ZERO: [0.0] * len(rows), "rollbacks": [0.0] * len(rows)}
    return {ROBUST: robust, "best_epoch": best, **flat, **others}


@pytest.mark.parametrize(
    ("curves", "said"),
    [
        ({"loss": [1.0]}, []),
        (_curves([0.2, 0.4, 0.39]), []),
        (_curves([0.2, 0.45, 0.4]), ["Robust overfitting: .* was 45.0 % after epoch 2, and 40.0 % after the last"]),
        (_curves([0.4, 0.1, 0.5], rollbacks=[0.0, 1.0, 1.0]), ["Catastrophic overfitting in epoch 2:"]),
        (_curves([0.4, 0.1, 0.1], rollbacks=[0.0, 1.0, 2.0]), ["Catastrophic overfitting in epochs 2 and 3:"]),
        (_curves([0.4], **{GAIN: [-0.1]}), ["The examples of train.watch are none"]),
        (_curves([0.4], **{ZERO: [0.25]}), ["gradient of the loss is zero for 25 % of the watched images"]),
    ],
)
def test_what_the_curves_say(curves: dict[str, list[float]], said: list[str]) -> None:
    found = remarks(curves)
    assert len(found) == len(said)
    for sentence, expected in zip(found, said, strict=True):
        assert re.search(expected, sentence)


def test_a_recipe_asks_for_it(tmp_path: Path) -> None:
    settings = ["train.epochs=1", "network.width=0.15", "data.train_samples=200", "train.watch={samples=20}"]
    run = tinyrobust.train("digits-stq-adversarial", overrides=settings, runs_dir=tmp_path)
    (row,) = run.history
    assert row["best_epoch"] == 1
    assert 0 <= row[ROBUST] <= 1
    assert row["val_zero_gradients"] == 0
    assert run.remarks == remarks({name: [value] for name, value in row.items()})


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="starts this file under JAX")
def test_it_is_measured_and_kept_under_jax(under_jax: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'jax'}", __file__]
    done = subprocess.run(
        [*command, "-k", "by_hand or vanish or kept_and"], env=under_jax, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "4 passed" in done.stdout
