"""The page that explains robustness figures has a paragraph for every check, with the advice that reports give."""

import re
from pathlib import Path

from scipy.stats import chi2

from tinyrobust import recipe as recipes
from tinyrobust.data import cards
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


def test_the_recipe_of_the_page_on_speech_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "speech.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "my-words.toml").write_text(block)
    found = recipes.load(tmp_path / "my-words.toml")
    assert found.data.speech is not None
    assert found.data.speech.words == ("lamp", "door")
    assert found.listening is not None
    assert found.robustness.waveform is not None
    assert set(re.findall(r"`(speech-commands[\w-]*)`", page)) <= set(cards())
    # Nothing heard in a quarter of an hour: the upper end of the 95 % interval of a Poisson rate.
    assert f"*below {chi2.ppf(0.975, 2) / 2 / 0.25:.0f} an hour*" in page
