import re
from pathlib import Path
from typing import Any

import pytest

from tinyrobust.deploy import artefact
from tinyrobust.deploy.carray import Arena, write_c_array
from tinyrobust.reports import formats
from tinyrobust.reports.advice import ADVICE
from tinyrobust.reports.card import write_card
from tinyrobust.reports.facts import RunFacts
from tinyrobust.robustness.robustness_record import RobustnessRecord

yaml = pytest.importorskip("yaml", reason="PyYAML reads the front matter as the Hugging Face Hub does")
HOSTILE = 'a "name": |\n- <script> `x` \u2028 \x85 #'


def card(folder: Path, facts: RunFacts) -> tuple[dict[str, Any], str]:
    text = write_card(folder, facts).read_text(encoding="utf-8")
    start, front, body = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(front), body


def test_front_matter_holds_the_record_s_figures(folder: Path, facts: RunFacts) -> None:
    front, _ = card(folder, facts)
    record = RobustnessRecord.load(folder / "robustness.json")
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == "image-classification"
    assert front["datasets"] == ["digits"]
    assert "stochastic-ternary" in front["tags"]
    (result,) = front["model-index"][0]["results"]
    accuracy, robust = result["metrics"]
    assert accuracy["value"] == pytest.approx(100 * record.clean[1].test.value, abs=1e-4)
    assert robust["value"] == pytest.approx(100 * record.headline.value, abs=1e-4)
    assert f"n = {record.headline.n}, 95 % interval {formats.interval(record.headline)}" in robust["name"]


def test_every_share_comes_with_n_and_interval(folder: Path, facts: RunFacts) -> None:
    _, body = card(folder, facts)
    record = RobustnessRecord.load(folder / "robustness.json")
    for share in (record.headline, record.clean[1].test, *(row.robust for row in record.worst)):
        assert formats.proportion(share) in body
    assert "g_digits_stq_arena_size" in body
    assert "tinyrobust run digits-stq" in body


def test_a_run_that_was_only_trained_claims_nothing(folder: Path, facts: RunFacts) -> None:
    for name in ("robustness.json", "per_sample.npz", "footprint.json", "parity.json"):
        (folder / name).unlink()
    front, body = card(folder, facts)
    assert "model-index" not in front
    assert "nothing is known about its robustness" in body
    assert "not exported yet" in body


def test_the_c_is_on_the_card(folder: Path, facts: RunFacts) -> None:
    _, body = card(folder, facts)
    assert "11,324 B of flash" in body
    assert f"{formats.total(1_234_560)} instructions an inference (not cycles)" in body


def test_the_card_says_as_the_c_does_how_a_value_becomes_a_byte(
    folder: Path, facts: RunFacts, small_tflite: Path, tmp_path: Path
) -> None:
    assert "becomes" not in card(folder, facts)[1]
    (folder / "model.tflite").write_bytes(small_tflite.read_bytes())
    (said,) = re.findall(r"^A value x of the input becomes (.*)$", card(folder, facts)[1], re.MULTILINE)
    _, header = write_c_array(artefact.read(small_tflite), "x", tmp_path, arena=Arena(1))
    assert f"A value x becomes {said}" in " ".join(header.read_text().replace("//", "").split())
    assert said.startswith("round(x / ")


def test_warnings_are_on_the_card(folder: Path, facts: RunFacts, doubted: str) -> None:
    front, body = card(folder, facts)
    assert f"> - {doubted} *{ADVICE['softmax']}*\n" in body
    assert "> **Unreliable" in body
    assert "**unreliable** |" in body
    assert "1 raised: softmax. No robustness can be claimed" in body
    assert front["model-index"][0]["results"][0]["metrics"][1]["name"].startswith("Unreliable: ")


def test_hostile_names_stay_text(folder: Path, facts: RunFacts) -> None:
    assert facts.data is not None
    data = facts.data.model_copy(update={"name": HOSTILE, "classes": (HOSTILE, "b")})
    front, body = card(folder, facts.model_copy(update={"name": HOSTILE, "data": data, "command": "run\n```\n<script>"}))
    assert front["datasets"] == [HOSTILE]
    assert front["model-index"][0]["name"] == HOSTILE
    assert body.count("```") == 4
    outside = "".join(body.split("```")[::2])
    assert "<script>" not in outside
    assert "&lt;script&gt;" in outside
