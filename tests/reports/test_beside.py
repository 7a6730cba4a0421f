"""Other networks on the page of a run."""

import re
from pathlib import Path

import pytest

from tinyrobust.errors import RunFolderError
from tinyrobust.reports import beside, formats
from tinyrobust.reports.facts import RunFacts
from tinyrobust.reports.report import render
from tinyrobust.robustness.robustness_record import RobustnessRecord
from tinyrobust.robustness.statistics import wilson


@pytest.fixture
def own(folder: Path) -> RobustnessRecord:
    """Of the run's own network."""
    return RobustnessRecord.load(folder / "robustness.json")


def _other(where: Path, record: RobustnessRecord, **changes: object) -> Path:
    """The folder of a network of which a third as many samples stand, at the first two of the epsilons."""
    fewer = [
        row.model_copy(update={"robust": wilson(row.robust.count // 3, row.robust.n)})
        for row in record.worst
        if row.epsilon in record.epsilons["linf"][:2]
    ]
    record.model_copy(update={"worst": fewer, **changes}).save(where / "robustness.json")
    return where


def test_another_network_stands_beside_with_its_own_figures(
    folder: Path, facts: RunFacts, own: RobustnessRecord, tmp_path: Path
) -> None:
    theirs = _other(tmp_path / "plain & simple", own)
    beside.keep(folder, own, theirs)
    page = render(folder, facts).read_text(encoding="utf-8")
    section = page.partition('<section id="beside">')[2].partition("</section>")[0]
    assert "Beside plain &amp; simple" in section
    assert 'href="#beside"' in page
    assert "The protocols differ" not in section
    lines = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", section, flags=re.DOTALL)
    assert [name for name, _ in lines] == [facts.name, "plain &amp; simple"]
    worst = {row.epsilon: row.robust for row in own.worst if row.target == "all"}
    for place, epsilon in enumerate(own.epsilons["linf"]):
        cells = [line.split("<td")[3 + place] for _, line in lines]
        assert formats.percent(worst[epsilon].value) in cells[0]
        expected = wilson(worst[epsilon].count // 3, worst[epsilon].n)
        assert (formats.percent(expected.value) if place < 2 else "\u2013") in cells[1]
    assert section.count("<svg") == 1


def test_another_protocol_is_pointed_out(folder: Path, facts: RunFacts, own: RobustnessRecord, tmp_path: Path) -> None:
    beside.keep(folder, own, _other(tmp_path / "weak", own, protocol="paper"))
    assert "The protocols differ" in render(folder, facts).read_text(encoding="utf-8")


def test_other_data_cannot_be_compared(folder: Path, own: RobustnessRecord, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="dataset_fingerprint: 00 instead of abab"):
        beside.keep(folder, own, _other(tmp_path / "other", own, dataset_fingerprint="00"))
    assert not beside.found(folder)
