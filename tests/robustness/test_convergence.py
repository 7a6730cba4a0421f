"""The rule by which an attack that has not converged is run on."""

from pathlib import Path

import pytest

from tinyrobust.robustness.convergence import has_converged
from tinyrobust.robustness.protocol import Protocol
from tinyrobust.robustness.robustness_record import LongerRun, RobustnessRecord

# On purpose too short: on the network of the fixture each doubling of its steps breaks more.
_SHORT = {"kind": "pgd", "name": "pgd", "steps": 2, "relative_step": 0.2, "random_starts": 1, "transfer_to": ["int8"]}
_WALK = {"kind": "apgd", "name": "apgd", "loss": "ce", "steps": 10, "restarts": 1}


@pytest.fixture(scope="module")
def records(robust_net, evaluated, tmp_path_factory: pytest.TempPathFactory) -> dict[int, RobustnessRecord]:
    """By the budget of the rule (0: no rule), what an attack that is too short leaves of a robust network."""

    def left(budget: int) -> RobustnessRecord:
        rule = {"budget": budget} if budget else None
        return evaluated(robust_net, tmp_path_factory.mktemp("out"), attacks=[_SHORT], convergence=rule)

    return {budget: left(budget) for budget in (0, 2, 16)}


def _at(record: RobustnessRecord, epsilon: float = 0.1) -> float:
    return next(w.robust.value for w in record.worst if (w.target, w.norm, w.epsilon) == ("keras", "linf", epsilon))


def test_without_a_rule_the_attack_is_reported_as_it_is_listed(records) -> None:
    assert records[0].convergence == []
    assert {row.attack for row in records[0].attacks} == {"pgd"}
    assert "more-steps" in {check.name for check in records[0].checks if check.raised}


def test_it_is_run_on_until_more_steps_break_next_to_nothing(records) -> None:
    row = next(row for row in records[16].convergence if row.epsilon == 0.1)
    assert (row.target, row.attack, row.norm, row.budget) == ("keras", "pgd", "linf", 16)
    assert [run.steps for run in row.runs] == [2, 4, 8, 16][: len(row.runs)]
    assert len(row.runs) > 1
    assert all(run.broken >= 1 for run in row.runs[:-1])
    assert row.converged == (row.runs[-1].broken < 1)
    # Every run gets what the ones before it left.
    standing = [run.standing - run.broken for run in row.runs]
    assert [run.standing for run in row.runs[1:]] == standing[:-1]
    assert _at(records[16]) == standing[-1] / 100
    assert _at(records[16]) < _at(records[0])


def test_longer_runs_are_rows_that_say_what_stands_after_them(records) -> None:
    row = next(row for row in records[16].convergence if row.epsilon == 0.1)
    rows = [one for one in records[16].attacks if one.attack.startswith("pgd-x") and one.epsilon == 0.1]
    assert [one.attack for one in rows] == [f"pgd-x{run.steps}" for run in row.runs]
    assert [one.parameters["steps"] for one in rows] == [2 * run.steps for run in row.runs]
    assert [(one.given, one.robust.n, one.robust.count) for one in rows] == [
        (run.standing, 100, run.standing - run.broken) for run in row.runs
    ]
    # What the protocol lists is as it was.
    listed = [one for one in records[16].attacks if one.attack == "pgd"]
    before = [one for one in records[0].attacks if one.attack == "pgd"]
    assert [(one.robust, one.queries) for one in listed] == [(one.robust, one.queries) for one in before]


def test_a_budget_that_is_too_small_is_said(records) -> None:
    row = next(row for row in records[2].convergence if row.epsilon == 0.1)
    assert [run.steps for run in row.runs] == [2]
    assert not row.converged
    assert "more-steps" in {check.name for check in records[2].checks if check.raised}


@pytest.mark.parametrize(
    ("runs", "converged"),
    [([], True), ([(40, 3), (37, 1)], True), ([(40, 3), (37, 2)], False), ([(40, 37), (3, 3)], True)],
    ids=["nothing stood", "next to nothing broke", "more broke", "nothing was left"],
)
def test_when_it_ends(runs, converged) -> None:
    longer = [LongerRun(steps=2 * 2**n, standing=standing, broken=broken) for n, (standing, broken) in enumerate(runs)]
    assert has_converged(longer, 2) is converged


def test_the_check_behind_it_runs_longer_still(records) -> None:
    check = next(check for check in records[16].checks if check.name == "more-steps")
    runs = next(row for row in records[16].convergence if row.epsilon == 0.1).runs
    assert f"pgd with {max(5, 2 * runs[-1].steps)} times the steps" in check.explanation


def test_one_that_has_converged_is_run_on_once(digits_net, evaluated, tmp_path: Path) -> None:
    record = evaluated(digits_net, tmp_path, attacks=[_WALK], convergence={"share": 0.5}, settings={"samples": 60})
    assert [len(row.runs) for row in record.convergence if row.runs] == [1] * sum(bool(row.runs) for row in record.convergence)
    assert all(row.converged for row in record.convergence)
    assert [row.epsilon for row in record.convergence] == [0.05, 0.1, 0.2, 0.3]


def test_interrupted_it_goes_on_to_the_same_figures(robust_net, evaluated, tmp_path: Path) -> None:
    settings = {"attacks": [_WALK], "convergence": {"budget": 4}, "settings": {"samples": 40, "epsilons": (0.1,)}}
    whole = evaluated(robust_net, tmp_path, **settings)
    (piece, *_) = sorted((tmp_path / "attacks").glob("apgd-x2-*.npz"))
    piece.unlink()
    again = evaluated(robust_net, tmp_path, **settings)
    assert again.convergence == whole.convergence
    assert [row.robust for row in again.attacks] == [row.robust for row in whole.attacks]


def test_with_a_larger_budget_it_goes_on_from_what_is_there(robust_net, evaluated, tmp_path: Path) -> None:
    settings = {"attacks": [_SHORT], "settings": {"epsilons": (0.1,)}}
    evaluated(robust_net, tmp_path, convergence={"budget": 2}, **settings)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "attacks").glob("pgd-*.npz")}
    again = evaluated(robust_net, tmp_path, convergence={"budget": 4}, **settings)
    assert [run.steps for run in again.convergence[0].runs] == [2, 4]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("rule", [{"share": 0.0}, {"share": 1.5}, {"budget": 1}, {"steps": 3}])
def test_a_rule_that_means_nothing_is_refused(rule) -> None:
    with pytest.raises(ValueError, match="convergence"):
        Protocol(name="x", description="", attack=[_WALK], convergence=rule)


@pytest.mark.parametrize("name", ["pgd-x2", "pgd-on-file", "longer-pgd", "longer8-pgd", "wide-pgd"])
def test_names_of_longer_runs_are_not_for_attacks(name: str) -> None:
    with pytest.raises(ValueError, match="Expected names that no longer run has"):
        Protocol(name="x", description="", attack=[{**_WALK, "name": name}])
