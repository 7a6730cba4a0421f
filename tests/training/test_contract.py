"""What every objective and every perturbation of a recipe must do: a new one is tested as soon as it has a table.

The same tests run under JAX, in a process of their own.
"""

import pkgutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import pytest
from pydantic import TypeAdapter

from tinyrobust import choices
from tinyrobust.data.speech.frontend import Grid, front_end
from tinyrobust.errors import MissingToolError
from tinyrobust.gradients import value_and_gradient
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.networks.stochastic import with_quantizers
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.frontend import Mfcc
from tinyrobust.recipe.objective_table import Need
from tinyrobust.recipe.objectives import Objective
from tinyrobust.recipe.perturbation import Perturbation
from tinyrobust.recipe.precision import Precision
from tinyrobust.recipe.stochastic import StochasticQuantizer
from tinyrobust.recipe.train import Train
from tinyrobust.training import checkpoints, objectives, perturbations
from tinyrobust.training.front_end import features_of
from tinyrobust.training.learner import Learner, compiled
from tinyrobust.training.objectives import Batch, Supplies, build_objectives

_COUNT, _CLASSES, _WEIGHT = 16, 3, 0.5
_JAX = keras.backend.backend() == "jax"


def _example(table: type[Any]) -> dict[str, Any]:
    """Settings for a table: its defaults, and for a field without one the first of its `examples`; few steps."""
    fields = {field.alias or name: field for name, field in table.model_fields.items() if name != "kind"}
    steps = {"steps": 2} if "steps" in fields else {}
    return {name: field.examples[0] for name, field in fields.items() if field.is_required()} | steps


_PERTURBATIONS = {
    kind: TypeAdapter(Perturbation).validate_python({"kind": kind, **_example(table)})
    for kind, table in choices.members(Perturbation).items()
}


def _objectives() -> dict[str, Any]:
    """Every kind; the adversarial one with every perturbation, others that have one with `pgd`: all ask it in one way."""
    cases = {}
    for kind, table in choices.members(Objective).items():
        example = {"kind": kind, "weight": _WEIGHT, **_example(table)}
        if kind == "adversarial":
            variants = {f"{kind}-{name}": {**example, "perturbation": one} for name, one in _PERTURBATIONS.items()}
        elif "perturbation" in table.model_fields:
            variants = {kind: {**example, "perturbation": _PERTURBATIONS["pgd"]}}
        else:
            variants = {kind: example}
        cases |= {name: TypeAdapter(Objective).validate_python(settings) for name, settings in variants.items()}
    return cases


_OBJECTIVES = _objectives()
_FRONT_END = front_end(Mfcc(kind="mfcc"))


class _Task:
    """A small network with quantized weights, a teacher, and inputs: images, or the sound of clips.

    Where the network `draws`, its input and its final features have stochastic quantizers.
    """

    def __init__(self, *, sound: bool, draws: bool = False) -> None:
        self.draws = draws
        random = np.random.default_rng(0)
        self.y = np.arange(_COUNT) % _CLASSES
        self.front_end = None
        self.x = random.uniform(0.2, 0.8, (_COUNT, 4, 4, 1)).astype(np.float32)
        self.validation = self.x
        if sound:
            hertz = 300 * 2.0 ** self.y[:, np.newaxis]
            tones = 0.2 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)
            self.x = (0.5 + tones + random.normal(0, 0.01, (_COUNT, 16_000))).astype(np.float32)
            raw = keras.ops.convert_to_numpy(_FRONT_END.layer()(2 * self.x - 1))[..., 0]
            self.front_end = _FRONT_END.layer(Grid(raw.min(axis=(0, 1)), raw.max(axis=(0, 1))), rounded=True)
            self.validation = keras.ops.convert_to_numpy(features_of(self.front_end, self.x))

    def network(self) -> keras.Model:
        """Untrained; every weight stochastic ternary."""
        keras.utils.set_random_seed(0)
        rules = {"rule": [{"layers": ".*", "weights": "stochastic-ternary"}]}
        layers = LayerFactory(Precision.model_validate(rules), 1)
        image = keras.Input(self.validation.shape[1:])
        x = layers.relu("conv")(layers.norm("conv")(layers.conv("conv", 4, 3, 2)(image)))
        network = keras.Model(image, layers.dense("logits", _CLASSES, bias=True)(keras.layers.Flatten()(x)))
        places = [StochasticQuantizer(place=place, spacing=0.0) for place in ("input", "features")]
        return with_quantizers(network, places, 5) if self.draws else network

    def teacher(self) -> keras.Model:
        """Of other weights; its logits are far apart."""
        keras.utils.set_random_seed(1)
        image = keras.Input(self.validation.shape[1:])
        return keras.Model(image, keras.layers.Dense(_CLASSES)(keras.layers.Flatten()(5 * image)))

    def learner(self, *tables: Any) -> tuple[Learner, objectives.Objective]:
        """One for the objectives of these tables, and the first of them."""
        teacher = self.teacher() if any("teacher" in table.needs for table in tables) else None
        built = build_objectives(tables, Supplies(seed=3, label_smoothing=0.1, teacher=teacher))
        return self.compiled(*built), built[0]

    def compiled(self, *built: objectives.Objective) -> Learner:
        """A learner that takes plain gradient descents."""
        settings = Train(epochs=2, optimizer="sgd", learning_rate=0.05, schedule="constant", weight_decay=0.0)
        return compiled(self.network(), built, settings, 4, self.front_end)

    def fit(self, learner: Learner) -> dict[str, list[float]]:
        """An epoch of two steps."""
        options = {"batch_size": 8, "shuffle": False, "verbose": 0}
        history = learner.fit(self.x, self.y, validation_data=(self.validation, self.y), **options).history
        return {name: [float(value) for value in values] for name, values in history.items()}

    def batch(self, network: keras.Model) -> Batch:
        """All inputs, as an objective sees them in training."""
        front_end: Callable[[Any], Any] = lambda inputs: features_of(self.front_end, inputs) if self.front_end else inputs  # noqa: E731
        features = front_end(self.x)
        logits = network(features, training=False)
        asked = self.teacher()(features)
        return Batch(
            self.x, self.y, logits, network, training=False, features=features, teacher_logits=asked, front_end=front_end
        )


class _Run:
    """An objective after an epoch, a checkpoint, and a second epoch."""

    def __init__(self, table: Any, folder: Path) -> None:
        self.table, self.task = table, _Task(sound="front-end" in table.needs, draws=table.samples > 0)
        self.learner, self.objective = self.task.learner(table)
        self.before = _latent(self.learner.network)
        self.value = float(self.objective(self.task.batch(self.learner.network)))
        self.learner, self.objective = self.task.learner(table)  # the value has drawn
        self.history = self.fit(self.learner)
        self.after = _latent(self.learner.network)
        self.checkpoint = folder / "checkpoint.npz"
        checkpoints.save(self.learner, self.checkpoint)
        self.second = self.fit(self.learner)

    def fit(self, learner: Learner) -> dict[str, list[float]]:
        """An epoch."""
        with warnings.catch_warnings():
            if self.table.penalty:  # it need not depend on every bias, and no recipe trains for it alone
                warnings.filterwarnings("ignore", "Gradients do not exist", UserWarning)
            return self.task.fit(learner)


def _latent(network: keras.Model) -> dict[str, np.ndarray]:
    return {layer.name: keras.ops.convert_to_numpy(layer.latent_weights).copy() for layer in weight_layers(network)}


@pytest.fixture(scope="module", params=_OBJECTIVES.values(), ids=_OBJECTIVES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> _Run:
    """One training of every objective."""
    return _Run(request.param, tmp_path_factory.mktemp("run"))


def test_its_table_reads_back_and_names_its_class(run: _Run) -> None:
    again = TypeAdapter(Objective).validate_json(run.table.model_dump_json(by_alias=True))
    assert again == run.table
    assert pkgutil.resolve_name(run.table.objective) is type(run.objective)
    assert run.objective.needs == run.table.needs
    assert run.objective.needs <= set(get_args(Need))
    assert run.objective.weight == _WEIGHT


def test_the_gradient_reaches_all_latent_weights(run: _Run) -> None:
    for name, weights in run.after.items():
        assert np.isfinite(weights).all(), name
        assert (weights != run.before[name]).any(), name


def test_it_has_curves_and_its_weight_counts(run: _Run) -> None:
    (name,) = {name for name in run.history if name == run.objective.name}
    for prefix in ("", "val_"):
        (value,), (loss,) = run.history[f"{prefix}{name}"], run.history[f"{prefix}loss"]
        assert value > 0
        assert loss == pytest.approx(_WEIGHT * value, rel=1e-5)


def test_a_checkpoint_resumes_it_exactly(run: _Run) -> None:
    learner, objective = run.task.learner(run.table)
    checkpoints.load(learner, run.checkpoint)
    assert run.fit(learner) == run.second
    for one, other in zip(learner.variables, run.learner.variables, strict=True):
        np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, (one, other)), err_msg=one.path)
    assert bool(objective.seed_generator) == any(objective.seed_generator is one for one in learner._generators)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _with_labels(run: _Run, inputs: Any) -> float:
    """Cross-entropy with smoothed labels, by hand."""
    batch = run.task.batch(run.task.network())
    logits = keras.ops.convert_to_numpy(batch.logits_of(inputs, training=False))
    targets = np.eye(_CLASSES)[run.task.y] * 0.9 + 0.1 / _CLASSES
    return float(-(targets * _log_softmax(logits)).sum(axis=1).mean())


def _with_teacher(run: _Run) -> float:
    batch, temperature = run.task.batch(run.task.network()), run.table.temperature
    student, teacher = (
        _log_softmax(keras.ops.convert_to_numpy(logits) / temperature) for logits in (batch.logits, batch.teacher_logits)
    )
    return float(-(np.exp(teacher) * student).sum(axis=1).mean())


def _divergence(run: _Run, batch: Batch, logits: Any) -> float:
    """`KL(teacher || student)` at the temperature, by hand."""
    teacher, student = (
        _log_softmax(keras.ops.convert_to_numpy(one) / run.table.temperature) for one in (batch.teacher_logits, logits)
    )
    return float((np.exp(teacher) * (teacher - student)).sum(axis=1).mean())


def _with_robust_teacher(run: _Run) -> float:
    batch = run.task.batch(run.task.network())
    assert run.table.alpha == 1  # of the labels nothing
    examples = perturbations.build(run.table.perturbation, seed=3)(batch)
    return run.table.temperature**2 * _divergence(run, batch, batch.logits_of(examples, training=False))


def _with_soft_labels_alone(run: _Run) -> float:
    """Examples that raise the divergence, not the cross-entropy."""
    batch, alpha = run.task.batch(run.task.network()), run.table.alpha
    soft = keras.ops.softmax(batch.teacher_logits)

    def soft_cross_entropy(logits: Any) -> Any:  # of the same gradients
        return -keras.ops.sum(soft * keras.ops.log_softmax(logits), axis=-1)

    examples = perturbations.build(run.table.perturbation, seed=3)(batch, soft_cross_entropy)
    clean, attacked = (_divergence(run, batch, one) for one in (batch.logits, batch.logits_of(examples, training=False)))
    return (1 - alpha) * clean + alpha * attacked


def _on_examples(run: _Run) -> float:
    batch = run.task.batch(run.task.network())
    return _with_labels(run, perturbations.build(run.table.perturbation, seed=3)(batch))


def _trades(run: _Run) -> float:
    """In NumPy, on its own examples: others that differ by rounding may round to other activations."""
    batch = run.task.batch(run.task.network())
    (again,) = build_objectives([run.table], Supplies(seed=3, label_smoothing=0.1))
    examples = again.examples(batch)
    clean, attacked = (
        _log_softmax(keras.ops.convert_to_numpy(logits)) for logits in (batch.logits, batch.logits_of(examples, training=False))
    )
    divergence = (np.exp(clean) * (clean - attacked)).sum(axis=1).mean()
    assert divergence > 0
    return _with_labels(run, run.task.x) + run.table.beta * float(divergence)


def _of_jacobians(run: _Run) -> float:
    """Every fourth image, one direction each: those that the objective draws first."""
    batch = run.task.batch(run.task.network())
    directions = keras.random.normal((_COUNT // 4, _CLASSES), seed=keras.random.SeedGenerator(3))
    directions /= keras.ops.norm(directions, axis=1, keepdims=True)
    along: Callable[[Any], Any] = lambda x: keras.ops.sum(directions * batch.network(x, training=False))  # noqa: E731
    to_image = keras.ops.convert_to_numpy(value_and_gradient(along, run.task.x[::4])[1])
    to_features = keras.ops.convert_to_numpy(directions) @ batch.network.get_layer("logits").quantized_weights().T
    return float(_CLASSES * ((to_image**2).sum() + (to_features**2).sum()) / (_COUNT // 4) / 2)


def _from_orthogonal(run: _Run) -> float:
    """`conv` has 9 rows and 4 columns, and a norm whose scale is 1 / sqrt(1 + 0.001); `logits` 16 and 3."""
    network = run.task.network()
    conv = network.get_layer("conv").quantized_weights().reshape(9, 4) / np.sqrt(1.001)
    logits = network.get_layer("logits").quantized_weights()
    return float(sum(((w.T @ w - np.eye(w.shape[1])) ** 2).sum() for w in (conv, logits)) / 2)


_VALUES: dict[str, Callable[[_Run], float]] = {
    "cross-entropy": lambda run: _with_labels(run, run.task.x),
    "distillation": _with_teacher,
    "adversarial": _on_examples,
    "trades": _trades,
    "jacobian": _of_jacobians,
    "defensive-quantization": _from_orthogonal,
    "ard": _with_robust_teacher,
    "rslad": _with_soft_labels_alone,
}


def test_every_objective_is_here() -> None:
    assert {table.kind for table in _OBJECTIVES.values()} == set(choices.members(Objective))


def test_its_value_is_that_of_its_formula(run: _Run) -> None:
    assert np.isfinite(run.value)
    if run.table.kind in _VALUES:
        assert run.value == pytest.approx(_VALUES[run.table.kind](run), rel=1e-4)


@pytest.mark.parametrize("other", ["fgsm", "snr"])
def test_distillation_and_adversarial_training_add_up(other: str) -> None:
    """On sound the teacher is asked about the features of the clips as they are."""
    tables = [_OBJECTIVES["distillation"], _OBJECTIVES[f"adversarial-{other}"], _OBJECTIVES[f"adversarial-{other}"]]
    task = _Task(sound=other == "snr")
    learner, _ = task.learner(*tables)
    history = task.fit(learner)
    for prefix in ("", "val_"):
        terms = [history[f"{prefix}{name}"][0] for name in ("distillation", "adversarial", "adversarial_2")]
        assert history[f"{prefix}loss"] == [pytest.approx(_WEIGHT * sum(terms), rel=1e-5)]
    assert history["adversarial"] != history["adversarial_2"]  # each draws for itself
    alone, _ = task.learner(tables[0])
    assert history["distillation"][0] == pytest.approx(task.fit(alone)["distillation"][0], rel=0.1)  # before they part


class _Quiet(objectives.Objective):
    """Small outputs of the hidden layers."""

    name = "quiet"
    needs = frozenset({"activations"})

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, batch: Batch) -> Any:
        assert batch.activations is not None
        self.seen = list(batch.activations)
        return keras.ops.mean(keras.ops.square(batch.activations["conv"]))


@pytest.mark.filterwarnings("ignore:Gradients do not exist:UserWarning")  # on purpose: only one layer is looked at
def test_an_objective_sees_hidden_activations_and_their_gradients() -> None:
    task, quiet = _Task(sound=False), _Quiet()
    learner = task.compiled(quiet)
    before = _latent(learner.network)
    history = [task.fit(learner)["quiet"][0] for _ in range(2)]
    after = _latent(learner.network)
    assert quiet.seen == [layer.name for layer in learner.network.layers[1:-1]]
    assert (after["conv"] != before["conv"]).any()
    np.testing.assert_array_equal(after["logits"], before["logits"])  # they do not depend on these
    assert np.isfinite(history).all()


# Perturbations


def _linf(change: np.ndarray, x: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.abs(change).reshape(len(change), -1).max(axis=1)


def _l2(change: np.ndarray, x: np.ndarray) -> np.ndarray:  # noqa: ARG001
    return np.linalg.norm(change.reshape(len(change), -1), axis=1)


def _snr_db(change: np.ndarray, x: np.ndarray) -> np.ndarray:
    return -20 * np.log10(np.linalg.norm(x - 0.5, axis=1) / np.linalg.norm(change, axis=1))


# How far the examples may be, and how that is measured.
_RADII: dict[str, tuple[Callable[..., np.ndarray], Callable[[Any], float]]] = {
    "fgsm": (_linf, lambda table: table.epsilon),
    "n-fgsm": (_linf, lambda table: (table.noise + table.step) * table.epsilon),
    "pgd-l2": (_l2, lambda table: table.epsilon),
    "pgd": (_linf, lambda table: table.epsilon),
    "snr": (_snr_db, lambda table: -table.snr_db[0]),
}


@pytest.mark.parametrize("table", _PERTURBATIONS.values(), ids=_PERTURBATIONS)
def test_a_perturbation_stays_near_raises_the_loss_and_draws_anew(table: Any) -> None:
    assert TypeAdapter(Perturbation).validate_json(table.model_dump_json()) == table
    task = _Task(sound=table.domain == "waveform")
    network = task.network()
    batch = task.batch(network)
    perturbation, again = perturbations.build(table, seed=3), perturbations.build(table, seed=3)
    first, second, repeated = (keras.ops.convert_to_numpy(one(batch)) for one in (perturbation, perturbation, again))
    np.testing.assert_array_equal(first, repeated)
    assert (first != second).any()
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    clean = float(cross_entropy(task.y, batch.logits))
    for examples in (first, second):
        assert examples.shape == task.x.shape
        assert examples.min() >= 0
        assert examples.max() <= 1
        assert float(cross_entropy(task.y, batch.logits_of(examples, training=False))) > clean
        if table.kind in _RADII:
            distance, radius = _RADII[table.kind]
            assert (distance(examples - task.x, task.x) <= radius(table) + 1e-4).all()


# Backends


@pytest.mark.skipif(not _JAX, reason="under TensorFlow there are others")
def test_jax_has_the_plain_update_rule_alone() -> None:
    with pytest.raises(MissingToolError, match="Expected Keras on TensorFlow for update rules other than plain"):
        Learner(_Task(sound=False).network(), [], rule=object())


@pytest.mark.skipif(_JAX, reason="starts this file under JAX")
def test_all_of_this_holds_under_jax(under_jax: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'jax'}", __file__]
    done = subprocess.run(command, env=under_jax, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout
