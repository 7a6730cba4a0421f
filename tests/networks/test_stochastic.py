"""Where stochastic quantizers stand in a network, and that all copies of it draw alike."""

import keras
import numpy as np
import pytest

from tinyrobust import recipe as recipes
from tinyrobust.attacks.repair import smoothed
from tinyrobust.deploy.twin import build_twin
from tinyrobust.errors import ModelFileError, RecipeError
from tinyrobust.graphs.freeze import freeze
from tinyrobust.graphs.members import Members, final_quantizer
from tinyrobust.graphs.topology import readers
from tinyrobust.networks.catalog import build
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.quantizers.stochastic import stochastic_layers

_X = np.random.default_rng(0).uniform(size=(5, 28, 28, 1)).astype(np.float32)


def _network(*places: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    tables = ", ".join(f"{{{place}}}" for place in places)
    overrides = [f"stochastic=[{tables}]", 'train.objective=[{kind="cross-entropy"}]', "network.width=0.5"]
    return build(recipes.load("mnist-sq-lenet5", overrides), (28, 28, 1), 10)


_INPUT, _BLOCKS, _FEATURES = 'place="input"', 'place="blocks"', 'place="features", bins=2'


@pytest.mark.parametrize(
    ("places", "names"),
    [
        ((_INPUT,), ["image-sq"]),
        ((_FEATURES,), ["dense2-relu-sq"]),
        # Behind a pooling that alone reads the activations; the features are the third place's where there is one.
        ((_BLOCKS,), ["pool1-sq", "pool2-sq", "dense1-relu-sq", "dense2-relu-sq"]),
        (('place="blocks", layers="dense.*"', _FEATURES), ["dense1-relu-sq", "dense2-relu-sq"]),
        ((_INPUT, _BLOCKS, _FEATURES), ["image-sq", "pool1-sq", "pool2-sq", "dense1-relu-sq", "dense2-relu-sq"]),
    ],
)
def test_quantizers_stand_where_the_recipe_says(places, names):
    network = _network(*places)
    assert [layer.name for layer in stochastic_layers(network)] == names
    read_by = readers(network)
    for name in names:
        assert read_by[name.removesuffix("-sq")] == [name]
        assert len(read_by[name]) == 1
    plain = _network()
    for layer in weight_layers(network):  # with the weights that it had
        assert layer.role == plain.get_layer(layer.name).role
        for one, other in zip(layer.get_weights(), plain.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        assert layer.trainable
    assert len({layer.seed for layer in stochastic_layers(network)}) == len(names)
    assert {layer.count for layer in stochastic_layers(network) if layer is final_quantizer(network)} <= {2, 8}


def test_a_place_that_matches_nothing_is_refused():
    with pytest.raises(RecipeError, match=r"Expected layers = 'stem' to match an activation layer.*stem-relu"):
        _network('place="blocks", layers="stem"')


def test_a_frozen_network_draws_as_the_network_does_and_repair_changes_slopes_alone():
    network = _network(_INPUT, _BLOCKS, _FEATURES)
    expected = np.asarray(network(_X))
    assert np.abs(np.asarray(network(_X)) - expected).max() > 0.01  # at random
    frozen = freeze(network)
    np.testing.assert_allclose(np.asarray(frozen(_X)), expected, atol=1e-4 * np.abs(expected).max())
    repaired = smoothed(freeze(network))
    np.testing.assert_allclose(np.asarray(repaired(_X)), expected, atol=1e-4 * np.abs(expected).max())
    assert all(layer.open for layer in stochastic_layers(repaired))


def test_members_of_one_batch_draw_each_for_itself():
    """Their answers are those of a batch of copies, and the mean of the probabilities is the ensemble's."""
    network = _network(_INPUT, _FEATURES)
    answers = Members(network, 3)(_X)
    again = _network(_INPUT, _FEATURES)
    rows = np.asarray(again(np.concatenate([_X, _X, _X])))
    logits = np.asarray(answers.logits)
    np.testing.assert_allclose(logits, rows.reshape(3, 5, 10), rtol=1e-5, atol=1e-5)
    assert np.abs(logits[0] - logits[1]).max() > 0.01
    masses = np.exp(logits - logits.max(axis=-1, keepdims=True))
    mean = (masses / masses.sum(axis=-1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(np.exp(np.asarray(answers.together)), mean, rtol=1e-4)
    features = np.asarray(answers.features)
    assert features.shape == (3, 5, 42)
    assert ((features > 0) & (features < 1)).all()
    assert (np.asarray(answers.information) >= 0).all()


def test_what_draws_has_no_twin():
    with pytest.raises(ModelFileError, match=r"'image-sq', which draws at inference: there is no int8 file"):
        build_twin(_network(_INPUT))
