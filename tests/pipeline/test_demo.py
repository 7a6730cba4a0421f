"""What `make demo` promises."""

from pathlib import Path

import tinyrobust
from tinyrobust.pipeline.run import Run


def test_the_demo_reaches_its_accuracy(tmp_path: Path) -> None:
    run: Run = tinyrobust.run("digits-stq", runs_dir=tmp_path)
    accuracy = next(clean.test for clean in run.robustness.clean if clean.target == "int8")
    assert accuracy.n == 360
    assert accuracy.value >= 0.97
    assert run.parity.top1_agreement >= 0.985
    # Another processor trains another network from the same seed. On some, fifty steps do not converge, and the check says so.
    assert {check.name for check in run.robustness.checks if check.raised} <= {"more-steps"}
    assert run.history[-1]["quantized_fraction"] == 1.0
