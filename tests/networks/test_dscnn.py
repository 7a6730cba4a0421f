"""DS-CNN: its size, its shapes."""

import keras
import numpy as np
import pytest

from tinyrobust import recipe
from tinyrobust.networks.catalog import build


def _built(shape: tuple[int, int, int], width: float = 1.0, classes: int = 10) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build(recipe.load("digits-stq", ["network.kind=dscnn", f"network.width={width}"]), shape, classes)


def test_it_has_the_size_of_mlperf_tiny():
    # 24,908 with 12 classes in MLPerf Tiny's keyword spotting reference, which has a bias beside every batch norm: 9 x 64 more.
    network = _built((49, 10, 1), classes=12)
    assert sum(int(np.prod(variable.shape)) for variable in network.weights if variable.name in _STORED) == 24_908 - 9 * 64


_STORED = {"kernel", "depthwise_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"}


@pytest.mark.parametrize("shape", [(49, 10, 1), (49, 40, 1), (98, 40, 1)], ids=str)
def test_features_become_logits(shape):
    network = _built(shape, 0.1, 3)
    logits = np.array(network(np.random.default_rng(0).uniform(size=(2, *shape))))
    assert logits.shape == (2, 3)
    assert logits.std() > 0


def test_the_layers_are_named_for_precision_rules():
    names = [layer.name for layer in _built((49, 10, 1), 0.1).layers]
    assert [name for name in names if "-" not in name] == ["image", "stem", "pool", "flatten", "logits"]
    assert {"block1-depthwise", "block4-pointwise", "block4-pointwise-relu", "stem-relu"} <= set(names)
