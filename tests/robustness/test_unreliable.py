"""Every check is raised on a network that deserves it. None is on an honest one: see test_evaluation.py."""

import dataclasses

import keras
import pytest
import tensorflow as tf

from tinyrobust.attacks.repair import with_value

_SETTINGS = {"epsilons": (0.1, 0.2), "headline": 0.2, "samples": 60}
_PGD = {"name": "pgd", "kind": "pgd", "steps": 10, "relative_step": 0.25, "random_starts": 1, "transfer_to": ["int8"]}
_SQUARE = {"name": "square", "kind": "square", "iterations": 50, "restarts": 1}
_SQUARE_INT8 = {**_SQUARE, "name": "square-int8", "on": "int8"}


@keras.saving.register_keras_serializable("tests")
class OneHot(keras.layers.Layer):
    """Only says which class it is; its gradients are those of the logits."""

    def call(self, inputs):
        return with_value(inputs, tf.one_hot(tf.argmax(inputs, axis=1), inputs.shape[-1]))


@keras.saving.register_keras_serializable("tests")
class Shaken(keras.layers.Layer):
    """Adds noise whenever it is called."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), stddev=0.3, seed=self.generator)


def _before(net, layer) -> keras.Model:
    image = keras.Input((8, 8, 1))
    return keras.Model(image, net.model(layer(image)))


def _after(net, *layers) -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), net.model, *layers])


def _raised(record) -> set[str]:
    assert record.reliable == (not record.warnings)
    return {check.name for check in record.checks if check.raised}


@pytest.fixture
def raised(digits_net, evaluated, tmp_path):
    """What is raised on a network in the place of `digits_net`."""

    def run(network, *attacks, **changes) -> set[str]:
        return _raised(
            evaluated(
                digits_net, tmp_path, attacks=attacks, settings=_SETTINGS, networks=[network] if network else (), **changes
            )
        )

    return run


def test_logits_so_large_that_gradients_vanish(digits_net, raised) -> None:
    masked = _after(digits_net, keras.layers.Rescaling(1000.0))
    assert {"zero-gradients", "half-grey", "unconstrained", "black-box-wins"} <= raised(masked, _PGD, _SQUARE)


def test_a_softmax_where_logits_belong(digits_net, raised) -> None:
    hidden = _after(digits_net, keras.layers.Activation("softmax"), keras.layers.Rescaling(1.0))
    assert "softmax" in raised(hidden, _PGD)


def test_a_random_network_without_expectation(digits_net, raised) -> None:
    # Single answers are luck, so some of what is found is nothing on a second look.
    assert {"random-predictions", "no-examples"} <= raised(_before(digits_net, Shaken()), _PGD, expectation=False)


def test_an_attack_that_has_not_converged(digits_net, raised) -> None:
    assert "more-steps" in raised(digits_net.model, {**_PGD, "steps": 2, "relative_step": 0.1})


def test_scores_without_a_slope(digits_net, raised) -> None:
    blind = _after(digits_net, OneHot())
    assert "square-is-blind" in raised(blind, _PGD, {**_SQUARE, "iterations": 10, "epsilons": [0.1]})


def test_a_file_that_only_black_boxes_attacked(raised) -> None:
    assert raised(None, _SQUARE_INT8) == {"black-box-only"}


def test_a_file_of_saturated_probabilities(digits_net, evaluated, int8_of, tmp_path) -> None:
    sure = _after(digits_net, keras.layers.Rescaling(20.0), keras.layers.Softmax())
    net = dataclasses.replace(digits_net, tflite=int8_of(sure, digits_net.x))
    alone = evaluated(net, tmp_path / "black", attacks=[_SQUARE_INT8], settings=_SETTINGS, networks=())
    assert {"softmax", "saturated-scores", "black-box-only"} <= _raised(alone)
    # Through a twin, which has logits, the same file is attacked honestly.
    twin = evaluated(net, tmp_path / "white", attacks=[{**_PGD, "on": "repaired"}], settings=_SETTINGS, networks=())
    assert _raised(twin).isdisjoint({"softmax", "saturated-scores", "black-box-only"})
