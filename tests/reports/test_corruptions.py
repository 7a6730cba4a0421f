"""Corruptions on the page and on the card of a run."""

import shutil
from pathlib import Path

import pytest

from tinyrobust.files import sha256
from tinyrobust.reports import formats
from tinyrobust.reports.card import write_card
from tinyrobust.reports.facts import RunFacts
from tinyrobust.reports.report import render
from tinyrobust.robustness.corruption_record import CORRUPTIONS, CorruptionMean, CorruptionRecord, CorruptionRow, MeanShare
from tinyrobust.robustness.robustness_record import Golden
from tinyrobust.robustness.statistics import wilson

# More than there are colors for lines; the last one was measured at one severity alone.
_TWO = ("gaussian-noise", "shot-noise", "zoom-blur", "contrast", "brightness", "pixelate")
_WAYS: dict[str, tuple[int, ...]] = {**dict.fromkeys(_TWO, (1, 3)), "jpeg-compression": (3,)}


def _record(model: Path, note: str) -> CorruptionRecord:
    rows = [
        CorruptionRow(target=target, corruption=kind, severity=severity, accuracy=wilson(150 - 20 * severity - number, 200))
        for target in ("keras", "int8")
        for number, (kind, severities) in enumerate(_WAYS.items())
        for severity in severities
    ]
    mean = MeanShare(value=0.47, n=200, low=0.4321, high=0.5123)
    return CorruptionRecord(
        model="model.tflite",
        model_sha256=sha256(model),
        dataset="digits",
        dataset_fingerprint="abc",
        protocol="corruptions",
        seed=7,
        samples=200,
        units="",
        severities=[1, 3],
        means=[
            CorruptionMean(target=target, clean=wilson(180, 200), mean=mean, by_corruption=dict.fromkeys(_WAYS, mean))
            for target in ("keras", "int8")
        ],
        rows=rows,
        golden=Golden(checked=0, differing=0),
        package="imagecorruptions-imaug 1.1.5",
        notes=[note],
        seconds=1.0,
    )


@pytest.fixture
def spoilt(folder: Path, small_tflite: Path) -> CorruptionRecord:
    """Of the file in the folder, beside one of a file that was there before."""
    shutil.copy(small_tflite, folder / "model.tflite")
    record = _record(folder / "model.tflite", "Nobody searched <here>.")
    for name, found in (
        ("corruptions", record),
        ("older", record.model_copy(update={"model_sha256": "0", "notes": ["of another"]})),
    ):
        (folder / f"attack-{name}").mkdir()
        found.save(folder / f"attack-{name}" / CORRUPTIONS)
    return record


def test_the_page_shows_every_figure_of_the_file_that_is_there(folder: Path, facts: RunFacts, spoilt: CorruptionRecord) -> None:
    page = render(folder, facts).read_text(encoding="utf-8")
    assert page.count('<section id="corruptions-') == 1
    assert 'href="#corruptions-1"' in page
    assert "of another" not in page
    assert "Nobody searched &lt;here&gt;." in page
    for row in spoilt.rows:
        assert f"{formats.percent(row.accuracy.value)}<small>{formats.interval(row.accuracy)}</small>" in page
    assert page.count("43.2 to 51.2") >= 2 * (len(_WAYS) + 1)
    for target in ("keras", "int8"):
        assert f"Accuracy of {target} by severity of corruption. Mean: 47.0" in page
    assert page.count('stroke-width="1.5" stroke-dasharray="4 2"') == len(_WAYS) - 6  # a second round of six colors


def test_a_stage_of_the_run_leaves_it_beside_the_other_records(folder: Path, facts: RunFacts, spoilt: CorruptionRecord) -> None:
    spoilt.save(folder / CORRUPTIONS)
    page = render(folder, facts).read_text(encoding="utf-8")
    assert page.count('<section id="corruptions-') == 2


def test_the_card_quotes_the_mean_with_n_and_interval(folder: Path, facts: RunFacts, spoilt: CorruptionRecord) -> None:
    body = write_card(folder, facts).read_text(encoding="utf-8")
    assert f"int8 is right about {formats.proportion(spoilt.means[1].clean)}" in body
    assert "(n = 200, 43.2 to 51.2)" in body
