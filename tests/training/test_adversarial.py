"""Fast adversarial training: the examples by their formula, and a network that withstands an attack of many steps."""

import json

import keras
import numpy as np
import pytest
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_numpy import ProjectedGradientDescentNumpy

import tinyrobust
from tinyrobust import recipe as recipes
from tinyrobust.attacks.specs import Pgd
from tinyrobust.data.arrays import scale
from tinyrobust.errors import RecipeError
from tinyrobust.graphs.freeze import freeze
from tinyrobust.recipe import perturbation as tables
from tinyrobust.recipe.objectives import LABELS
from tinyrobust.robustness.targets import KerasTarget
from tinyrobust.training import perturbations
from tinyrobust.training.callbacks import Ramps
from tinyrobust.training.learner import Learner
from tinyrobust.training.objectives import Batch
from tinyrobust.training.perturbations import Perturbation

_RANDOM = np.random.default_rng(0)
_IMAGES = _RANDOM.uniform(size=(32, 6)).astype(np.float32)
_LABELS = _RANDOM.integers(0, 3, 32)
_EPSILON = 0.2
_FGSM = {"kind": "fgsm", "epsilon": 0.1}


@pytest.fixture(scope="module")
def batch() -> Batch:
    """A linear network, whose gradient is known: (softmax(z) - onehot) W^T."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    return Batch(_IMAGES, _LABELS, network(_IMAGES), network, training=True)


def _array(tensor: object) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def _fgsm(epsilon: float, step: float = 1.25, seed: int = 0) -> Perturbation:
    return perturbations.build(tables.Fgsm(kind="fgsm", epsilon=epsilon, step=step), seed)


def _signs(batch: Batch, images: np.ndarray) -> np.ndarray:
    (weights, _) = batch.network.get_weights()
    probabilities = _array(keras.ops.softmax(batch.network(images)))
    return np.sign((probabilities - np.eye(3)[_LABELS]) @ weights.T)


def test_a_step_across_the_ball_ends_on_its_edge_along_the_sign_of_the_gradient(batch):
    examples = _array(_fgsm(1e-3, step=2.0)(batch))  # a small ball: one gradient everywhere in it
    np.testing.assert_allclose(examples, np.clip(_IMAGES + 1e-3 * _signs(batch, _IMAGES), 0, 1), atol=1e-7)


def test_the_step_is_taken_from_a_random_point_of_the_ball(batch):
    centre = 0.25 + 0.5 * _IMAGES  # the box is out of reach
    batch = Batch(centre, _LABELS, batch.logits, batch.network, training=True)
    start = _array(_fgsm(_EPSILON, step=1e-9, seed=3)(batch)) - centre
    assert np.abs(start).max() == pytest.approx(_EPSILON, rel=0.05)
    assert abs(start.mean()) < 0.05
    stepped = _array(_fgsm(_EPSILON, step=0.5, seed=3)(batch)) - centre
    expected = np.clip(start + 0.5 * _EPSILON * _signs(batch, centre + start), -_EPSILON, _EPSILON)
    np.testing.assert_allclose(stepped, expected, atol=1e-6)


def test_examples_stay_in_ball_and_box_and_every_call_draws_anew(batch):
    perturbation, again = _fgsm(_EPSILON, seed=5), _fgsm(_EPSILON, seed=5)
    first, second = _array(perturbation(batch)), _array(perturbation(batch))
    for examples in (first, second):
        assert np.abs(examples - _IMAGES).max() <= _EPSILON + 1e-6
        assert examples.min() >= 0
        assert examples.max() <= 1
    assert (first != second).any()
    np.testing.assert_array_equal(first, _array(again(batch)))
    assert (first != _array(_fgsm(_EPSILON, seed=6)(batch))).any()


def test_noise_fgsm_is_noise_of_two_radii_and_a_whole_step_that_nothing_clips_but_the_range(batch):
    centre = 0.3 + 0.4 * _IMAGES
    batch = Batch(centre, _LABELS, batch.logits, batch.network, training=True)
    drawn, moved = (perturbations.build(tables.NFgsm(kind="n-fgsm", epsilon=0.1, step=s), seed=3) for s in (1e-9, 1.0))
    noise = _array(drawn(batch)) - centre
    assert np.abs(noise).max() == pytest.approx(0.2, rel=0.05)
    assert np.abs(noise).mean() == pytest.approx(0.1, rel=0.2)  # uniform: half of the largest
    stepped = _array(moved(batch)) - centre
    np.testing.assert_allclose(stepped, noise + 0.1 * _signs(batch, centre + noise), atol=1e-6)
    assert np.abs(stepped).max() > 0.2  # beyond the ball, and beyond the noise


def test_an_l2_step_across_the_ball_ends_on_its_edge_along_the_gradient(batch):
    """A small ball, one gradient everywhere in it: (softmax(z) - onehot) W^T."""
    centre = 0.25 + 0.5 * _IMAGES
    batch = Batch(centre, _LABELS, batch.network(centre), batch.network, training=True)
    gradient = (_array(keras.ops.softmax(batch.logits)) - np.eye(3)[_LABELS]) @ batch.network.get_weights()[0].T
    table = tables.PgdL2(kind="pgd-l2", epsilon=1e-3, steps=20, step=2.0)
    change = _array(perturbations.build(table, seed=0)(batch)) - centre
    expected = 1e-3 * gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    np.testing.assert_allclose(change, expected, atol=2e-6)


def test_an_l2_ball_may_be_larger_than_the_box(batch):
    examples = _array(perturbations.build(tables.PgdL2(kind="pgd-l2", epsilon=5.0), seed=0)(batch))
    assert examples.min() == 0
    assert examples.max() == 1
    assert (np.linalg.norm(examples - _IMAGES, axis=1) > 1).any()


def test_a_start_beside_the_input_is_normal_noise_of_a_thousandth(batch):
    centre = np.full((2000, 6), 0.5, np.float32)
    many = Batch(centre, np.zeros(2000, int), batch.network(centre), batch.network, training=True)
    table = tables.Pgd(kind="pgd", epsilon=0.1, steps=1, step=1e-9, start="gaussian")
    start = _array(perturbations.build(table, seed=0)(many)) - centre
    assert start.std() == pytest.approx(1e-3, rel=0.05)
    assert np.abs(start).max() > 3e-3  # no uniform draw: that ends at 1.7 deviations


def test_the_loop_raises_the_loss_that_it_is_given(batch):
    """Minus the first logit: the gradient is minus the first column of the weights, for every input."""
    table = tables.Pgd(kind="pgd", epsilon=0.01, steps=1, step=1.0, start="input")
    centre = 0.25 + 0.5 * _IMAGES
    batch = Batch(centre, _LABELS, batch.network(centre), batch.network, training=True)
    change = _array(perturbations.build(table, seed=0)(batch, lambda logits: -logits[:, 0])) - centre
    expected = np.broadcast_to(-0.01 * np.sign(batch.network.get_weights()[0][:, 0]), change.shape)
    np.testing.assert_allclose(change, expected, atol=1e-6)


def test_the_value_is_the_cross_entropy_of_the_examples(batch, objective):
    fast = {"kind": "fgsm", "epsilon": _EPSILON}
    value = float(objective("adversarial", perturbation=fast, label_smoothing=0.1, seed=1)(batch))
    examples = _fgsm(_EPSILON, seed=1)(batch)
    attacked = Batch(examples, _LABELS, batch.network(examples), batch.network, training=True)
    cross_entropy = objective("cross-entropy", label_smoothing=0.1)
    assert value == pytest.approx(float(cross_entropy(attacked)), rel=1e-6)
    assert value > float(cross_entropy(batch)) + 0.05


@pytest.mark.parametrize("clean_statistics", [False, True])
def test_training_passes_the_examples_alone_unless_clean_statistics_are_asked_for(objective, clean_statistics):
    """Batch norm's moving mean is 0.99 m + 0.01 of the batch's mean at every pass, from 0; accuracy is that of the first."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((6,)), keras.layers.BatchNormalization(), keras.layers.Dense(3)])
    fast = {"kind": "fgsm", "epsilon": _EPSILON}
    adversarial = objective("adversarial", perturbation=fast, seed=1, clean_statistics=clean_statistics)
    examples = _array(_fgsm(_EPSILON, seed=1)(Batch(_IMAGES, _LABELS, network(_IMAGES), network, training=True)))
    seen = _IMAGES if clean_statistics else examples
    normal = (seen - seen.mean(axis=0)) / np.sqrt(seen.var(axis=0) + 1e-3)
    right = ((normal @ network.layers[-1].get_weights()[0]).argmax(axis=1) == _LABELS).mean()
    learner = Learner(network, [adversarial])
    learner.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    logs = learner.train_on_batch(_IMAGES, _LABELS, return_dict=True)
    once = 0.01 * examples.mean(axis=0)
    expected = 0.99 * 0.01 * _IMAGES.mean(axis=0) + once if clean_statistics else once
    np.testing.assert_allclose(_array(network.layers[0].moving_mean), expected, rtol=1e-5)
    assert logs["accuracy"] == pytest.approx(right)
    found = learner.evaluate(_IMAGES, _LABELS, verbose=0, return_dict=True)
    clean = (_array(network(_IMAGES, training=False)).argmax(axis=1) == _LABELS).mean()
    assert found["accuracy"] == pytest.approx(clean)


def test_a_clean_term_beside_it_has_its_logits_and_accuracy(objective):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    right = (_array(network(_IMAGES)).argmax(axis=1) == _LABELS).mean()
    learner = Learner(network, [objective("adversarial", perturbation=_FGSM), objective("cross-entropy")])
    learner.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    logs = learner.train_on_batch(_IMAGES, _LABELS, return_dict=True)
    assert logs["accuracy"] == pytest.approx(right)
    assert logs["adversarial"] > logs["cross_entropy"]
    assert logs["loss"] == pytest.approx(logs["adversarial"] + logs["cross_entropy"], rel=1e-6)


@pytest.mark.parametrize("steps", [1, 7])
def test_pgd_takes_the_steps_of_the_evaluators(digits_net, steps):
    """Without a random start. The evaluator returns the best point of its walk, which need not be the last."""
    x, y = digits_net.x[:64].astype(np.float32) / 255, digits_net.y[:64]
    table = tables.Pgd(kind="pgd", epsilon=0.1, steps=steps, step=0.25, start="input")
    batch = Batch(x, y, digits_net.model(x), digits_net.model, training=True)
    ours = _array(perturbations.build(table, seed=0)(batch))
    spec = Pgd.of(steps=steps, relative_step=0.25, random_starts=0)
    attack = spec.build(KerasTarget(digits_net.model), 0.1, drop=False)
    theirs = attack.generate(x, y)
    same = np.abs(ours - theirs).reshape(len(x), -1).max(axis=1) < 1e-5
    assert same.mean() >= 0.9
    assert (ours != x).any(axis=(1, 2, 3)).all()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=None)
    last, best = (_array(loss(y, digits_net.model(examples))) for examples in (ours, theirs))
    assert (best[~same] >= last[~same]).all()  # of equal ones the first: a loss of zero is no higher after a step


def test_resumed_in_the_middle_it_is_the_uninterrupted_run(trial, objective):
    def stop(_label: str, done: int, _total: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    whole, broken = trial("train.epochs=3", folder="whole"), trial("train.epochs=3", folder="broken")
    whole.train(objective("adversarial", perturbation=_FGSM, seed=7))
    with pytest.raises(KeyboardInterrupt):
        broken.train(objective("adversarial", perturbation=_FGSM, seed=7), progress=stop)
    broken.train(objective("adversarial", perturbation=_FGSM, seed=7))
    for one, other in zip(whole.network.variables, broken.network.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)
    assert whole.history == broken.history
    assert {"adversarial", "val_adversarial"} <= set(whole.history[0])


@pytest.mark.parametrize(
    "perturbation",
    [
        tables.Fgsm(kind="fgsm", epsilon=0.2, step=2.0, ramp=0.5),
        tables.NFgsm(kind="n-fgsm", epsilon=0.2, noise=0.0, ramp=0.5),
        tables.Pgd(kind="pgd", epsilon=0.2, step=1.0, ramp=0.5),
        tables.PgdL2(kind="pgd-l2", epsilon=0.2, step=1.0, ramp=0.5),
    ],
    ids=lambda table: table.kind,
)
def test_a_radius_that_rises_is_whole_in_validation(batch, perturbation):
    """A linear network: every walk ends on the edge, at a quarter of the radius where the share is a quarter."""
    built = perturbations.build(perturbation, seed=0)
    built.reach.assign(0.25)
    centre = 0.3 + 0.4 * _IMAGES
    for training, radius in ((True, 0.05), (False, 0.2)):
        examples = _array(built(Batch(centre, _LABELS, None, batch.network, training=training)))
        change = np.abs(examples - centre)
        reached = np.linalg.norm(change, axis=1) if perturbation.kind == "pgd-l2" else change.max(axis=1)
        np.testing.assert_allclose(reached, radius, rtol=1e-3)


def test_the_radius_rises_in_a_line_and_goes_on_where_it_was(trial, objective):
    """Of 18 steps 9: an epoch of 6 ends at two thirds."""

    def stop(_label: str, done: int, _total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    ramp = {**_FGSM, "ramp": 0.5}
    whole, broken = trial("train.epochs=3", folder="whole"), trial("train.epochs=3", folder="broken")
    seen = []
    adversarial = objective("adversarial", perturbation=ramp, seed=7)
    whole.train(adversarial, progress=lambda *_: seen.append(float(adversarial.perturbation.reach)))
    np.testing.assert_allclose(seen, [min(1, step / 9) for step in range(1, 19)], rtol=1e-6)
    assert [row["radius_share"] for row in whole.history] == pytest.approx([2 / 3, 1, 1])
    with pytest.raises(KeyboardInterrupt):
        broken.train(objective("adversarial", perturbation=ramp, seed=7), progress=stop)
    broken.train(objective("adversarial", perturbation=ramp, seed=7))
    assert broken.history == whole.history
    for one, other in zip(whole.network.variables, broken.network.variables, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_a_radius_that_was_set_back_is_whole_in_the_next_epoch(batch):
    """As going back to an earlier epoch sets it (`train.watch`)."""
    built = perturbations.build(tables.Fgsm(kind="fgsm", epsilon=0.1, ramp=0.5), seed=0)
    ramps = Ramps([built], steps_per_epoch=2, epochs=4)
    ramps.set_model(batch.network)
    reached = []
    for epoch in (2, 3):
        ramps.on_epoch_begin(epoch)
        ramps.on_train_batch_begin(0)
        reached.append(float(built.reach))
        built.reach.assign(0.25)
    assert reached == [1, 1]


def test_it_withstands_an_attack_of_many_steps(trial, objective):
    settings = ("train.epochs=12", "data.train_samples=1000", "data.augment.crop=0", "train.learning_rate=0.02")
    robust = {}
    objectives = {"clean": objective("cross-entropy"), "adversarial": objective("adversarial", perturbation=_FGSM)}
    for name, learned in objectives.items():
        run = trial(*settings, folder=name)
        target = KerasTarget(freeze(run.train(learned)))
        x, y = scale(run.dataset.test.x), run.dataset.test.y
        assert (target.predict(x).argmax(axis=1) == y).mean() > 0.85
        pgd = ProjectedGradientDescentNumpy(target, eps=0.1, eps_step=0.0125, max_iter=20, batch_size=1024, verbose=False)
        found = pgd.generate(x, np.eye(10, dtype=np.float32)[y])
        robust[name] = (target.predict(found).argmax(axis=1) == y).mean()
    assert robust["adversarial"] > robust["clean"] + 0.2


def test_a_recipe_asks_for_it(tmp_path):
    settings = [
        "train.epochs=2",
        "network.width=0.15",
        "data.train_samples=200",
        "precision.rule.-1.weights.starts=[0.0,0.1,0.2,0.3]",
    ]
    run = tinyrobust.train("digits-stq-adversarial", overrides=settings, runs_dir=tmp_path)
    (table,) = run.recipe.train.objectives
    assert table.perturbation.model_dump() == {"kind": "fgsm", "epsilon": 0.15, "step": 1.25, "ramp": 0}
    rows = [json.loads(line) for line in (run.path / "history.jsonl").read_text().splitlines()]
    assert [row["adversarial"] > 0 for row in rows] == [True, True]
    assert "cross_entropy" not in rows[0]


def test_soft_labels_and_adversarial_examples_add_up(tmp_path):
    """A recipe with both: the teacher is trained first, the loss is the weighted sum, and both have curves."""
    both = 'train.objective=[{kind="distillation", temperature=5, weight=0.5, teacher_epochs=1}, %s]'
    adversarial = '{kind="adversarial", perturbation={kind="fgsm", epsilon=0.1}, weight=2.0}'
    settings = ["train.epochs=2", "network.width=0.15", "data.train_samples=200"]
    run = tinyrobust.train("digits-stq", overrides=[*settings, both % adversarial], runs_dir=tmp_path)
    assert (run.path / "teacher_model.keras").is_file()
    for row in run.history:
        for prefix in ("", "val_"):
            terms = 0.5 * row[f"{prefix}distillation"] + 2.0 * row[f"{prefix}adversarial"]
            assert row[f"{prefix}loss"] == pytest.approx(terms, rel=1e-5)


_TWO_TEACHERS = """[
  {kind="distillation", temperature=5, teacher_epochs=1}, {kind="distillation", temperature=2, teacher_epochs=%s}
]""".replace("\n", " ")


@pytest.mark.parametrize(
    ("recipe", "objectives", "message"),
    [
        ("digits-stq", _TWO_TEACHERS % 2, "Expected the same teachers for all objectives that have some"),
        ("digits-stq", _TWO_TEACHERS % 1, "Expected the same teachers"),  # trained at the students' temperatures, which differ
        ("digits-stq", "[]", "at least 1 item"),
        ("digits-stq", '[{kind="distillation", temperature=5, weight=0}]', "weight: .*greater than 0"),
        ("digits-stq", '[{kind="adversarial", perturbation={kind="fgms", epsilon=0.1}}]', "Did you mean 'fgsm'"),
        ("digits-stq", '[{kind="distilation", temperature=5}]', "Did you mean 'distillation'"),
        (
            "kws-stq-robust",
            '[{kind="adversarial", perturbation={kind="snr"}}, {kind="adversarial", perturbation={kind="pgd", epsilon=0.1}}]',
            "not both in one training. Received: snr, pgd",
        ),
    ],
)
def test_what_does_not_add_up_is_refused(recipe, objectives, message):
    with pytest.raises(RecipeError, match=message):
        recipes.load(recipe, [f"train.objective={objectives}"])


def test_two_temperatures_with_the_same_teachers():
    same = [f'{{kind="distillation", temperature={t}, teacher_temperature=1}}' for t in (5, 2)]
    loaded = recipes.load("digits-stq", [f"train.objective=[{', '.join(same)}]"])
    assert loaded.temperature == 5
    assert loaded.train.teaching.objectives == LABELS
