"""The undefended and the adversarially trained network of tests/conftest.py as targets, and images for them."""

from collections.abc import Callable

import keras
import numpy as np
import pytest

from tinyrobust.attacks.estimator import GraphClassifier


def _white_box(model: keras.Model, kind: type[GraphClassifier] = GraphClassifier) -> GraphClassifier:
    return kind(lambda x: model(x, training=False), tuple(model.input_shape[1:]), int(model.output_shape[-1]))


@pytest.fixture(scope="session")
def white_box() -> Callable[..., GraphClassifier]:
    """`white_box(model)`: a target with gradients and without a memory of answers, so that every question counts."""
    return _white_box


@pytest.fixture(scope="session")
def images(digits_net) -> tuple[np.ndarray, np.ndarray]:
    """A hundred digits that no network has seen, float in [0, 1], and their classes."""
    return digits_net.x[:100].astype(np.float32) / 255, digits_net.y[:100]


@pytest.fixture(scope="session")
def targets(digits_net, robust_net) -> dict[str, GraphClassifier]:
    """The two networks as white boxes."""
    return {"undefended": _white_box(digits_net.model), "robust": _white_box(robust_net.model)}
