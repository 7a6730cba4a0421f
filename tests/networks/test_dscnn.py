"""DS-CNN: its layers."""

from tinyrobust import recipe
from tinyrobust.networks.catalog import build


def test_the_layers_are_named_for_precision_rules():
    network = build(recipe.load("digits-stq", ["network.kind=dscnn", "network.width=0.1"]), (49, 10, 1), 10)
    names = [layer.name for layer in network.layers]
    assert [name for name in names if "-" not in name] == ["image", "stem", "pool", "flatten", "logits"]
    assert {"block1-depthwise", "block4-pointwise", "block4-pointwise-relu", "stem-relu"} <= set(names)


def test_clips_of_other_lengths_become_one_row():
    for shape in ((49, 40, 1), (98, 40, 1)):
        network = build(recipe.load("digits-stq", ["network.kind=dscnn", "network.width=0.1"]), shape, 3)
        assert network.get_layer("pool").output.shape[1:3] == (1, 1)
