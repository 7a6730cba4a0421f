"""Fast adversarial training: the examples by their formula, and a network that withstands an attack of many steps."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_numpy import ProjectedGradientDescentNumpy

import tinyrobust
from tinyrobust import recipe as recipes
from tinyrobust.data.arrays import scale
from tinyrobust.errors import RecipeError
from tinyrobust.quantizers.layers import freeze
from tinyrobust.robustness.targets import KerasTarget
from tinyrobust.training.adversarial import FastAdversarial
from tinyrobust.training.objectives import Batch, CrossEntropy

_RANDOM = np.random.default_rng(0)
_IMAGES = _RANDOM.uniform(size=(32, 6)).astype(np.float32)
_LABELS = _RANDOM.integers(0, 3, 32)
_EPSILON = 0.2


@pytest.fixture(scope="module")
def batch() -> Batch:
    """A linear network, whose gradient is known: (softmax(z) - onehot) W^T."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    return Batch(_IMAGES, _LABELS, network(_IMAGES), network, training=True)


def _array(tensor: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def _signs(batch: Batch, images: np.ndarray) -> np.ndarray:
    (weights, _) = batch.network.get_weights()
    probabilities = _array(keras.ops.softmax(batch.network(images)))
    return np.sign((probabilities - np.eye(3)[_LABELS]) @ weights.T)


def test_a_step_across_the_ball_ends_on_its_edge_along_the_sign_of_the_gradient(batch):
    found = _array(FastAdversarial(1e-3, step=2.0).examples(batch))  # a small ball: one gradient everywhere in it
    np.testing.assert_allclose(found, np.clip(_IMAGES + 1e-3 * _signs(batch, _IMAGES), 0, 1), atol=1e-7)


def test_the_step_is_taken_from_a_random_point_of_the_ball(batch):
    centre = 0.25 + 0.5 * _IMAGES  # the box is out of reach
    batch = Batch(centre, _LABELS, batch.logits, batch.network, training=True)
    start = _array(FastAdversarial(_EPSILON, step=0.0, seed=3).examples(batch)) - centre
    assert np.abs(start).max() == pytest.approx(_EPSILON, rel=0.05)
    assert abs(start.mean()) < 0.05
    stepped = _array(FastAdversarial(_EPSILON, step=0.5, seed=3).examples(batch)) - centre
    expected = np.clip(start + 0.5 * _EPSILON * _signs(batch, centre + start), -_EPSILON, _EPSILON)
    np.testing.assert_allclose(stepped, expected, atol=1e-6)


def test_examples_stay_in_ball_and_box_and_every_call_draws_anew(batch):
    objective, again = FastAdversarial(_EPSILON, seed=5), FastAdversarial(_EPSILON, seed=5)
    first, second = _array(objective.examples(batch)), _array(objective.examples(batch))
    for found in (first, second):
        assert np.abs(found - _IMAGES).max() <= _EPSILON + 1e-6
        assert found.min() >= 0
        assert found.max() <= 1
    assert (first != second).any()
    np.testing.assert_array_equal(first, _array(again.examples(batch)))
    assert (first != _array(FastAdversarial(_EPSILON, seed=6).examples(batch))).any()


def test_the_value_is_the_cross_entropy_of_the_examples(batch):
    found = float(FastAdversarial(_EPSILON, label_smoothing=0.1, seed=1)(batch))
    examples = FastAdversarial(_EPSILON, seed=1).examples(batch)
    attacked = Batch(examples, _LABELS, batch.network(examples), batch.network, training=True)
    assert found == pytest.approx(float(CrossEntropy(0.1)(attacked)), rel=1e-6)
    assert found > float(CrossEntropy(0.1)(batch)) + 0.05


def test_resumed_in_the_middle_it_is_the_uninterrupted_run(trial):
    def stop(_label: str, done: int, _total: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    whole, broken = trial("train.epochs=3", folder="whole"), trial("train.epochs=3", folder="broken")
    whole.train(FastAdversarial(0.1, seed=7))
    with pytest.raises(KeyboardInterrupt):
        broken.train(FastAdversarial(0.1, seed=7), progress=stop)
    broken.train(FastAdversarial(0.1, seed=7))
    for one, other in zip(whole.network.variables, broken.network.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    assert whole.history == broken.history
    assert {"fast_adversarial", "val_fast_adversarial"} <= set(whole.history[0])


def test_it_withstands_an_attack_of_many_steps(trial):
    settings = ("train.epochs=12", "data.train_samples=1000", "data.augment.crop=0", "train.learning_rate=0.02")
    robust = {}
    for name, objective in {"clean": CrossEntropy(), "adversarial": FastAdversarial(0.1)}.items():
        run = trial(*settings, folder=name)
        target = KerasTarget(freeze(run.train(objective)))
        x, y = scale(run.dataset.test.x), run.dataset.test.y
        assert (target.predict(x).argmax(axis=1) == y).mean() > 0.85
        pgd = ProjectedGradientDescentNumpy(target, eps=0.1, eps_step=0.0125, max_iter=20, batch_size=1024, verbose=False)
        found = pgd.generate(x, np.eye(10, dtype=np.float32)[y])
        robust[name] = (target.predict(found).argmax(axis=1) == y).mean()
    assert robust["adversarial"] > robust["clean"] + 0.2


def test_a_recipe_asks_for_it(tmp_path):
    settings = ["train.epochs=2", "network.width=0.15", "data.train_samples=200", "train.stochastic.starts=[0.0,0.1,0.2,0.3]"]
    run = tinyrobust.train("digits-stq-adversarial", overrides=settings, runs_dir=tmp_path)
    assert run.recipe.train.adversarial.model_dump() == {"epsilon": 0.15, "step": 1.25}
    rows = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
    assert [row["fast_adversarial"] > 0 for row in rows] == [True, True]
    assert "cross_entropy" not in rows[0]


def test_soft_labels_and_adversarial_examples_do_not_go_together():
    with pytest.raises(RecipeError, match=r"Expected distillation or adversarial\. Received: both"):
        recipes.load("digits-stq-adversarial", ["train.distillation.temperature=5"])


_JAX = """
import sys
from pathlib import Path
import keras, numpy as np
sys.path.insert(0, sys.argv[1])
from conftest import Trial
from tinyrobust.training.adversarial import FastAdversarial

assert keras.backend.backend() == "jax"
run = Trial(Path(sys.argv[2]), "train.epochs=2")
objective = FastAdversarial(0.1, seed=7)
before = np.array(objective.seed_generator.state.value)
run.train(objective)
rows = run.history
assert 0 < rows[1]["fast_adversarial"] < rows[0]["fast_adversarial"] < 5, rows
assert (before != np.array(objective.seed_generator.state.value)).any()
"""


def test_under_jax_the_compiled_step_draws_too(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", _JAX, os.path.dirname(__file__), str(tmp_path)]  # noqa: PTH120
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
