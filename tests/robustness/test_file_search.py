"""Attacks end on the file: what fools the network is brought to the file, and a short search goes on from there."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from tinyrobust.attacks.specs import Attack, Pgd, Square
from tinyrobust.robustness import protocol
from tinyrobust.robustness.crafting import _radii
from tinyrobust.robustness.file_search import PHASES, _rounded, follow_up, search
from tinyrobust.robustness.robustness_record import AttackResult, RobustnessRecord
from tinyrobust.robustness.targets import BpdaTarget, KerasTarget, int8

_APGD = {"name": "apgd", "kind": "apgd", "loss": "ce", "steps": 20}
_RULE = {"walks": 3, "steps": 10, "queries": 40}
_SETTINGS = {"epsilons": (0.05, 0.1), "headline": 0.1, "samples": 60}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searched")


@pytest.fixture(scope="module")
def record(digits_net, evaluated, folder) -> RobustnessRecord:
    """The attack alone is judged on the network only: all that is known of the file comes from the search behind it."""
    return evaluated(digits_net, folder, attacks=[_APGD], settings=_SETTINGS, file_search=_RULE)


def _standing(record: RobustnessRecord, target: str, epsilon: float) -> int:
    return next(w.robust.count for w in record.worst if (w.target, w.norm, w.epsilon) == (target, "linf", epsilon))


def _rows(record: RobustnessRecord, attack: str) -> list[AttackResult]:
    return [row for row in record.attacks if row.attack == attack]


def test_the_file_falls_where_the_network_does(record) -> None:
    for epsilon in _SETTINGS["epsilons"]:
        assert _standing(record, "int8", epsilon) - _standing(record, "all", epsilon) <= 1
    clean = next(row.attacked.count for row in record.clean if row.target == "int8")
    assert _standing(record, "int8", 0.1) < clean


def test_the_record_says_what_was_done(record) -> None:
    for row in _rows(record, "apgd-on-file"):
        assert (row.target, row.crafted_on, row.norm) == ("int8", "bpda", "linf")
        assert row.parameters == {"kind": "file-search", "follows": "apgd", **_RULE}
        assert set(row.found) == set(PHASES)
        # Given is what fooled the network and is right on the file; what it leaves standing was not broken by any part.
        clean = next(clean.attacked.count for clean in record.clean if clean.target == "int8")
        assert sum(row.found.values()) == clean - row.robust.count
        assert 0 < row.queries <= row.given * (3 + _RULE["walks"] * (_RULE["steps"] + 2) + _RULE["queries"] + 2)
    assert all(not row.found for row in _rows(record, "apgd"))


def test_interrupted_it_goes_on_to_the_same_figures(record, digits_net, evaluated, folder) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "attacks").glob("apgd*.npz")}
    (folder / "attacks" / "apgd-on-file-0.1-0.npz").unlink()
    again = evaluated(digits_net, folder, attacks=[_APGD], settings=_SETTINGS, file_search=_RULE)
    assert again.worst == record.worst
    assert [(row.found, row.queries) for row in again.attacks] == [(row.found, row.queries) for row in record.attacks]
    assert (folder / "attacks" / "apgd-0.05-0.npz").stat().st_mtime_ns == before["apgd-0.05-0.npz"]


def test_a_record_of_before_has_no_search(record) -> None:
    old = json.loads(record.to_json())
    for row in old["attacks"]:
        del row["found"]
    assert all(row.found == {} for row in RobustnessRecord.model_validate(old).attacks)


def test_behind_the_twin_of_a_strangers_file(digits_net, evaluated, tmp_path: Path) -> None:
    settings = {**_SETTINGS, "epsilons": (0.1,), "samples": 20}
    found = evaluated(digits_net, tmp_path, attacks=[_APGD], settings=settings, networks=(), file_search=_RULE)
    (searched,) = _rows(found, "apgd-on-file")
    (twin,) = _rows(found, "apgd")
    assert (twin.target, twin.crafted_on) == ("int8", "twin")
    assert searched.robust.count <= twin.robust.count


def test_behind_an_attack_that_fooled_nothing(digits_net, evaluated, tmp_path: Path) -> None:
    """It has nothing to go on from, and asks nothing."""
    settings = {**_SETTINGS, "epsilons": (1e-6,), "headline": 1e-6, "samples": 20, "grid": True}
    found = evaluated(digits_net, tmp_path, attacks=[_APGD], settings=settings, file_search=_RULE)
    right = next(row.attacked.count for row in found.clean if row.target == "keras")
    assert _standing(found, "keras", 1e-6) == right
    (row,) = _rows(found, "apgd-on-file")
    assert (row.given, row.queries, set(row.found.values())) == (0, 0, {0})


def test_behind_an_attack_that_looks_for_the_nearest_example(digits_net, evaluated, tmp_path: Path) -> None:
    fab = {"name": "fab", "kind": "fab", "steps": 8}
    found = evaluated(digits_net, tmp_path, attacks=[fab], settings={**_SETTINGS, "samples": 20}, file_search=_RULE)
    rows = _rows(found, "fab-on-file")
    assert [row.epsilon for row in rows] == [0.05, 0.1]
    assert all(row.largest_distance <= row.epsilon + 1e-6 for row in rows)
    assert _standing(found, "int8", 0.1) - _standing(found, "all", 0.1) <= 1


def test_it_may_go_as_far_as_the_radius_that_the_example_is_in() -> None:
    distance, tried = np.float32([0.05, 0.1, 0.15, 0.3, 0.05]), np.array([True, True, True, True, False])
    fab = TypeAdapter(Attack).validate_python({"name": "fab", "kind": "fab"})
    np.testing.assert_array_equal(_radii(fab, (0.1, 0.2), 0.2, distance, tried), [0.1, 0.1, 0.2, 0.0, 0.0])
    np.testing.assert_array_equal(_radii(Pgd.of(), (0.1, 0.2), 0.2, distance, tried), [0.2, 0.2, 0.2, 0.2, 0.0])


def test_changes_become_whole_steps() -> None:
    x = np.full((1, 1, 4, 1), 100 / 255, np.float32)
    changes = np.float32([[[[1.2], [-1.2], [2.5], [0.0]]]]) / 255
    near, beyond = _rounded(x + changes, x, 2.5 / 255, "linf")
    np.testing.assert_allclose((near - x).ravel() * 255, [1, -1, 2, 0], atol=1e-4)
    np.testing.assert_allclose((beyond - x).ravel() * 255, [2, -2, 2.5, 0], atol=1e-4)


@pytest.mark.parametrize(
    "attack",
    [
        {"kind": "fgsm"},
        {"kind": "apgd", "on": "bpda"},
        {"kind": "apgd", "on": "surrogate"},
        {"kind": "universal"},
        {"kind": "square"},
        {"kind": "apgd", "name": "longer-apgd"},
    ],
)
def test_what_no_search_follows(attack) -> None:
    spec = TypeAdapter(Attack).validate_python({"name": "attack", **attack})
    assert follow_up(protocol.FileSearch(), spec) is None
    assert follow_up(None, Pgd.of()) is None


def test_walks_and_squares_go_on_from_where_they_are_told(digits_net) -> None:
    x, y = digits_net.x[:30].astype(np.float32) / 255, digits_net.y[:30]
    file, network = int8(digits_net.tflite), KerasTarget(digits_net.model)
    start = Pgd.of(steps=5).build(network, 0.05, drop=False).generate(x, y)
    worst = file.predict(start)[np.arange(30), y]
    for spec in (Square.of(iterations=20, initial_share=0.05), Square.of(iterations=20, norm="l2")):
        epsilon = 0.05 if spec.norm == "linf" else 1.0
        ended = spec.build(file, epsilon).continued(x, y, start)
        assert (file.predict(ended).argmax(axis=1) != y)[file.predict(start).argmax(axis=1) != y].all()
    bpda = BpdaTarget(file, digits_net.model)
    walked = Pgd.of(steps=5, loss="margin").build(bpda, 0.05).continued(x, y, start)
    assert np.abs(walked - x).max() <= 0.05 + 1e-6
    assert file.predict(walked)[np.arange(30), y].mean() <= worst.mean()


def test_the_best_attempt_is_kept_in_the_ball(digits_net) -> None:
    x, y = digits_net.x[:20].astype(np.float32) / 255, digits_net.y[:20]
    file = int8(digits_net.tflite)
    spec = follow_up(protocol.FileSearch(walks=2, steps=3, queries=5), Pgd.of(name="pgd"))
    found = search(spec, file, BpdaTarget(file, digits_net.model), x, y, x, 0.02, seed=1)
    assert np.abs(found.example - x).max() <= 0.02 + 1e-6
    np.testing.assert_array_equal(found.phase >= 0, file.predict(found.example).argmax(axis=1) != y)
