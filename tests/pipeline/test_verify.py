"""A folder of the zoo as a model for every command, and what `verify` says of its card."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tinyrobust
from tinyrobust import assets
from tinyrobust.errors import ModelFileError, RecipeError
from tinyrobust.graphs.numbers import NETWORK
from tinyrobust.pipeline.attack import attack
from tinyrobust.pipeline.models import locate
from tinyrobust.pipeline.run import report
from tinyrobust.pipeline.verification_record import Figure, VerificationRecord
from tinyrobust.pipeline.verify import compared, verify
from tinyrobust.robustness.robustness_record import RobustnessRecord
from tinyrobust.robustness.statistics import wilson

_PROTOCOL = 'description = "One step."\n[[attack]]\nname = "fgsm"\nkind = "fgsm"\ntransfer_to = ["int8"]\n'


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("protocols") / "step.toml"
    path.write_text(_PROTOCOL)
    return str(path)


@pytest.fixture(scope="module")
def promoted(tiny_run: Any, protocol: str, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make zoo` takes of a run, its card measured by one quick attack."""
    folder = tmp_path_factory.mktemp("zoo") / "tiny"
    folder.mkdir()
    listed = (
        (checkout / "Makefile").read_text().partition("ARTEFACTS := ")[2].partition("\nGENERATED")[0].replace("\\", "").split()
    )
    for name in ("recipe.toml", *listed):
        if (tiny_run.path / name).is_file():
            shutil.copy(tiny_run.path / name, folder)
    attack(tiny_run.path, protocol=protocol, samples=40, output=folder / "attack")
    shutil.move(folder / "attack" / "robustness.json", folder / "robustness.json")
    shutil.rmtree(folder / "attack")
    return folder


def _counts(record: RobustnessRecord) -> dict[tuple[str, float], int]:
    return {(row.target, row.epsilon): row.robust.count for row in record.worst}


def test_a_folder_of_the_zoo_says_what_it_is_attacked_on(promoted: Path, protocol: str, tmp_path: Path) -> None:
    recipe, tflite = locate(promoted)
    assert recipe is not None
    assert locate(tflite)[0] == recipe
    card = RobustnessRecord.load(promoted / "robustness.json")
    again = attack(promoted, protocol=protocol, samples=40, output=tmp_path)
    assert _counts(again) == _counts(card)
    assert [one.target for one in again.clean] == ["keras", "int8"]
    assert (again.dataset_fingerprint, again.notes) == (card.dataset_fingerprint, card.notes)


def test_a_name_of_the_zoo_stands_for_its_folder() -> None:
    recipe, tflite = locate("mnist-stq")
    assert recipe is not None
    assert tflite == assets.recipes()["mnist-stq"].with_name("model.tflite")
    with pytest.raises(ModelFileError, match=r"Expected the folder of a run or a \.tflite file"):
        locate("digits-stq-t50")  # a recipe that nobody trained


def test_a_card_is_measured_again(promoted: Path, protocol: str, tmp_path: Path) -> None:
    found = tinyrobust.verify(promoted, attacks=0.5, protocol=protocol, output=tmp_path / "out")
    assert found.holds
    assert {figure.verdict for figure in found.figures} <= {"holds", "not reached"}
    assert [figure.name for figure in found.figures[:4]] == ["file", "data", "accuracy", "accuracy"]
    robust = [figure for figure in found.figures if figure.name == "robust"]
    assert {figure.target for figure in robust} == {"keras", "int8", "all"}
    assert {figure.measured.n for figure in robust if figure.measured} == {20}
    assert {figure.measured.n for figure in found.figures[2:4] if figure.measured} == {120}


def test_without_the_numbers_of_the_network_its_rows_are_not_measured(promoted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(promoted, tmp_path / "tiny")
    (folder / NETWORK).unlink()
    found = verify(folder, accuracy=0.5, attacks=0)
    verdicts = {figure.target: figure.verdict for figure in found.figures if figure.name == "accuracy"}
    assert verdicts == {"keras": "not measured", "int8": "holds"}
    assert found.holds
    assert any(f"has no {NETWORK}" in note for note in found.notes)


def test_a_card_that_claims_too_much_does_not_hold_and_the_command_says_so_alone(promoted: Path, tmp_path: Path) -> None:
    """In a process of its own: JSON on stdout and nothing on stderr, whatever the libraries have to say."""
    folder = shutil.copytree(promoted, tmp_path / "tiny")
    card = RobustnessRecord.load(folder / "robustness.json")
    clean = [one.model_copy(update={"test": wilson(120, 120)}) for one in card.clean]
    card.model_copy(update={"clean": clean}).save(folder / "robustness.json")
    words = ("verify", str(folder), "--attacks", "0", "--json")
    answer = subprocess.run(
        [sys.executable, "-m", "tinyrobust.cli.app", *words], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (answer.returncode, answer.stderr) == (1, "")
    found = VerificationRecord.model_validate(json.loads(answer.stdout))
    assert [figure.verdict for figure in found.figures] == ["holds", "holds", "differs", "differs"]


def test_another_file_or_other_data_than_the_cards(promoted: Path, protocol: str, tmp_path: Path) -> None:
    folder = shutil.copytree(promoted, tmp_path / "tiny")
    card = RobustnessRecord.load(folder / "robustness.json")
    card.model_copy(update={"dataset_fingerprint": "0" * 64}).save(folder / "robustness.json")
    found = verify(folder, accuracy=0.1, attacks=0, protocol=protocol)
    assert [figure.verdict for figure in found.figures[:2]] == ["holds", "differs"]
    assert not found.holds
    card.model_copy(update={"model_sha256": "0" * 64}).save(folder / "robustness.json")
    assert [figure.verdict for figure in verify(folder).figures] == ["differs"]


def test_what_cannot_be_verified_is_refused(promoted: Path, small_tflite: Path) -> None:
    with pytest.raises(RecipeError, match="Expected a share for accuracy, above 0"):
        verify(promoted, accuracy=0)
    with pytest.raises(RecipeError, match=r"Expected the protocol of the card, 'step'\. Received: 'quick'"):
        verify(promoted, protocol="quick")
    with pytest.raises(ModelFileError, match=r"Expected the folder of a model with its recipe\.toml"):
        verify(small_tflite)


@pytest.mark.parametrize(
    ("name", "count", "n", "verdict"),
    [
        # 100 of 200 on the card. All of them again: one sample in a hundred beyond, two.
        ("robust", 98, 200, "holds"),
        ("robust", 97, 200, "differs"),
        ("robust", 102, 200, "holds"),
        ("robust", 103, 200, "not reached"),
        ("accuracy", 103, 200, "differs"),
        # 4 of them, of which 0 are right with a probability of 0.06 and more than 4 cannot be.
        ("robust", 0, 4, "holds"),
        ("robust", 4, 4, "holds"),
    ],
)
def test_within_what_so_many_samples_allow(name: str, count: int, n: int, verdict: str) -> None:
    card = Figure.model_validate({"name": name, "recorded": wilson(100, 200), "verdict": "holds"})
    assert compared(card, count, n).verdict == verdict


def test_fifty_samples_of_a_false_card() -> None:
    """Of 114 among 200, 28.5 are expected among 50, with a standard deviation of 3.0: 15 are 4.4 of them below, 24 are 1.5."""
    card = Figure(name="robust", recorded=wilson(114, 200), verdict="holds")
    assert compared(card, 15, 50).verdict == "differs"
    assert compared(card, 24, 50).verdict == "holds"


def test_the_page_of_a_model_of_the_zoo_is_written_elsewhere(
    promoted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in promoted.iterdir())
    monkeypatch.chdir(tmp_path)
    page = report(promoted)
    assert page == Path("report-tiny") / "report.html"
    assert "Worst" in page.read_text()
    assert sorted(path.name for path in promoted.iterdir()) == before
