"""What the page says of how much a network amplifies. The numbers are made up."""

from pathlib import Path

from tinyrobust.reports import formats
from tinyrobust.reports.facts import RunFacts
from tinyrobust.reports.report import render
from tinyrobust.robustness.amplification_record import AMPLIFICATION, AmplificationRecord, LayerAmplification


def record(adversarial: float | None = 12.5, bound: float | None = 190035.1) -> AmplificationRecord:
    def layer(name: str, read: float | None) -> LayerAmplification:
        return LayerAmplification(layer=name, jacobian=7.25, spectral_norm=2.875, adversarial=read, random=read and read / 2)

    changed = adversarial is not None
    return AmplificationRecord(
        n=64,
        images="validation images",
        attack="PGD, 10 steps",
        epsilon=0.1,
        layers=(layer("stem", 1.0 if changed else None), layer("<b>", 0.0 if changed else None)),
        adversarial=adversarial,
        random=3.75 if changed else None,
        lipschitz_bound=bound,
    )


def _page(folder: Path, facts: RunFacts, shown: AmplificationRecord) -> str:
    shown.save(folder / AMPLIFICATION)
    return " ".join(render(folder, facts).read_text().split())


def test_the_page_shows_every_layer_and_the_logits(folder: Path, facts: RunFacts) -> None:
    page = _page(folder, facts, record())
    for text in ("on 64 images (validation images)", "PGD, 10 steps, L∞ epsilon 0.1", f"more than {formats.small(190035.1)}"):
        assert text in page
    for text in ("&lt;b&gt;", formats.small(7.25), formats.small(2.875), formats.small(12.5), formats.small(3.75)):
        assert text in page
    assert f"at the logits: adversarial {formats.small(12.5)}, random signs {formats.small(3.75)}." in page
    assert '<a href="#amplification">' in page


def test_without_changes_and_bounds_it_says_so(folder: Path, facts: RunFacts) -> None:
    page = _page(folder, facts, record(adversarial=None, bound=None))
    assert "There is no Lipschitz bound" in page
    assert "at the logits: adversarial" not in page
    assert page.count('<td class="num muted">\u2013</td>') >= 6


def test_a_run_that_was_not_measured_has_no_such_section(folder: Path, facts: RunFacts) -> None:
    assert 'id="amplification"' not in render(folder, facts).read_text()
