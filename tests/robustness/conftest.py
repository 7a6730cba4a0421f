"""Evaluations of the small networks of tests/conftest.py."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinyrobust.progress import silent
from tinyrobust.recipe.robustness import Robustness
from tinyrobust.robustness import protocol
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.evaluation import evaluate
from tinyrobust.robustness.job import EvaluationData, EvaluationJob, Execution, Subject, members_of
from tinyrobust.robustness.robustness_record import RobustnessRecord

EPSILONS = (0.05, 0.1, 0.2, 0.3)


@pytest.fixture(scope="session")
def evaluated() -> Callable[..., RobustnessRecord]:
    """`evaluated(net, output, attacks=[...], settings={...}, protocol=..., ...)`: the evaluation of a `DigitsNet`.

    A protocol by name, or the attacks of one (`cascade` for all of them); 100 samples and four epsilons by default. Other
    networks, samples and labels than those of the net; what remains belongs to `Subject`.
    """

    def run(
        net,
        output,
        *,
        attacks=(),
        settings=None,
        cascade=False,
        expectation=True,
        convergence=None,
        file_search=None,
        protocol_name=None,
        networks=None,
        samples=None,
        labels=None,
        seed=3,
        progress=silent,
        **subject,
    ):
        if protocol_name:
            chosen = protocol.load(protocol_name)
        else:
            chosen = protocol.Protocol(
                name="test",
                description="",
                attack=attacks,
                cascade=cascade,
                expectation=expectation,
                convergence=convergence,
                file_search=file_search,
            )
        values = {"epsilons": EPSILONS, "headline": 0.1, "samples": 100, **(settings or {})}
        return evaluate(
            EvaluationJob(
                Subject(members_of(net.tflite, *([net.model] if networks is None else networks)), **subject),
                EvaluationData("digits", "abc", net.x if samples is None else samples, net.y if labels is None else labels),
                AttackPlan(settings=Robustness(**values), protocol=chosen, seed=seed),
                Execution(output, progress=progress),
            )
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
