"""stqnet: its shapes, the layers of the paper."""

import collections

import keras
import pytest

from tinyrobust import recipe
from tinyrobust.errors import RecipeError
from tinyrobust.networks.catalog import build
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D, weight_layers


def _built(shape: tuple[int, int, int], width: float, classes: int = 10) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build(recipe.load("digits-stq", [f"network.width={width}"]), shape, classes)


def test_small_images_keep_their_detail():
    shapes = [(5, 5, 1), (8, 8, 1), (20, 12, 2), (28, 28, 1), (32, 32, 3)]
    sizes = [_built(shape, 0.1).get_layer("pool").input.shape[1:3] for shape in shapes]
    assert sizes == [(5, 5), (4, 4), (10, 6), (7, 7), (8, 8)]


def test_width_multiplies_the_channels():
    def channels(width: float) -> list[int]:
        return [
            layer.latent_weights.shape[-1] for layer in weight_layers(_built((8, 8, 1), width)) if "depthwise" not in layer.name
        ]

    assert channels(1.0) == [32, 64, 64, 128, 192, 1, 192, 96, 96, 10]
    assert channels(0.5) == [16, 32, 32, 64, 96, 1, 96, 48, 48, 10]
    assert min(channels(0.01)[:5]) == 4


def test_the_layers_of_the_paper():
    network = _built((8, 8, 1), 0.1)
    kinds = collections.Counter(type(layer) for layer in network.layers)
    assert kinds[QuantDense] == 3
    assert kinds[QuantDepthwiseConv2D] == 2
    assert kinds[QuantConv2D] == 6
    assert kinds[keras.layers.Add] == 3
    blocks = {layer.name.split("-")[0] for layer in network.layers if layer.name.startswith("block")}
    assert blocks == {f"block{number}" for number in range(1, 7)}
    assert network.get_layer("block3-pointwise").kernel_size == (1, 1)


def test_only_the_logits_have_a_bias():
    assert [layer.name for layer in weight_layers(_built((8, 8, 1), 0.1)) if layer.bias is not None] == ["logits"]


def test_an_unknown_network_lists_those_there_are():
    with pytest.raises(
        RecipeError, match=r"network: There is no kind 'stqnett'. Did you mean 'stqnet'\? Expected one of stqnet, dscnn"
    ):
        recipe.load("digits-stq", ["network.kind=stqnett"])
