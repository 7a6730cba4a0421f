"""What the page and the card say of a precision that was chosen to fit a budget. The numbers are made up."""

from pathlib import Path

from tinyrobust.recipe.precision import Precision
from tinyrobust.recipe.search import Search
from tinyrobust.recipe.weights import FixedPoint, Ternary
from tinyrobust.reports import formats
from tinyrobust.reports.card import write_card
from tinyrobust.reports.facts import RunFacts
from tinyrobust.reports.report import render
from tinyrobust.training.precision_record import PRECISION, LayerPrecision, PrecisionRecord

TERNARY, NIBBLE = Ternary(kind="ternary"), FixedPoint(kind="fixed-point", bits=4)


def record() -> PrecisionRecord:
    def layer(name: str, chosen: Ternary | FixedPoint, *found: float) -> LayerPrecision:
        sizes = (250, 500) if found else ()
        size = 500 if chosen is NIBBLE else 250
        return LayerPrecision(
            layer=name,
            weight_count=1000,
            table_bytes=80,
            format=chosen,
            weight_bytes=size,
            candidate_bytes=sizes,
            sensitivities=found,
        )

    return PrecisionRecord(
        budget=1500,
        smallest=1240,
        largest=1740,
        measure="adversarial-loss",
        images=512,
        value=0.4567,
        candidates=(TERNARY, NIBBLE),
        layers=(layer("stem", NIBBLE), layer("<b>", NIBBLE, 0.25, -0.0123), layer("logits", TERNARY, 0.034, 0.0005)),
    )


def _with_budget(facts: RunFacts) -> RunFacts:
    rules = ({"layers": "stem", "weights": NIBBLE}, {"layers": ".*"})
    precision = Precision.model_validate({"rule": rules, "budget": 1500, "search": Search(candidates=(TERNARY, NIBBLE))})
    return facts.model_copy(update={"recipe": facts.recipe.model_copy(update={"precision": precision})})


def test_the_page_shows_every_layer(folder: Path, facts: RunFacts) -> None:
    record().save(folder / PRECISION)
    page = render(folder, _with_budget(facts)).read_text()
    for text in ("1,500 B of packed weights and tables: 1,490 B", "smallest possible is 1,240 B", "adversarial loss"):
        assert text in " ".join(page.split())
    for text in ("Sensitivity, fixed-point, 4 bits", "&lt;b&gt;", "-0.012", "0.25", formats.small(0.0005)):
        assert text in page
    assert '<a href="#precision">' in page
    assert "<li>ternary</li>" in page


def test_the_card_names_the_chosen_formats(folder: Path, facts: RunFacts) -> None:
    record().save(folder / PRECISION)
    card = write_card(folder, _with_budget(facts)).read_text()
    assert "- fixed-point\n- ternary\n" in card.replace('"', "")
    assert "formats chosen to fit 1,500 B | 1,490 B, computed |" in card


def test_a_run_without_a_budget_has_no_such_section(folder: Path, facts: RunFacts) -> None:
    assert 'id="precision"' not in render(folder, facts).read_text()


def test_a_scheme_in_words() -> None:
    assert [formats.scheme(one) for one in (TERNARY, NIBBLE)] == ["ternary", "fixed-point, 4 bits"]
