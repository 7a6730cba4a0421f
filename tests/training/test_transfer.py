"""Objectives by which a network learns the robustness of its teacher: by hand, and what they have in common."""

from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust import recipe as recipes
from tinyrobust.errors import RecipeError
from tinyrobust.recipe.objectives import Ard, Distillation, Rslad
from tinyrobust.recipe.train import Train
from tinyrobust.training.fit import asked
from tinyrobust.training.learner import Learner, compiled
from tinyrobust.training.objectives import Batch

_RANDOM = np.random.default_rng(0)
_X = _RANDOM.uniform(0.2, 0.8, (4, 6)).astype(np.float32)
_Y = np.array([0, 1, 1, 0])
_TINY = {"kind": "pgd", "epsilon": 1e-7, "steps": 1}
_DIGITS = "digits-stq"


def _linear(*, zero: bool = False, seed: int = 0) -> keras.Model:
    """Two logits of six inputs: `x W`, or zero whatever the input is."""
    keras.utils.set_random_seed(seed)
    layer = keras.layers.Dense(2, kernel_initializer="zeros" if zero else "glorot_uniform", name="logits")
    return keras.Sequential([keras.Input((6,)), layer])


def _of_digits(seed: int) -> keras.Model:
    """Ten logits of 8x8 pixels."""
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, kernel_initializer="random_normal")]
    return keras.Sequential(layers)


def _batch(network: keras.Model, teacher_logits: Any) -> Batch:
    logits = keras.ops.convert_to_tensor(np.broadcast_to(teacher_logits, (4, 2)).astype(np.float32))
    return Batch(_X, _Y, network(_X), network, training=False, features=_X, teacher_logits=logits)


@pytest.mark.parametrize(
    ("kind", "temperature", "teacher", "expected"),
    [
        # The student says (1/2, 1/2) to everything, the teacher (1/4, 3/4): 1/4 ln(1/2) + 3/4 ln(3/2).
        ("rslad", 1.0, [0, np.log(3)], 0.25 * np.log(0.5) + 0.75 * np.log(1.5)),
        ("ard", 1.0, [0, np.log(3)], 0.25 * np.log(0.5) + 0.75 * np.log(1.5)),
        # The same probabilities at T = 2, times T squared.
        ("ard", 2.0, [0, 2 * np.log(3)], 4 * (0.25 * np.log(0.5) + 0.75 * np.log(1.5))),
        ("rslad", 1.0, [5, 5], 0.0),
    ],
)
def test_the_divergence_of_two_classes(objective: Any, kind: str, temperature: float, teacher: Any, expected: float) -> None:
    network = _linear(zero=True)
    built = objective(kind, temperature=temperature, perturbation=_TINY, teacher=network)
    assert float(built(_batch(network, teacher))) == pytest.approx(expected, abs=1e-6)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_in_a_ball_without_size(objective: Any) -> None:
    network = _linear()
    batch = _batch(network, network(_X))
    assert float(objective("rslad", perturbation=_TINY, teacher=network)(batch)) == pytest.approx(0, abs=1e-6)
    wide = objective("rslad", perturbation={**_TINY, "epsilon": 0.2}, teacher=network)
    assert float(wide(batch)) > 1e-3


def test_ard_without_its_teacher_is_cross_entropy(objective: Any) -> None:
    network = _linear()
    batch = _batch(network, [3, -3])
    learned = objective("ard", alpha=0, label_smoothing=0.1, perturbation=_TINY, teacher=network)
    assert float(learned(batch)) == pytest.approx(float(objective("cross-entropy", label_smoothing=0.1)(batch)), rel=1e-6)


def test_alpha_weighs_the_attacked_inputs(objective: Any) -> None:
    """In a large ball the terms differ, and the value is linear between them."""
    network, teacher = _linear(), _linear(seed=1)
    batch = _batch(network, teacher(_X))
    for kind in ("ard", "rslad"):
        settings = {"perturbation": {**_TINY, "epsilon": 0.2}, "teacher": teacher, "seed": 3}
        none, half, all_ = (float(objective(kind, alpha=alpha, **settings)(batch)) for alpha in (0, 0.5, 1))
        assert none != pytest.approx(all_, rel=0.01)
        assert half == pytest.approx((none + all_) / 2, rel=1e-5)


def test_rslad_raises_the_divergence_and_ard_the_cross_entropy(objective: Any) -> None:
    """A linear network's gradients are (softmax(z) - target) W^T: of the teacher's probabilities, or of the labels."""
    network = _linear()
    opposite = np.where(np.eye(2)[_Y] == 1, -9.0, 9.0)  # the teacher names the other class
    batch = _batch(network, opposite)
    (weights, _) = network.get_weights()
    small = {"kind": "pgd", "epsilon": 1e-3, "steps": 1, "step": 1.0, "start": "input"}
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(batch.logits))
    for kind, targets in (("rslad", 1 - np.eye(2)[_Y]), ("ard", np.eye(2)[_Y])):
        built = objective(kind, perturbation=small, teacher=network)
        moved = _X + 1e-3 * np.sign((probabilities - targets) @ weights.T)
        both = (batch.logits, network(moved.astype(np.float32)))
        clean, attacked = (float(keras.ops.mean(built.divergences(batch, logits))) for logits in both)
        expected = attacked * 5 / 6 + clean / 6 if kind == "rslad" else 30**2 * attacked
        assert float(built(batch)) == pytest.approx(expected, rel=1e-5)


class _Counted(keras.layers.Layer):
    """Counts how often it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def call(self, inputs: Any) -> Any:
        self.calls += 1
        return inputs


def test_the_teacher_is_asked_once_a_step_for_all_objectives(objective: Any) -> None:
    counted = _Counted()
    teacher = keras.Sequential([keras.Input((6,)), counted, keras.layers.Dense(2)])
    taught = [
        objective("distillation", temperature=2, teacher=teacher),
        objective("ard", perturbation=_TINY, teacher=teacher),
        objective("rslad", perturbation=_TINY, teacher=teacher),
    ]
    learner = compiled(_linear(), taught, Train(epochs=1), 1)
    counted.calls = 0
    assert np.isfinite(float(learner.loss_of(_X, _Y)))
    assert counted.calls == 1


def test_a_teacher_is_asked_once_about_images_that_stay_the_same(trial: Any, objective: Any) -> None:
    """What it said then is learned, and not what the objective's teacher, another one here, would say now."""
    teachers = [_of_digits(seed) for seed in (1, 2)]
    same = ("data.augment.crop=0", "train.epochs=2")
    every_step, beforehand = trial(*same, folder="every-step"), trial(*same, folder="beforehand")
    every_step.train(objective("distillation", temperature=2, teacher=teachers[0]))
    kept = asked(teachers[0], beforehand.dataset, beforehand.recipe)
    beforehand.train(objective("distillation", temperature=2, teacher=teachers[1]), teacher_logits=kept)
    for name in ("distillation", "accuracy"):
        said, expected = ([row[name] for row in run.history] for run in (beforehand, every_step))
        assert said == pytest.approx(expected, rel=1e-3), name


@pytest.mark.parametrize("changing", ["data.augment.crop=1", "train.epochs=1"])
def test_a_teacher_is_asked_in_every_step_where_that_costs_less(trial: Any, changing: str) -> None:
    run = trial("data.augment.crop=0", "train.epochs=2", changing)
    assert asked(_of_digits(1), run.dataset, run.recipe) == []


def test_objectives_of_two_teachers_are_refused(objective: Any) -> None:
    taught = [objective("distillation", temperature=2, teacher=_linear(seed=seed)) for seed in (1, 2)]
    with pytest.raises(ValueError, match=r"Expected one teacher for all objectives\. Received: 2"):
        Learner(_linear(), taught)


def test_teachers_are_ordinary_networks_unless_distillation_is_defensive() -> None:
    temperatures = [
        table.teaching.objectives[0].temperature
        for table in (Distillation(kind="distillation", temperature=20), Ard(kind="ard"), Rslad(kind="rslad"))
    ]
    assert temperatures == [20, 1, 1]
    assert recipes.load(_DIGITS, ['train.objective=[{kind="ard"}]']).temperature is None  # logits of an ordinary size


def test_the_same_teachers_said_in_two_ways() -> None:
    plain = '{kind="ard", teacher_epochs=2}'
    said = '{kind="rslad", teacher_epochs=2, teacher_objectives=[{kind="cross-entropy"}]}'
    hot = '{kind="distillation", temperature=5, teacher_temperature=1, teacher_epochs=2}'
    loaded = recipes.load(_DIGITS, [f"train.objective=[{plain}, {said}, {hot}]"])
    assert (loaded.train.teaching.epochs, loaded.train.transferred) == (2, (8 / 255,))


_ROBUST = 'teacher_objectives=[{kind="adversarial", perturbation={kind="fgsm", epsilon=0.1}}]'


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (
            '{kind="ard", perturbation={kind="snr"}}',
            r"\(fgsm, n-fgsm, pgd\).*perturbation.kind = 'snr'. Use kind = 'adversarial'",
        ),
        ('{kind="rslad"}, {kind="adversarial", perturbation={kind="snr"}}', "not both in one training. Received: pgd, snr"),
        (
            '{kind="rslad"}, {kind="distillation", temperature=3}',
            "rslad and distillation, whose teachers differ in teacher_obj",
        ),
        (f'{{kind="ard", {_ROBUST}}}, {{kind="rslad"}}', "the same teachers .* differ in teacher_objectives"),
        (
            '{kind="rslad", teacher_objectives=[{kind="ard"}]}',
            "teacher_objectives without teachers of their own. Received: ard",
        ),
        (f'{{kind="ard", teacher_temperature=2, {_ROBUST}}}', "teacher_temperature or teacher_objectives, not both"),
        ('{kind="ard", teacher_file={path="no.keras"}}', "there is no such file"),
        (f'{{kind="ard", teachers=2, {_ROBUST}, teacher_file={{path="a.keras", sha256="0"}}}}', "teacher_objectives, teachers"),
        ('{kind="ard", teacher_objectives=[{kind="adversarail"}]}', "Did you mean 'adversarial'"),
        ('{kind="ard", teacher_objectives=[]}', "at least 1 item"),
        ('{kind="ard", teacher_objectives=[{kind="jacobian"}]}', "beside penalties. Received: jacobian"),
        ('{kind="ard", alpha=1.5}', "less than or equal to 1"),
        (
            '{kind="ard", teacher_objectives=[{kind="adversarial", perturbation={kind="snr"}}]}',
            r"Expected \[data.speech\] where sound is attacked or learned from",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_trains(objectives: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipes.load(_DIGITS, [f"train.objective=[{objectives}]"])


def test_a_taught_student_is_quantized_in_training() -> None:
    with pytest.raises(RecipeError, match=r"Expected quantization in training with rslad.*Leave train\.quantization out"):
        recipes.load(_DIGITS, ['train.objective=[{kind="rslad"}]', "train.quantization=after"])
