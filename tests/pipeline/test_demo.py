"""What `make demo` promises."""

from pathlib import Path

import tinyrobust
from tinyrobust.pipeline.run import Run


def test_the_demo_reaches_its_accuracy(tmp_path: Path) -> None:
    # Forty samples of the 200, and one radius of four: attacks take most of the time, and what is promised of them is the same.
    fewer = ["robustness.samples=40", "robustness.epsilons=[0.1]", "robustness.headline=0.1"]
    run: Run = tinyrobust.run("digits-stq", overrides=fewer, runs_dir=tmp_path)
    accuracy = next(clean.test for clean in run.robustness.clean if clean.target == "int8")
    assert accuracy.n == 360
    assert accuracy.value >= 0.97
    assert run.parity.top1_agreement >= 0.985
    # Attacks are run on until they converge; on ten seeds the check behind that was raised for none. Yet another processor
    # trains another network from the same seed, and no rule makes the check silent on every network.
    converged = {(row.target, row.epsilon) for row in run.robustness.convergence}
    assert converged == {("keras", 0.1), ("int8", 0.1)}
    assert {check.name for check in run.robustness.checks if check.raised} <= {"more-steps"}
    assert run.history[-1]["quantized_fraction"] == 1.0
