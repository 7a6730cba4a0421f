"""The leaderboard: who is compared with whom, who has a rank, and which folders are refused."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tinyrobust.assets import recipes
from tinyrobust.errors import RunFolderError
from tinyrobust.reports import leaderboard
from tinyrobust.robustness.robustness_record import RobustnessRecord


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the records of a network of the zoo, and no file."""
    zoo = recipes()["cifar10-stq-adversarial"].parent
    for name in ("robustness.json", "footprint.json"):
        shutil.copy(zoo / name, tmp_path)
    return tmp_path


def _changed(folder: Path, **values: object) -> Path:
    path = folder / "robustness.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


def test_the_page_of_the_zoo_is_what_the_command_writes(checkout: Path) -> None:
    page = (checkout / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    assert page.partition("\n## ")[2] == leaderboard.markdown(leaderboard.entries(leaderboard.zoo())).removeprefix("## ")


def test_only_an_adaptive_evaluation_without_a_raised_check_has_a_rank(folder: Path) -> None:
    (quick,) = leaderboard.entries([folder])
    assert quick.doubt == "quick: an upper bound"
    (adaptive,) = leaderboard.entries([_changed(folder, protocol="adaptive")])
    assert adaptive.doubt == ""
    (doubtful,) = leaderboard.entries([_changed(folder, reliable=False)])
    assert doubtful.doubt == "a check was raised"


def test_ranked_networks_come_first_and_the_hardest_to_fool_first_of_them(folder: Path, tmp_path: Path) -> None:
    names = []
    for name, protocol, robust in (("weaker", "adaptive", 20), ("stronger", "adaptive", 40), ("bound", "quick", 90)):
        copy = shutil.copytree(folder, tmp_path / name, ignore=shutil.ignore_patterns("weaker", "stronger"))
        record = RobustnessRecord.load(copy / "robustness.json")
        assert record.headline is not None
        headline = record.headline.model_dump() | {"count": 2 * robust, "value": robust / 100}
        names.append(_changed(copy, protocol=protocol, headline=headline))
    found = leaderboard.entries(names)
    assert [entry.name for entry in found] == ["stronger", "weaker", "bound"]
    ranks = re.findall(r"^\| (.) \| `(\w+)`", leaderboard.markdown(found), flags=re.MULTILINE)
    assert ranks == [("1", "stronger"), ("2", "weaker"), ("\u2013", "bound")]


def test_only_figures_of_one_radius_are_compared(folder: Path, tmp_path: Path) -> None:
    other = _changed(shutil.copytree(folder, tmp_path / "other"), headline_epsilon=4 / 255)
    assert len({entry.task for entry in leaderboard.entries([folder, other])}) == 2


def test_a_network_stands_under_the_smallest_budget_that_holds_its_flash(folder: Path) -> None:
    path = folder / "footprint.json"
    record = json.loads(path.read_text())
    for flash, budget in ((65536, 65536), (65537, 131072), (524288, 524288), (524289, None)):
        record["device"]["flash"]["value"] = flash
        path.write_text(json.dumps(record))
        (entry,) = leaderboard.entries([folder])
        assert entry.budget == budget
    record["device"] = None  # nothing was linked: what TensorFlow Lite Micro takes with the file
    path.write_text(json.dumps(record))
    (entry,) = leaderboard.entries([folder])
    assert (entry.flash.value, entry.whose) == (record["tflm_flash"]["value"], "with TFLM")


def test_records_of_two_networks_are_refused(folder: Path) -> None:
    with pytest.raises(RunFolderError, match="Expected records of one network"):
        leaderboard.entries([_changed(folder, model_sha256="0" * 64)])


def test_a_file_that_is_not_of_the_records_is_refused(folder: Path) -> None:
    (folder / "model.tflite").write_bytes(b"another")
    with pytest.raises(RunFolderError, match=r"model\.tflite: "):
        leaderboard.entries([folder])
