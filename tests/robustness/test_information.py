"""An ensemble of draws under attack: what the judge says, what thresholds mean, the attacker of the detector, the record."""

import keras
import numpy as np
import pytest
from keras import ops

from tinyrobust import recipe as recipes
from tinyrobust.attacks.specs import Fgsm
from tinyrobust.errors import ModelFileError
from tinyrobust.graphs.members import Members
from tinyrobust.networks.catalog import build
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.networks.stochastic import with_quantizers
from tinyrobust.quantizers.stochastic import mutual_information, stochastic_layers
from tinyrobust.recipe.precision import FLOAT
from tinyrobust.recipe.robustness import Robustness
from tinyrobust.recipe.stochastic import StochasticQuantizer
from tinyrobust.reports.information import curve, plots
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.evasion import Evasion
from tinyrobust.robustness.information import Evaluation, Inputs, Judge, measure, thresholds
from tinyrobust.robustness.information_record import InformationRecord
from tinyrobust.robustness.protocol import Protocol
from tinyrobust.robustness.targets import StochasticTarget
from tinyrobust.robustness.targets.stochastic import rewind, seed_generators

_RANDOM = np.random.default_rng(0)
_X = _RANDOM.uniform(size=(12, 8, 8, 1)).astype(np.float32)
_MEMBERS = 4


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """Untrained, one convolution: what it says depends on the image, and on the draw."""
    keras.utils.set_random_seed(0)
    layers = LayerFactory(FLOAT, 1)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(layers.relu("conv")(layers.conv("conv", 4, 3, 2)(image)))
    places = [StochasticQuantizer(place="input"), StochasticQuantizer(place="features", bins=2, high=0.6)]
    return with_quantizers(keras.Model(image, layers.dense("logits", 10)(x)), places, 3)


@pytest.fixture(scope="module")
def inputs(network: keras.Model) -> Inputs:
    """Images that the ensemble is right about, as it names their classes, and others to set thresholds on."""
    named, _ = Judge(network, 16, 8)(_X)
    return Inputs("noise", _X, named, _RANDOM.uniform(size=(20, 8, 8, 1)).astype(np.float32))


def _plan(*attacks: object) -> AttackPlan:
    protocol = Protocol.model_validate({"name": "few", "description": "Few.", "attack": [*attacks]})
    return AttackPlan(settings=Robustness(epsilons=(0.1,), headline=0.1), protocol=protocol, seed=7)


def test_the_judge_answers_by_the_mean_of_the_probabilities_and_repeats_itself(network):
    judge = Judge(network, _MEMBERS, 3)
    named, found = judge(_X)
    rewind(seed_generators(network), 3)
    answers = Members(network, _MEMBERS)(_X)
    np.testing.assert_array_equal(named, np.asarray(ops.softmax(answers.logits)).mean(axis=0).argmax(axis=1))
    np.testing.assert_allclose(found, np.asarray(mutual_information(answers.features)), rtol=1e-4, atol=1e-6)
    for again in (judge(_X), judge(_X)):
        np.testing.assert_array_equal(again[1], found)
    assert np.abs(judge(_X, 1)[1] - found).max() > 1e-4


def test_members_in_one_batch_are_the_mean_of_the_same_draws(network):
    target = StochasticTarget(network, passes=3, seed=2, mean="probabilities", at_once=True)
    logits = target.predict(_X)
    rewind(seed_generators(network), 2)
    np.testing.assert_allclose(logits, np.asarray(Members(network, 3)(_X).together), rtol=1e-4, atol=1e-5)
    assert (target.forward_passes, target.deterministic) == (3 * len(_X), False)
    in_turn = StochasticTarget(network, passes=3, seed=2, mean="probabilities").predict(_X)
    rewind(seed_generators(network), 2)
    alone = np.stack([np.asarray(ops.softmax(network(_X))) for _ in range(3)])
    np.testing.assert_allclose(np.exp(in_turn), alone.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_thresholds_leave_the_share_of_false_alarms_or_less():
    values = np.arange(100) / 100
    low, high = thresholds(values, (0.05, 0.01))
    assert [np.mean(values > one) for one in (low, high)] == [pytest.approx(0.05), pytest.approx(0.01)]
    assert np.mean(values > thresholds(values, (0.025,))[0]) == pytest.approx(0.02)  # never more


def test_the_evasive_attacker_stays_in_the_ball_and_lowers_what_gives_it_away(network, inputs):
    attack, generators = Evasion(Members(network, 8), 5, 15), seed_generators(network)
    judge, found = Judge(network, 32, 1), {}
    for weight in (0.0, 1000.0):
        rewind(generators, 7)
        examples = attack(inputs.x, inputs.y, 0.2, weight, 3)
        assert np.abs(examples - inputs.x).max() <= 0.2 + 1e-6
        assert examples.min() >= 0
        assert examples.max() <= 1
        found[weight] = judge(examples)[1].mean()
    assert found[1000.0] < 0.9 * found[0.0]


def test_a_network_that_does_not_draw_has_no_detector():
    plain = build(recipes.load("digits-sq", ["stochastic=[]", 'train.objective=[{kind="cross-entropy"}]']), (8, 8, 1), 10)
    assert stochastic_layers(plain) == []
    with pytest.raises(ModelFileError, match="Expected a network with a stochastic quantizer"):
        Evaluation(plain, Inputs("noise", _X, np.zeros(12, np.int64), _X), _plan(Fgsm.of()), 2, lambda *_: None)


def test_the_record_holds_what_was_measured(network, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("tinyrobust.robustness.information._LIMIT", 1)
    monkeypatch.setattr("tinyrobust.robustness.information.WEIGHTS", (10.0,))
    attacks = [{"kind": "fgsm", "name": "fgsm"}, {"kind": "cw", "name": "cw", "steps": 2, "searches": 1}]
    attacks += [{"kind": "square", "name": "file", "on": "int8"}]
    record = measure(network, inputs, _plan(*attacks), members=_MEMBERS)
    record.save(tmp_path / "information.json")
    assert InformationRecord.load(tmp_path / "information.json") == record
    assert (set(record.passes_accuracy), record.passes, record.settled) == ({1}, 1, False)
    assert [(row.attack, row.epsilon) for row in record.rows] == [("fgsm", 0.1), ("cw", None)]
    assert record.weakest(1).attack == "fgsm"
    with pytest.raises(ValueError, match="Expected an attack in L-inf through 2 draws"):
        record.weakest(2)
    assert "Left out: file" in record.notes[0]
    assert "had not settled at 1 draws" in record.notes[1]
    assert record.clean.area is None
    assert record.clean.information == pytest.approx(np.mean(record.clean.values), rel=1e-3)
    for row in (*record.rows, *record.evasive):
        assert len(row.values) == row.accuracy.n == 12
        first, last = (share.count for share in row.detected)
        assert first <= last == sum(value > record.thresholds[-1] for value in row.values)
        assert row.unnoticed.count <= min(12 - row.accuracy.count, 12 - last)
    assert record.evaded.count >= max(row.unnoticed.count for row in record.evasive)
    assert len(plots(record)) == 3


def test_the_roc_curve_of_a_case_worked_by_hand():
    """Clean 0 and 2, attacked 1 and 3: above 3, 2, 1, 0 in turn."""
    false, detected = curve([0, 2], [1, 3])
    assert false == [0, 0, 0.5, 0.5, 1]
    assert detected == [0, 0.5, 0.5, 1, 1]
