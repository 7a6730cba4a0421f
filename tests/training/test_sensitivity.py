"""Sensitivity of layers to formats, on networks where the answer is known."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tinyrobust.data.arrays import Split
from tinyrobust.errors import TrainingError
from tinyrobust.networks.precision import LayerFactory
from tinyrobust.progress import silent
from tinyrobust.quantizers.layers import weight_layers
from tinyrobust.recipe.precision import FLOAT
from tinyrobust.recipe.search import Search
from tinyrobust.recipe.weights import Weights
from tinyrobust.training.sensitivity import Kernels, sensitivities

RANDOM = np.random.default_rng(3)


def _images(n: int = 200) -> Split:
    return Split(RANDOM.integers(0, 256, (n, 4, 4, 1)).astype(np.uint8), RANDOM.integers(0, 3, n))


def _linear() -> keras.Model:
    layers, image = LayerFactory(FLOAT, 7), keras.Input((4, 4, 1))
    return keras.Model(image, layers.dense("logits", 3, bias=True)(keras.layers.Flatten()(image)))


def _normed() -> keras.Model:
    layers, image = LayerFactory(FLOAT, 7), keras.Input((4, 4, 1))
    x = layers.relu("first")(layers.norm("first")(layers.conv("first", 4, 3)(image)))
    return keras.Model(image, layers.dense("logits", 3)(keras.layers.Flatten()(x)))


def _rounded(network: keras.Model, formats: tuple[Weights, ...]) -> Any:
    def kernels(number: int) -> Kernels:
        quantizer: Any = formats[number].build((-1,), 0)
        latent = {layer.name: keras.ops.convert_to_tensor(layer.latent_weights) for layer in weight_layers(network)}
        return {name: keras.ops.convert_to_numpy(quantizer.levels(one, training=False)) for name, one in latent.items()}

    return kernels


def _measured(network: keras.Model, split: Split, **search: object) -> tuple[float, np.ndarray]:
    settings = Search.model_validate(search)
    names = [layer.name for layer in weight_layers(network)]
    return sensitivities(network, _rounded(network, settings.candidates), names, split, settings, 5, silent)


def _loss(kernel: np.ndarray, bias: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    logits = x @ kernel + bias
    return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(y)), y]).mean())


def test_of_a_linear_network_it_is_computed_by_hand() -> None:
    network, split = _linear(), _images()
    layer = network.get_layer("logits")
    kernel, bias = RANDOM.normal(size=(16, 3)), RANDOM.normal(size=3)
    layer.set_weights([kernel, bias])
    value, found = _measured(network, split, candidates=["binary", "ternary"])
    x = split.x.reshape(-1, 16) / 255
    binary = np.abs(kernel).mean(axis=0) * np.where(kernel >= 0, 1, -1)
    assert value == pytest.approx(_loss(kernel, bias, x, split.y), rel=1e-5)
    assert found[0, 0] == pytest.approx(_loss(binary, bias, x, split.y) - value, abs=1e-5)


def test_weights_that_are_levels_already_lose_nothing() -> None:
    network, split = _normed(), _images()
    layer = network.get_layer("first")
    layer.latent_weights.assign(RANDOM.integers(-1, 2, layer.latent_weights.shape) * [0.2, 0.3, 0.4, 0.5])
    _, found = _measured(network, split, candidates=["ternary", "binary"])
    assert found[0, 0] == pytest.approx(0, abs=1e-6)
    assert abs(found[0, 1]) > 1e-3
    assert abs(found[1, 0]) > 1e-3


def test_a_scale_that_batch_norm_takes_out_is_no_harm() -> None:
    """Binary weights of another magnitude than the format's: 1 and -1 with a few that are larger."""
    network, split = _normed(), _images()
    shape = network.get_layer("first").latent_weights.shape
    signs = RANDOM.choice([-1.0, 1.0], shape)
    network.get_layer("first").latent_weights.assign(signs)

    def scaled(number: int) -> Kernels:
        return {**_rounded(network, Search().candidates)(number), "first": 3 * signs}

    settings = Search.model_validate({"candidates": ["binary"]})
    _, found = sensitivities(network, scaled, ["first"], split, settings, 5, silent)
    assert found[0, 0] == pytest.approx(0, abs=2e-3)  # batch norm's epsilon


def test_the_network_is_left_as_it_was_and_the_figures_are_the_same_again() -> None:
    network, split = _normed(), _images()
    before = network.get_weights()
    attack = {"measure": "adversarial-loss", "perturbation": {"kind": "fgsm", "epsilon": 0.1}}
    first, second = (_measured(network, split, images=100, **attack) for _ in range(2))
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_under_attack_the_measure_is_higher_and_noise_counts_the_layers_outputs() -> None:
    """Of a linear network without bias, ANS is |W (x' - x)| / |W x|: of all-positive weights at most epsilon / min x."""
    network, split = _linear(), _images()
    network.get_layer("logits").set_weights([np.abs(RANDOM.normal(size=(16, 3))), np.zeros(3)])
    attack = {"kind": "pgd", "epsilon": 0.05, "steps": 3, "step": 0.5}
    clean, attacked, noise = (
        _measured(
            network, split, candidates=["binary"], measure=measure, **({} if measure == "loss" else {"perturbation": attack})
        )[0]
        for measure in ("loss", "adversarial-loss", "noise")
    )
    assert attacked > 2 * clean
    smallest = (split.x.reshape(-1, 16) / 255).mean()
    assert 0 < noise - clean < 2 * 0.05 / smallest


def test_a_loss_that_is_not_finite_is_said() -> None:
    network = _linear()
    network.get_layer("logits").latent_weights.assign(np.full((16, 3), np.nan))
    with pytest.raises(TrainingError, match="Expected a finite loss"):
        _measured(network, _images())


_SCRIPT = """
import json, sys
import keras
sys.path.insert(0, sys.argv[1])
import test_sensitivity as t
assert keras.backend.backend() == sys.argv[2]
network = t._normed()
for layer in t.weight_layers(network):
    layer.latent_weights.assign(t.RANDOM.normal(size=layer.latent_weights.shape))
attack = {"kind": "pgd", "epsilon": 0.1, "start": "input"}
value, found = t._measured(network, t._images(), candidates=["binary"], measure="noise", perturbation=attack)
print(json.dumps([value, found.tolist()]))
"""


def test_both_backends_find_the_same() -> None:
    found = []
    for backend in ("tensorflow", "jax"):
        environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", _SCRIPT, str(Path(__file__).parent), backend]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-4)
