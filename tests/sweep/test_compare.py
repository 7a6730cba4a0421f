"""The arithmetic of a comparison: means, spreads, intervals, folds."""

import csv
import io

import pytest

from tinyrobust.robustness.statistics import wilson
from tinyrobust.sweep.columns import Value
from tinyrobust.sweep.compare import _cell, spread, to_csv, written
from tinyrobust.sweep.page import markdown, page
from tinyrobust.sweep.pareto import front
from tinyrobust.sweep.sweep_record import JobRecord, RowRecord, SweepRecord


def test_seeds_give_a_mean_and_a_spread_and_do_not_narrow_the_interval():
    values = [(seed, Value(count / 200, count, 200)) for seed, count in ((1, 160), (2, 170), (3, 180))]
    cell = _cell("accuracy", values, 0.75)
    assert (cell.mean, cell.n, cell.runs, cell.reference) == (pytest.approx(0.85), 200, 3, 0.75)
    assert cell.spread == pytest.approx(0.05)
    assert (cell.low, cell.high) == (wilson(170, 200).low, wilson(170, 200).high)


def test_the_parts_of_a_cross_validation_are_pooled():
    parts = [Value(count / n, count, n) for count, n in ((9, 10), (8, 10), (11, 11))]
    cell = _cell("accuracy", [(7, part) for part in parts], None)
    assert (cell.mean, cell.n, cell.runs) == (pytest.approx(28 / 31), 31, 3)
    assert (cell.low, cell.high) == (wilson(28, 31).low, wilson(28, 31).high)
    sizes = _cell("file", [(7, Value(100.0)), (7, Value(104.0)), (8, Value(108.0))], None)
    assert (sizes.mean, sizes.n, sizes.low) == (pytest.approx(105), None, None)


def test_one_run_has_no_spread_and_none_no_figure():
    cell, nothing = (
        _cell("robust", [(7, Value(0.5, 10, 20, reliable=False, note="epsilon 0.1, quick"))], None),
        _cell("robust", [], 0.1),
    )
    assert (cell.spread, cell.reliable, cell.note) == (None, False, "epsilon 0.1, quick")
    assert (nothing.mean, nothing.low, nothing.reference) == (None, None, 0.1)


@pytest.fixture
def record() -> SweepRecord:
    values = [(seed, Value(count / 200, count, 200)) for seed, count in ((1, 160), (2, 180))]
    rows = [
        RowRecord(
            labels={"w": "<b>one</b>"}, cells=[_cell("accuracy", values, 0.75), _cell("file", [], None)], complete=2, jobs=2
        ),
        RowRecord(labels={"w": "two"}, cells=[_cell("accuracy", [], None), _cell("file", [], None)], complete=0, jobs=2),
    ]
    job = {"labels": {"w": "two"}, "seed": 1, "fold": None, "recipe_hash": "0", "seconds": 1.0, "shared": {"teacher": "a-1"}}
    return SweepRecord(
        name="mine",
        description="",
        source="a paper",
        runs_dir="runs",
        until="report",
        workers=1,
        columns={"accuracy": "Accuracy", "file": ".tflite"},
        rows=rows,
        jobs=[JobRecord(**job, run="b-2", state="failed", error="the disk is full")],
    )


def test_csv_has_a_row_for_every_row(record):
    one, two = csv.DictReader(io.StringIO(to_csv(record)))
    assert (one["w"], one["accuracy n"], one["accuracy reference"]) == ("<b>one</b>", "200", "0.75")
    assert float(one["accuracy"]) == pytest.approx(0.85)
    assert (two["accuracy"], two["complete"], two["jobs"]) == ("", "0", "2")
    assert "file n" not in one
    assert "file reference" not in one


def test_the_page_says_everything_and_escapes_it(record):
    text = page(record)
    for part in (
        "85.0\u00a0%",
        "± 7.1",
        "n = 200, 79.4 to 89.3",
        "reference: 75.0",
        "a paper",
        "the disk is full",
        "teacher: a-1",
    ):
        assert part in text
    assert "<b>one" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_table_for_a_readme(record):
    nbsp = "\u00a0"
    assert markdown(record).splitlines() == [
        "| w | Accuracy | .tflite | Runs |",
        "| --- | --- | --- | --- |",
        f"| &lt;b&gt;one&lt;/b&gt; | 85.0{nbsp}% ± 7.1 (n = 200, 79.4 to 89.3); reference 75.0{nbsp}% | - | 2 of 2 |",
        "| two | - | - | 0 of 2 |",
    ]
    alone = RowRecord(
        labels={"w": "a|b"},
        cells=[_cell("accuracy", [(1, Value(0.0, 0, 200, reliable=False, note="quick"))], None)],
        complete=1,
        jobs=1,
    )
    table = markdown(record.model_copy(update={"rows": [alone], "columns": {"accuracy": "Accuracy"}}))
    assert table.splitlines()[2] == f"| a\\|b | 0.0{nbsp}% (n = 200, 0.0 to 1.9; quick; unreliable: a check was raised) |"


def test_the_record_comes_back(record, tmp_path):
    record.save(tmp_path / "sweep.json")
    assert SweepRecord.load(tmp_path / "sweep.json") == record


def test_units():
    assert [written(unit, number) for unit, number in (("share", 0.5), ("B", 2048), ("MAC", 2.7e6), ("s", 192))] == [
        "50.0\u00a0%",
        "2\u00a0KiB",
        "2.7\u00a0M",
        "3\u00a0min\u00a012\u00a0s",
    ]
    assert spread("B", _cell("file", [(1, Value(1.0)), (2, Value(1.0))], None)) == ""


def test_the_front_is_what_nothing_beats():
    points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.4), (2.0, 0.7), (3.0, 0.8), (4.0, 0.9)]
    assert front(points) == [1, 3, 0]
    assert front([(1.0, 0.5), (1.0, 0.5)]) == [0, 1]  # neither is better than the other


def test_the_front_is_drawn_where_it_is_asked_for(record):
    assert "Pareto" not in page(record)
    cells = [_cell("accuracy", [(1, Value(0.8, 160, 200))], None), _cell("file", [(1, Value(2048.0))], None)]
    rows = [RowRecord(labels={"w": name}, cells=cells, complete=1, jobs=1) for name in ("<b>one</b>", "two")]
    text = page(record.model_copy(update={"rows": [*rows, record.rows[1]], "pareto": ("file", "accuracy")}))
    assert "On the Pareto front: &lt;b&gt;one&lt;/b&gt;: 80.0" in text
    assert "<b>one" not in text
