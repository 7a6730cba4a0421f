"""The contract of every attack that a protocol can list: a new one is tested the moment it is entered in `specs`."""

import pkgutil
import subprocess
import sys
from typing import Any, get_args

import keras
import numpy as np
import pytest
from art.estimators.classification import BlackBoxClassifierNeuralNetwork
from pydantic import TypeAdapter

from tinyrobust import choices
from tinyrobust.attacks.base import BatchedAttack
from tinyrobust.attacks.estimator import GraphClassifier
from tinyrobust.attacks.norms import distance, radii
from tinyrobust.attacks.specs import Attack, AttackSpec
from tinyrobust.data.speech.units import MIDPOINT, samples, shifted, unit
from tinyrobust.errors import ModelFileError, RecipeError

_SPECS: dict[str, type[AttackSpec]] = choices.members(Attack)
# Budgets that end in seconds; an attack has of these fields what it has.
_SMALL = {"steps": 15, "iterations": 60, "epochs": 5, "searches": 3, "queries": 100, "targets": 3}
# Radii at which a small undefended network must fall, and small ones. Shifts are those of clips of 100 ms.
_LARGE = {"linf": 1.0, "l2": 5.0, "l1": 25.0, "l0": 64.0, "snr": 1.0, "shift": 40.0}
_NEAR = {"linf": 0.1, "l2": 0.5, "l1": 2.0, "l0": 3.0, "snr": 0.1, "shift": 10.0}
# Images have no loudness: in these norms a clip is attacked.
_SOUND = ("snr", "shift")


def _norms(table: type[AttackSpec]) -> tuple[str, ...]:
    return get_args(table.model_fields["norm"].annotation)


_EVERY = [(kind, norm) for kind, table in _SPECS.items() for norm in _norms(table)]
_Data = tuple[GraphClassifier, np.ndarray, np.ndarray]


def _small(kind: str, norm: str) -> AttackSpec:
    budgets = _SPECS[kind].of(norm=norm).model_dump()
    return _SPECS[kind].of(
        norm=norm, **{name: min(most, budgets[name] or most) for name, most in _SMALL.items() if name in budgets}
    )


@pytest.fixture(scope="session")
def clips(white_box) -> _Data:
    """A linear network at random, and what it says to clips of noise of 100 ms: anything as loud as the clip breaks it."""
    random = np.random.default_rng(0)
    network = keras.Sequential([keras.Input((1600,)), keras.layers.Dense(8)])
    weights = random.normal(size=(1600, 8)).astype(np.float32)
    network.set_weights([weights, -MIDPOINT * weights.sum(axis=0)])
    target = white_box(network)
    x = unit(np.round(random.normal(0, 3000, (20, 1600))).astype(np.int16))
    return target, x, target.predict(x).argmax(axis=1)


@pytest.fixture
def case(request, targets, images, clips) -> tuple[AttackSpec, GraphClassifier, np.ndarray, np.ndarray]:
    """The spec, a target, inputs and their classes."""
    kind, norm = request.param
    data = clips if norm in _SOUND else (targets["undefended"], images[0][:20], images[1][:20])
    return _small(kind, norm), *data


def _attacked(
    spec: AttackSpec, target: GraphClassifier, x: np.ndarray, y: np.ndarray, epsilon: float, learned: Any = None, **run: Any
) -> np.ndarray:
    """The examples; they are inputs, and within the ball of an attack that has one."""
    attack = spec.build(target, epsilon, **run)
    if spec.learns:
        attack.learn(*(learned or (x, y)))
    examples = attack.generate(x, y)
    assert (examples.dtype, examples.shape) == (np.float32, x.shape)
    assert np.isfinite(examples).all()
    assert examples.min(initial=0) >= 0
    assert examples.max(initial=1) <= 1
    assert spec.minimal or _within(spec.norm, examples, x, epsilon).all()
    return examples


def _within(norm: str, examples: np.ndarray, x: np.ndarray, epsilon: float) -> np.ndarray:
    if norm == "shift":
        shifts = range(-int(epsilon), int(epsilon) + 1)
        return np.any([(samples(examples) == shifted(samples(x), 16 * by)).all(axis=1) for by in shifts], axis=0)
    return distance(examples - x, "l2" if norm == "snr" else norm) <= radii(x, epsilon, norm, MIDPOINT) * (1 + 1e-5) + 1e-6


every = pytest.mark.parametrize("case", _EVERY, indirect=True, ids=["-".join(pair) for pair in _EVERY])


@every
def test_it_breaks_a_weak_network_and_says_what_that_cost(case) -> None:
    spec, target, x, y = case
    queries, gradients = target.queries, target.backward_passes
    examples = _attacked(spec, target, x, y, _LARGE[spec.norm])
    assert target.queries > queries
    assert (target.backward_passes > gradients) == spec.gradients
    right, wrong = target.predict(x).argmax(axis=1) == y, target.predict(examples).argmax(axis=1) != y
    assert np.mean((wrong & _within(spec.norm, examples, x, _LARGE[spec.norm]))[right]) > 0.6
    changed = (examples != x).reshape(len(x), -1).any(axis=1)
    assert not spec.minimal or wrong[changed].all()


@every
def test_broken_samples_are_left_alone_but_where_they_must_transfer(case) -> None:
    spec, target, x, y = case
    left, whole = (_attacked(spec, target, x, y, _NEAR[spec.norm], drop=drop) for drop in (True, False))
    wrong = target.predict(x).argmax(axis=1) != y
    np.testing.assert_array_equal(left[wrong], x[wrong])
    assert _attacked(spec, target, x[:0], y[:0], _NEAR[spec.norm], learned=(x, y)).shape == (0, *x.shape[1:])
    if not spec.minimal:
        assert (whole != x).reshape(len(x), -1).any(axis=1).all()


_DIFFERENCES = ("zoo",)  # finite differences of scores magnify what rounding makes of these


@every
def test_a_seed_fixes_the_examples_whatever_the_batches_are(case) -> None:
    spec, target, x, y = case
    examples = _attacked(spec, target, x, y, _LARGE[spec.norm], seed=3)
    again = _attacked(spec, target, x, y, _LARGE[spec.norm], seed=3, batch_size=7)
    if not spec.gradients and spec.kind not in _DIFFERENCES:
        np.testing.assert_allclose(again, examples, atol=1e-5)
        return
    # The same walk but for rounding: kernels of other batch sizes add in another order, and a walk may take another path.
    same = np.abs(again - examples).reshape(len(x), -1).max(axis=1) < 1e-3
    norm = "l2" if spec.norm == "snr" else spec.norm
    assert np.mean(same | (np.abs(distance(again - x, norm) - distance(examples - x, norm)) < 2e-3)) >= 0.9


@pytest.mark.parametrize("kind", _SPECS)
def test_what_it_states(kind, targets, clips) -> None:
    table = _SPECS[kind]
    spec = table.of()
    assert TypeAdapter(Attack).validate_json(spec.model_dump_json(), strict=True) == spec
    assert issubclass(pkgutil.resolve_name(table.implementation), BatchedAttack)
    assert spec.parameters()["kind"] == kind
    assert not {"name", "on", "transfer_to", "norm", "epsilons", "samples"} & spec.parameters().keys()
    harder = spec.harder()
    if harder is not None:
        table.model_validate(harder.model_dump())
        assert (harder.name, harder.norm) == (spec.name, spec.norm)
        assert all(harder.parameters()[name] > spec.parameters()[name] for name in ("steps",))
    target = clips[0] if spec.norm in _SOUND else targets["undefended"]
    attack = spec.build(target, _LARGE[spec.norm])
    # ART reads and sets the fields of the spec.
    assert {"norm", "epsilon", "seed", "drop", "batch_size", *table.parameter_names()} == set(attack.attack_params)
    assert all(getattr(attack, name) == getattr(spec, name) for name in table.parameter_names())
    attack.set_params(epsilon=50.0, **{name: getattr(spec, name) for name in table.parameter_names()})
    assert (attack.spec, attack.epsilon) == (spec, 50.0)
    with pytest.raises(RecipeError, match="Expected epsilon > 0"):
        attack.set_params(epsilon=-1)
    with pytest.raises(ValueError, match="cannot be set"):
        attack.set_params(magic=1)
    if not spec.targetable:
        with pytest.raises(RecipeError, match=r"Expected true classes.*Received: targeted=True"):
            spec.build(target, 0.1, targeted=True)


@pytest.mark.parametrize("kind", _SPECS)
def test_what_is_out_of_its_range_is_refused(kind) -> None:
    table, tried = _SPECS[kind], {"norm": "l7"}
    for name in table.parameter_names():
        for bound in table.model_fields[name].metadata:
            if hasattr(bound, "ge"):
                tried[name] = bound.ge - 1
            elif hasattr(bound, "gt"):
                tried[name] = bound.gt
            elif hasattr(bound, "le"):
                tried[name] = bound.le + 1
        # What is no number is one of a few words.
        tried.setdefault(name, "no such word")
    for name, value in tried.items():
        with pytest.raises(RecipeError, match=rf"(?s)The attack '{kind}' is not valid:\n  {name}: .*Received: {value!r}"):
            table.of(**{name: value})
    with pytest.raises(RecipeError, match="there is no such key"):
        table.of(magic=1)


@pytest.mark.parametrize("kind", [kind for kind, table in _SPECS.items() if table.gradients])
def test_an_attack_on_gradients_refuses_a_black_box(kind) -> None:
    black = BlackBoxClassifierNeuralNetwork(lambda x: x, (4,), 4, clip_values=(0, 1))
    with pytest.raises(ModelFileError, match=r"Expected a target with gradients\. Received: BlackBox"):
        _SPECS[kind].of().build(black, 0.1)


def test_specs_need_neither_tensorflow_nor_art() -> None:
    code = "import sys, tinyrobust.attacks.specs; assert not {'tensorflow', 'keras', 'art'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_unknown_attack_is_named_with_the_nearest_one() -> None:
    assert "Did you mean 'square'?" in choices.no_such("attack", "sqare", _SPECS)
