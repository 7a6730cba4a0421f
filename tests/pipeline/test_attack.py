"""`tinyrobust attack` on runs and on strangers' files: members, surrogates, input ranges."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import tinyrobust
from tinyrobust.cli.app import app
from tinyrobust.errors import ModelFileError
from tinyrobust.pipeline.attack import attack
from tinyrobust.robustness.robustness_record import RobustnessRecord

_PROTOCOL = """
description = "White box, and transfer."
[[attack]]
name = "fgsm"
kind = "fgsm"
transfer_to = ["int8"]
[[attack]]
name = "transfer"
kind = "fgsm"
on = "surrogate"
transfer_to = ["keras", "int8"]
"""


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("protocols") / "transfer.toml"
    path.write_text(_PROTOCOL)
    return str(path)


@pytest.fixture(scope="module")
def other_run(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of `tiny_run`, trained from another seed."""
    return tinyrobust.train(tiny_recipe, overrides=["seed=8"], runs_dir=tmp_path_factory.mktemp("other")).path


def test_another_run_as_a_surrogate_is_a_gray_box(tiny_run: Any, other_run: Path, protocol: str, tmp_path: Path) -> None:
    record = attack(tiny_run.path, protocol=protocol, samples=20, surrogate=other_run, output=tmp_path)
    assert {row.target for row in record.attacks if row.crafted_on == "surrogate"} == {"keras", "int8"}
    (note,) = (note for note in record.notes if note.startswith("The surrogate is tiny-"))
    assert "a gray box. It has the model's architecture and data, only the seed differs" in note


def test_a_run_is_no_surrogate_of_itself(tiny_run: Any, protocol: str, tmp_path: Path) -> None:
    record = attack(tiny_run.path, protocol=protocol, samples=10, surrogate=tiny_run.path, output=tmp_path)
    assert any("These are white-box attacks, no transfer." in note for note in record.notes)


def test_a_network_of_unknown_origin_as_a_surrogate(tiny_run: Any, other_run: Path, protocol: str, tmp_path: Path) -> None:
    network = other_run / "model.keras"
    record = attack(tiny_run.path, protocol=protocol, samples=10, surrogate=network, output=tmp_path)
    assert "The surrogate is model.keras; how it was trained, compared with the model, is not known." in record.notes


def test_runs_that_answer_together(tiny_run: Any, other_run: Path, protocol: str, tmp_path: Path) -> None:
    words = ["attack", str(tiny_run.path), "--member", str(other_run), "--protocol", protocol, "--samples", "20"]
    answer = CliRunner().invoke(app, [*words, "--output", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    record = RobustnessRecord.load(tmp_path / "robustness.json")
    assert [clean.target for clean in record.clean] == ["ensemble", "int8"]
    assert any(note.startswith("Left out: transfer") for note in record.notes)


def test_members_join_a_run_only(tiny_run: Any, other_run: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.tflite"
    stranger.write_bytes((tiny_run.path / "model.tflite").read_bytes())
    with pytest.raises(ModelFileError, match="Expected a run whose network the members join"):
        attack(stranger, data="digits", members=[other_run], output=tmp_path / "out")
    with pytest.raises(ModelFileError, match=r"Expected the folder of a run or a network in a \.keras file"):
        attack(tiny_run.path, members=[stranger], output=tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "recorded"),
    [
        (["--input-range", "0", "250"], (0.0, 250.0)),
        (["--input-range", "0,0,0", "255,255,255"], ([0.0, 0.0, 0.0], [255.0, 255.0, 255.0])),
        (["--normalised", "0,0,0", "0.004,0.004,0.004"], ([0.0, 0.0, 0.0], [250.0, 250.0, 250.0])),
    ],
)
def test_the_input_range_is_an_option_and_recorded(words: list[str], recorded: Any, shared: Path, tmp_path: Path) -> None:
    model = shared / "peers" / "mlperf-tiny-ic.tflite"
    protocol = tmp_path / "square.toml"
    square = 'name = "square"\nkind = "square"\non = "int8"\niterations = 2\nrestarts = 1\n'
    protocol.write_text(f'description = "little"\n[[attack]]\n{square}')
    data = ["--data", str(_colours(tmp_path)), "--protocol", str(protocol), "--samples", "4", "--epsilon", "0.1"]
    answer = CliRunner().invoke(app, ["attack", str(model), *data, *words, "--output", str(tmp_path / "out")])
    assert answer.exit_code == 0, answer.output
    record = RobustnessRecord.load(tmp_path / "out" / "robustness.json")
    assert record.input_range == recorded
    assert record.units_from == "user"
    assert f"Units: {record.units}" in " ".join(answer.output.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--input-range", "1", "0"], "Expected white above black"),
        (["--input-range", "0,0", "1"], "Expected white above black"),
        (["--input-range", "black", "white"], "Expected two numbers"),
        (["--normalised", "0.5", "0"], "a positive deviation per channel"),
        (["--input-range", "0", "1", "--normalised", "0.5", "0.2"], "Received: both"),
    ],
)
def test_an_input_range_that_makes_no_sense(words: list[str], expected: str, tiny_run: Any, tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["attack", str(tiny_run.path), *words, "--output", str(tmp_path)])
    assert answer.exit_code != 0
    assert expected in " ".join((answer.output + str(answer.exception)).split())


def _colours(folder: Path) -> Path:
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8) for name in ("x_train", "x_test")}
    np.savez(folder / "colours.npz", **images, y_train=np.arange(20) % 10, y_test=np.arange(20) % 10)
    return folder / "colours.npz"
