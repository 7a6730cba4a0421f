"""Images and labels that do not fit: a clear error wherever they come in, before anything is computed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.attacks.specs import Pgd
from tinyrobust.deploy.convert import convert
from tinyrobust.errors import DataError, ModelFileError
from tinyrobust.recipe.robustness import Robustness
from tinyrobust.robustness.attack_plan import AttackPlan
from tinyrobust.robustness.evaluation import evaluate
from tinyrobust.robustness.job import EvaluationData, EvaluationJob, Execution, Subject, members_of
from tinyrobust.robustness.protocol import Protocol
from tinyrobust.robustness.targets import KerasTarget, int8

X, Y = np.zeros((6, 8, 8, 1), np.uint8), np.arange(6)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X[:0], Y[:0]),
        (X[:, :7], Y),
        (np.repeat(X, 3, axis=3), Y),
        (X[..., 0], Y),
        (X[0], Y),
        (X.reshape(6, 64), Y),
        (X / np.float32(255), Y),
        (np.full(X.shape, np.nan), Y),
        (X, Y[:5]),
        (X, Y[:0]),
        (X, Y + 5),
        (X, Y - 1),
        (X, np.full(6, 2**40)),
        (X, np.full(6, np.nan)),
        (X, np.eye(10)[Y]),
        (X, np.array(list("012345"))),
    ],
    ids=[
        "empty", "smaller", "colour", "no channels", "one image", "flat", "float", "NaN",
        "fewer labels", "no labels", "labels beyond", "negative labels", "huge labels", "NaN labels", "one-hot", "text",
    ],
)  # fmt: skip
def test_a_test_set_that_does_not_fit_is_refused(x: Any, y: Any, digits_net: Any, tmp_path: Path) -> None:
    protocol = Protocol(name="test", description="", attack=[{"kind": "noise", "name": "noise"}])
    with pytest.raises(DataError, match=r"Expected .*Received: "):
        evaluate(
            EvaluationJob(
                Subject(members_of(digits_net.tflite, digits_net.model)),
                EvaluationData("none", "", x, y),
                AttackPlan(settings=Robustness(), protocol=protocol, seed=0),
                Execution(tmp_path),
            )
        )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("images", [X[:0], X[:, :7], X[0], X.astype(np.float32)], ids=["empty", "smaller", "one", "float"])
def test_calibration_images_that_do_not_fit_are_refused(images: Any, digits_net: Any) -> None:
    with pytest.raises(ModelFileError, match=r"Expected .*Received: "):
        convert(digits_net.model, images)


@pytest.fixture(scope="module", params=["keras", "int8"])
def target(request: pytest.FixtureRequest, digits_net: Any) -> Any:
    return KerasTarget(digits_net.model) if request.param == "keras" else int8(digits_net.tflite)


@pytest.mark.parametrize("shape", [(2, 7, 8, 1), (8, 8, 1), (2, 64)], ids=str)
def test_targets_refuse_inputs_of_another_shape(shape: Any, target: Any) -> None:
    with pytest.raises((DataError, ModelFileError), match=r"xpected inputs of shape \[n, 8, 8, 1\]. Received: \("):
        target.predict(np.zeros(shape, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("y", [None, np.array([0, 1])], ids=["", "labels"])
def test_attacks_refuse_what_is_no_number(value: float, y: Any, digits_net: Any) -> None:
    x = np.zeros((2, 8, 8, 1), np.float32)
    x[1, 3, 3] = value
    with pytest.raises(DataError, match="Expected finite inputs"):
        Pgd.of().build(KerasTarget(digits_net.model), 0.1).generate(x, y)


def test_nothing_stays_nothing(target: Any) -> None:
    assert target.predict(np.zeros((0, 8, 8, 1), np.float32)).shape == (0, 10)
