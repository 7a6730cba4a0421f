"""Evaluations of the small networks of tests/conftest.py."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinyrobust import recipe
from tinyrobust.robustness import evaluation, protocol
from tinyrobust.robustness.robustness_record import RobustnessRecord

EPSILONS = (0.05, 0.1, 0.2, 0.3)


@pytest.fixture(scope="session")
def evaluated() -> Callable[..., RobustnessRecord]:
    """`evaluated(net, output, attacks=[...], settings={...}, protocol=..., ...)`: the evaluation of a `DigitsNet`.

    A protocol by name, or the attacks of one (`cascade` for all of them); 100 samples and four epsilons by default.
    """

    def run(net, output, *, attacks=(), settings=None, cascade=False, expectation=True, protocol_name=None, **changes):
        if protocol_name:
            chosen = protocol.load(protocol_name)
        else:
            chosen = protocol.Protocol(name="test", description="", attack=attacks, cascade=cascade, expectation=expectation)
        arguments = {
            "keras_model": net.model,
            "tflite": net.tflite,
            "dataset_name": "digits",
            "fingerprint": "abc",
            "x_test": net.x,
            "y_test": net.y,
            "seed": 3,
        }
        values = {"epsilons": EPSILONS, "headline": 0.1, "samples": 100, **(settings or {})}
        return evaluation.evaluate(
            **{**arguments, **changes}, settings=recipe.Robustness(**values), protocol=chosen, output=output
        )

    return run


@pytest.fixture
def int8_of(converted) -> Callable[..., Path]:
    """`int8_of(model, pixels, units)`: the model as an int8 `.tflite`; `units` makes its inputs of images in [0, 1]."""

    def convert(model, pixels, units=lambda x: x) -> Path:
        return converted(
            model, units(np.concatenate([pixels[:100] / 255, np.zeros_like(pixels[:1]), np.ones_like(pixels[:1])]))
        )

    return convert
