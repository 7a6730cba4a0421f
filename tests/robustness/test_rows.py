"""Every published row is checked at its own radius and norm, or says that it was not."""

import json
from pathlib import Path

import numpy as np
import pytest

from tinyrobust.reports import tables
from tinyrobust.robustness.robustness_record import RobustnessRecord, WorstCase
from tinyrobust.robustness.statistics import wilson
from tinyrobust.robustness.targets import int8

_APGD = {"name": "apgd", "kind": "apgd", "loss": "ce", "steps": 10, "transfer_to": ["int8"]}
_BPDA = {"name": "bpda", "kind": "apgd", "loss": "ce", "steps": 10, "on": "bpda"}
_L2 = {"name": "apgd-l2", "kind": "apgd", "loss": "ce", "steps": 20, "norm": "l2"}
_CW = {"name": "cw", "kind": "cw", "steps": 5, "searches": 2, "norm": "l2"}
_SETTINGS = {"epsilons": (0.02, 0.05), "headline": 0.05, "samples": 40, "l2": (0.2, 0.4)}


def _reasons(record: RobustnessRecord) -> dict[tuple[str, str, float], str | None]:
    return {(row.target, row.norm, row.epsilon): row.not_checked for row in record.worst}


def _check(record: RobustnessRecord, name: str):
    return next(check for check in record.checks if check.name == name)


def test_every_row_of_every_norm_is_checked_where_attacks_are_run_on(digits_net, evaluated, tmp_path: Path) -> None:
    record = evaluated(digits_net, tmp_path, attacks=[_APGD, _BPDA, _L2], settings=_SETTINGS, convergence={"budget": 2})
    assert {(row.target, row.norm, row.epsilon) for row in record.convergence} == {
        *((target, "linf", epsilon) for target in ("keras", "int8") for epsilon in (0.02, 0.05)),
        *(("keras", "l2", epsilon) for epsilon in (0.2, 0.4)),
    }
    assert set(_reasons(record).values()) == {"", "not attacked"}
    # Nothing was tried on the file in L2.
    assert {place for place, reason in _reasons(record).items() if reason} == {("int8", "l2", 0.2), ("int8", "l2", 0.4)}
    for name in ("half-grey", "unconstrained"):
        explanation = _check(record, name).explanation
        assert all(of in explanation for of in ("apgd on keras", "bpda on int8", "apgd-l2 on keras"))
        assert not _check(record, name).raised


def test_without_a_rule_only_the_headline_is_checked(digits_net, evaluated, tmp_path: Path) -> None:
    record = evaluated(digits_net, tmp_path, attacks=[_APGD, _CW], settings=_SETTINGS)
    reasons = _reasons(record)
    assert reasons["keras", "linf", 0.05] == reasons["all", "linf", 0.05] == ""
    assert "no rule of convergence" in reasons["keras", "linf", 0.02]
    assert "no attack of steps" in reasons["int8", "linf", 0.05]
    assert "no attack of steps" in reasons["keras", "l2", 0.2]
    remarks = {row.target: row.remarks for row in tables.worst_rows(record)}
    assert remarks == {"keras": ["not checked", ""], "int8": ["not checked", "not checked"], "all": ["not checked", ""]}
    assert "the protocol has no rule of convergence" in tables.unchecked(record)


def test_a_row_that_has_not_converged_makes_the_record_unreliable(robust_net, evaluated, tmp_path: Path) -> None:
    short = {"kind": "pgd", "name": "pgd", "steps": 2, "relative_step": 0.2, "random_starts": 1}
    settings = {"epsilons": (0.15, 0.5), "headline": 0.5, "samples": 60}
    record = evaluated(robust_net, tmp_path, attacks=[short], settings=settings, convergence={"budget": 2})
    assert not next(row for row in record.convergence if row.epsilon == 0.15).converged
    check = _check(record, "more-steps")
    assert check.raised
    assert "pgd on keras at linf epsilon 0.15" in check.explanation


def test_no_headline_in_a_norm_that_was_not_attacked(digits_net, evaluated, tmp_path: Path) -> None:
    record = evaluated(digits_net, tmp_path, attacks=[_L2], settings=_SETTINGS, convergence={"budget": 2})
    assert record.headline is None
    assert not record.attacked_at_headline
    assert "has no attack at linf epsilon 0.05" in record.notes[-1]
    assert all(reason == "not attacked" for (_, norm, _), reason in _reasons(record).items() if norm == "linf")
    assert all(cell is None for row in tables.worst_rows(record) for cell in row.cells)
    assert {row.remarks[0] for row in tables.worst_rows(record)} == {"not attacked"}
    assert _reasons(record)["keras", "l2", 0.2] == ""


def test_no_figure_at_a_radius_that_no_attack_has(digits_net, evaluated, tmp_path: Path) -> None:
    record = evaluated(digits_net, tmp_path, attacks=[{**_APGD, "epsilons": [0.05]}], settings=_SETTINGS)
    assert _reasons(record)["all", "linf", 0.02] == "not attacked"
    assert record.headline is not None


@pytest.mark.parametrize(
    ("epsilon", "count", "not_checked", "remark"),
    [
        (0.1, 5, None, ""),
        (0.2, 5, None, "not checked"),
        (0.2, 0, None, ""),
        (0.2, 5, "", ""),
        (0.1, 5, "the protocol has no rule of convergence", "not checked"),
        (0.1, 5, "not attacked", "not attacked"),
    ],
    ids=["old headline", "old row", "old row of nothing", "checked", "unchecked headline", "not attacked"],
)
def test_what_stands_beside_a_figure(epsilon, count, not_checked, remark, checkout: Path) -> None:
    record = RobustnessRecord.load(checkout / "models" / "mnist-stq" / "robustness.json")
    row = WorstCase(target="all", norm="linf", epsilon=epsilon, robust=wilson(count, 200), not_checked=not_checked)
    assert record.headline_epsilon == 0.1
    assert record.remark(row) == remark


def test_a_row_that_was_broken_from_outside_does_not_count_as_checked(shared: Path, checkout: Path) -> None:
    """The examples of an attack from outside (own rebuild of the file, reference AutoAttack and PGD), judged by the file."""
    folder = checkout / "models" / "cifar10-stq-t50"
    with np.load(shared / "field" / "masked" / "adversarial_cifar10-stq-t50.npz", allow_pickle=False) as outside:
        image, label = outside["image"].astype(np.float32) / 255, outside["label"]
        adversarial = outside["adversarial"].astype(np.float32) / 255
    assert np.abs(adversarial - image).max() <= 2 / 255 + 1e-6
    file = int8(folder / "model.tflite")
    assert (file.predict(adversarial).argmax(axis=1) != label).all()
    record = RobustnessRecord.load(folder / "robustness.json")
    right = next(row.attacked.count for row in record.clean if row.target == "int8")
    row = next(w for w in record.worst if w.target == "all" and w.norm == "linf" and np.isclose(w.epsilon, 2 / 255))
    # What is left of the samples that the file names rightly, give or take one that another machine names otherwise.
    assert row.robust.count <= right - len(label) + 1 or record.remark(row) == "not checked", json.dumps(row.model_dump())
