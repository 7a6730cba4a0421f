"""An adversarially trained network beside the undefended one of tests/conftest.py, and both as targets."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from tinyrobust.attacks.estimator import CompiledClassifier
from tinyrobust.recipe import Train
from tinyrobust.training.adversarial import FastAdversarial
from tinyrobust.training.learner import compiled


@pytest.fixture(scope="session")
def robust_net(digits_net) -> keras.Model:
    """The architecture of `digits_net` after fast adversarial training at epsilon 0.15: about 98 % right; three seconds."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))  # the training images of `digits_net`
    x = (np.round(digits.images * (255 / 16))[order, ..., np.newaxis] / 255).astype(np.float32)[:1200]
    keras.utils.set_random_seed(0)
    network = keras.models.clone_model(digits_net.model)
    settings = Train(epochs=15, learning_rate=5e-3, weight_decay=0.0)
    learner = compiled(network, [FastAdversarial(0.15)], settings, 15 * 19)
    learner.fit(x, digits.target[order][:1200], batch_size=64, epochs=15, verbose=0)
    return network


@pytest.fixture(scope="session")
def images(digits_net) -> tuple[np.ndarray, np.ndarray]:
    """A hundred digits that no network has seen, float in [0, 1], and their classes."""
    return digits_net.x[:100].astype(np.float32) / 255, digits_net.y[:100]


@pytest.fixture(scope="session")
def targets(digits_net, robust_net) -> dict[str, CompiledClassifier]:
    """The two networks as white boxes."""
    return {"undefended": CompiledClassifier(digits_net.model), "robust": CompiledClassifier(robust_net)}
