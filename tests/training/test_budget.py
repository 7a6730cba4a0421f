"""The bit budget: bytes as the footprint counts them, and the best formats that fit."""

import itertools

import keras
import numpy as np
import pytest

from tinyrobust import recipe as recipes
from tinyrobust.errors import RecipeError
from tinyrobust.networks.catalog import build
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.recipe.precision import Precision
from tinyrobust.training.budget import allocate, monotone, sizes_of


def _precision(*rules: dict[str, object], budget: int = 10**6, **search: object) -> Precision:
    return Precision.model_validate({"rule": rules or ({"layers": ".*"},), "budget": budget, "search": search})


def _stqnet(precision: Precision) -> keras.Model:
    base = recipes.load("digits-stq", ["network.width=0.25"])
    return build(base.model_copy(update={"precision": precision}), (8, 8, 1), 10)


@pytest.mark.parametrize("seed", range(20))
def test_of_all_choices_it_is_the_best_and_of_equally_good_ones_the_fullest(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 4, (6, 1)) * random.choice([[1, 1, 2, 4], [1, 2, 4, 8]], 6) * 97
    found = random.lognormal(0, 2, sizes.shape) - 0.2
    budget = int(random.integers(sizes.min(axis=1).sum(), sizes.max(axis=1).sum() + 1))
    costs, rows = monotone(found, sizes), range(6)
    choices = [(choice, costs[rows, choice].sum()) for choice in itertools.product(range(4), repeat=6)]
    fitting = [(choice, cost) for choice, cost in choices if sizes[rows, choice].sum() <= budget]
    least = min(cost for _, cost in fitting)
    as_good = [sizes[rows, choice].sum() for choice, cost in fitting if cost <= 1.01 * least + 1e-9 * costs.max()]
    chosen = allocate(found, sizes, budget)
    assert costs[rows, chosen].sum() <= 1.01 * least + 1e-5 * costs.max()
    assert max(as_good) <= sizes[rows, chosen].sum() <= budget


def test_more_bytes_are_never_worse() -> None:
    sizes = np.array([[10, 10, 20, 40], [5, 5, 10, 20]])
    found = np.array([[0.3, 0.5, 0.4, -0.1], [0.0, 0.2, 0.1, 0.2]])
    np.testing.assert_array_equal(monotone(found, sizes), [[0.3, 0.5, 0.3, 0.0], [0.0, 0.2, 0.0, 0.0]])


def test_what_is_left_of_the_budget_is_filled_where_it_does_no_harm() -> None:
    """All are equally good: the most bytes that fit."""
    sizes = np.array([[10, 20, 40], [10, 20, 40], [7, 14, 28]])
    chosen = allocate(np.zeros((3, 3)), sizes, 75)
    assert sizes[range(3), chosen].sum() == 74


def test_nothing_to_choose() -> None:
    assert allocate(np.zeros((0, 2)), np.zeros((0, 2), np.int64), 0) == []


def test_sizes_of_a_network_by_hand() -> None:
    """A convolution, a depthwise one with two outputs a channel, a norm that none swallows, a dense layer."""
    precision = _precision({"layers": "first", "weights": "binary"}, {"layers": ".*"}, candidates=["ternary", "float"])
    layers, image = LayerFactory(precision, 7), keras.Input((8, 8, 3))
    x = layers.relu("first")(layers.norm("first")(layers.conv("first", 5, 3)(image)))
    x = layers.norm("free")(x)
    x = layers.depthwise("spread", 3, multiplier=2)(x)
    network = keras.Model(image, layers.dense("logits", 7)(keras.layers.Flatten()(x)))
    sizes = sizes_of(network, precision)
    rows = {layer.name: (layer.weights, layer.channels, layer.format and layer.format.kind) for layer in sizes.layers}
    assert rows == {
        "first": (135, 5, "binary"),
        "spread": (90, 10, None),
        "logits": (640 * 7, 7, None),
        "free-bn": (5, 5, "binary"),
    }
    assert sizes.fixed_bytes == 8 * (5 + 10 + 7 + 5) + 17 + 1
    assert sizes.free_bytes.tolist() == [[23, 90], [1120, 4480]]
    assert (sizes.smallest, sizes.largest) == (sizes.fixed_bytes + 1143, sizes.fixed_bytes + 4570)


def test_a_budget_below_the_smallest_names_it() -> None:
    network = _stqnet(_precision())
    smallest = sizes_of(network, _precision()).smallest
    assert sizes_of(network, _precision(budget=smallest)).smallest == smallest
    with pytest.raises(RecipeError, match=rf"budget of at least {smallest} B.*Received: {smallest - 1} B"):
        sizes_of(network, _precision(budget=smallest - 1))


def test_an_open_layer_is_in_float_until_it_is_chosen() -> None:
    precision = _precision({"layers": "stem", "weights": "binary"}, {"layers": ".*", "activations": "pact"})
    chosen = precision.choose({"block1": precision.search.candidates[0]})
    kinds = [type(_stqnet(one).get_layer("block1").weight_quantizer).__name__ for one in (precision, chosen)]
    assert kinds == ["NoneType", "Ternary"]
    assert type(_stqnet(chosen).get_layer("block1-relu")).__name__ == "Pact"
    assert (precision.formats, chosen.formats) == (("binary",), ("binary", "ternary"))
