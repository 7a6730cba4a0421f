"""The page that explains robustness figures has a paragraph for every check, with the advice that reports give."""

import re
from pathlib import Path

from tinyrobust.reports.advice import ADVICE
from tinyrobust.robustness.checks import TITLES


def test_every_check_has_its_heading_and_the_report_s_advice() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reading-robustness.md").read_text(encoding="utf-8")
    _, _, checks = page.partition("\n# The checks\n")
    headed = re.split(r"^## ", checks, flags=re.MULTILINE)[1:]
    found = {name.strip(): " ".join(text.split()) for name, _, text in (section.partition("\n") for section in headed)}
    assert set(found) == set(TITLES) == set(ADVICE)
    for name, text in found.items():
        assert text.endswith(f"**What to do:** {ADVICE[name]}"), name
        assert len(text) > len(ADVICE[name]) + 60, name
