"""The undefended and the adversarially trained network of tests/conftest.py as targets, and images for them."""

import numpy as np
import pytest

from tinyrobust.attacks.estimator import CompiledClassifier


@pytest.fixture(scope="session")
def images(digits_net) -> tuple[np.ndarray, np.ndarray]:
    """A hundred digits that no network has seen, float in [0, 1], and their classes."""
    return digits_net.x[:100].astype(np.float32) / 255, digits_net.y[:100]


@pytest.fixture(scope="session")
def targets(digits_net, robust_net) -> dict[str, CompiledClassifier]:
    """The two networks as white boxes."""
    return {"undefended": CompiledClassifier(digits_net.model), "robust": CompiledClassifier(robust_net.model)}
