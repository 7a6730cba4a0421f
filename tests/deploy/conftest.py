"""Small stqnets trained on scikit-learn's digits, and what is exported from them: made once a session."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.datasets import load_digits

from tinyrobust.deploy.convert import convert
from tinyrobust.networks.catalog import build
from tinyrobust.quantizers.layers import set_declared
from tinyrobust.recipe import Recipe

TRAINED = 1300


@pytest.fixture(scope="session")
def benchmark(checkout: Path) -> ModuleType:
    """The script `benchmarks/device.py` as a module."""
    spec = importlib.util.spec_from_file_location("device_benchmark", checkout / "benchmarks" / "device.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Exported:
    """A QKeras model, the `.tflite` made from it, and the digits: `x` and `y` were not trained on."""

    model: keras.Model
    tflite: Path
    calibration: npt.NDArray[np.uint8]
    x: npt.NDArray[np.uint8]
    y: npt.NDArray[np.int64]

    @property
    def unit(self) -> npt.NDArray[np.float32]:
        """The images in [0, 1]."""
        return self.x.astype(np.float32) / 255


def recipe(weights: str, activations: str) -> Recipe:
    rules = ({"layers": "stem|logits", "weights": "fixed-point"}, {"layers": ".*", "weights": weights})
    return Recipe(
        name="tiny",
        data={"name": "digits"},
        network={"kind": "stqnet", "width": 0.25},
        train={"epochs": 1, "quantization": "after" if activations == "calibrated" else "aware"},
        precision={"rule": [{**rule, "activations": activations} for rule in rules]},
    )


@pytest.fixture(scope="session")
def ternary(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A stochastic-ternary stqnet with ReLU6, trained for eight epochs: right on nine digits of ten."""
    x, y = _digits()
    keras.utils.set_random_seed(3)
    model = build(recipe("stochastic-ternary", "relu6"), (8, 8, 1), 10)
    model.compile(keras.optimizers.Adam(6e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for fraction in (0.5, 1.0):
        set_declared(model, "quantized_fraction", fraction)
        model.fit(x[:TRAINED] / np.float32(255), y[:TRAINED], epochs=4, batch_size=64, verbose=0)
    return _exported(model, tmp_path_factory)


@pytest.fixture(scope="session")
def exported(
    ternary: Exported, untrained: Callable[[str, str], keras.Model], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Exported]:
    """Gives the trained network, or for other precisions an untrained one, and what is exported from it."""

    @cache
    def make(weights: str, activations: str) -> Exported:
        trained = (weights, activations) == ("stochastic-ternary", "relu6")
        return ternary if trained else _exported(untrained(weights, activations), tmp_path_factory)

    return make


def _digits() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = np.round(digits.images[order] * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    return x, digits.target[order].astype(np.int64)


def _exported(model: keras.Model, folders: pytest.TempPathFactory) -> Exported:
    x, y = _digits()
    path = folders.mktemp("exported") / "model.tflite"
    path.write_bytes(convert(model, x[:200]))
    return Exported(model, path, x[:200], x[TRAINED:], y[TRAINED:])


@pytest.fixture(scope="session")
def untrained() -> Callable[[str, str], keras.Model]:
    """Builds a network whose batch norms (and bounds that are learned or calibrated) are not at their initial values."""

    def make(weights: str, activations: str) -> keras.Model:
        keras.utils.set_random_seed(0)
        random = np.random.default_rng(0)
        model = build(recipe(weights, activations), (8, 8, 1), 10)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.set_weights([random.uniform(0.3, 1.5, weight.shape) for weight in layer.weights])
            elif hasattr(layer, "alpha"):
                layer.alpha.assign(random.uniform(1, 7))
            elif hasattr(layer, "limit"):
                layer.limit.assign(random.uniform(1, 7))
        return model

    return make


@pytest.fixture(scope="session")
def images() -> npt.NDArray[np.float32]:
    """Sixteen digits in [0, 1]."""
    return (load_digits().images[:16, ..., np.newaxis] / 16).astype(np.float32)
