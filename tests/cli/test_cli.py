"""What people type, as they type it: real commands on a real tiny run."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tinyrobust.cli.app import app, main
from tinyrobust.files import sha256

COMMANDS = (
    "run",
    "train",
    "export",
    "attack",
    "footprint",
    "emulate",
    "listen",
    "report",
    "leaderboard",
    "list",
    "doctor",
    "sweep",
    "quantize",
    "verify",
)


def _type(*words: str) -> Any:
    return CliRunner().invoke(app, words)


def _shell(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinyrobust.cli.app", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    answer = _type(command, "--help")
    assert answer.exit_code == 0
    assert f"tinyrobust {command}" in answer.output.partition("Usage")[2].partition("Example")[2]


def test_help_does_not_wait_for_heavy_packages() -> None:
    script = (
        "import sys; from tinyrobust.cli.app import app\n"
        "try: app(['run', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'tensorflow', 'keras', 'art', 'matplotlib', 'qkeras', 'sklearn'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.endswith("[]\n")


@pytest.mark.parametrize("what", ["recipes", "datasets", "networks", "formats", "attacks", "boards", "sweeps"])
def test_every_list_prints_for_people_and_machines(what: str) -> None:
    people, machines = _type("list", what), _type("list", what, "--json")
    rows = json.loads(machines.output)
    assert people.exit_code == machines.exit_code == 0
    assert rows
    assert all(str(row["name"]) in people.output for row in rows)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "digit-stq"], "Did you mean 'digits-stq'?"),
        (["run", "digits-stq", "--set", "train.epoch=3"], "Did you mean 'epochs'?"),
        (["run", "digits-stq", "--set", "train.epochs"], "Expected --set KEY=VALUE"),
        (["run", "digits-stq", "--set", "data.name=mars"], "mars"),
        (["run", "digits-stq", "--set", "precision.rule.0.layers=blok.*"], "matches no layer"),
        (["run", "digits-stq", "--set", "robustness.protocol=quik"], "quick"),
        (["run", "digits-stq", "--set", 'footprint.boards=["zero"]'], "arduino-zero"),
        (["attack", "nothing.tflite"], "nothing.tflite"),
        (["attack", "recipe.toml"], "Expected the folder of a run or a .tflite file"),
        (["footprint", "nothing.tflite"], "nothing.tflite"),
        (["emulate", "nothing.tflite"], "nothing.tflite"),
        (["emulate", "recipe.toml"], "Expected the folder of a run or a .tflite file"),
        (["listen", "--model", "nothing.tflite", "clip.wav"], "nothing.tflite"),
        (["listen", "--model", "nothing.tflite"], "Expected recordings to listen to, or --microphone"),
        (["report", "."], "not the folder of a run"),
        (["leaderboard", "."], "footprint.json"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_readable_block(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tinyrobust", *words])
    with pytest.raises(SystemExit) as ended:  # in this process: another one would load TensorFlow anew
        main()
    answer = capfd.readouterr()
    text = " ".join(answer.err.replace("│", " ").split())
    assert ended.value.code == 1
    assert answer.out == ""
    assert expected in text
    assert "Traceback" not in answer.err
    assert answer.err.startswith("╭─")


def test_debug_shows_the_traceback() -> None:
    answer = _shell("footprint", "nothing.tflite", "--debug")
    assert answer.returncode == 1
    assert "Traceback" in answer.stderr
    assert "ModelFileError" in answer.stderr


def test_run_prints_json_only(tiny_recipe: Path, tiny_run: Any) -> None:
    answer = _shell("run", str(tiny_recipe), "--runs-dir", str(tiny_run.path.parent), "--json")
    result = json.loads(answer.stdout)
    assert answer.returncode == 0
    assert result["run"] == str(tiny_run.path)
    assert result["robust_accuracy"]["n"] == tiny_run.robustness.headline.n == 20
    assert result["accuracy"]["n"] == 120


def test_run_ends_by_naming_the_report(tiny_recipe: Path, tiny_run: Any) -> None:
    answer = _shell("run", str(tiny_recipe), "--runs-dir", str(tiny_run.path.parent))
    assert answer.stdout.rstrip().endswith(f"Open the report: {tiny_run.path / 'report.html'}")
    assert "attack: complete" in answer.stderr


def test_train_and_export_stop_where_they_say(tiny_recipe: Path, tiny_run: Any) -> None:
    place = ["--runs-dir", str(tiny_run.path.parent)]
    trained = _type("train", str(tiny_recipe), *place)
    exported = _type("export", str(tiny_recipe), *place)
    assert trained.exit_code == exported.exit_code == 0
    assert "Validation accuracy after epoch 6" in trained.output
    assert "model_data.cc" in exported.output.replace("\n", "")


def test_export_of_c(tiny_run: Any, tmp_path: Path) -> None:
    of_run = _type("export", str(tiny_run.path), "--format", "c", "--output", str(tmp_path / "run"))
    of_file = _type(
        "export", str(tiny_run.path / "model.tflite"), "--format", "c", "--output", str(tmp_path / "file"), "--json"
    )
    assert of_run.exit_code == of_file.exit_code == 0
    assert "tr_fast_conv" in of_run.output
    assert "tr_tiny_classes" in (tmp_path / "run" / "tiny.h").read_text()
    assert {Path(name).name for name in json.loads(of_file.output)["files"]} >= {"tiny.c", "tiny.h", "tr_runtime.h"}


def test_export_with_look_up_tables(tiny_run: Any) -> None:
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
    told = json.loads(_type("export", str(tiny_run.path), "--format", "lut", "--json").stdout)
    assert (told["n"], told["inputs"]) == (16, "test images of digits")
    assert (told["file"] is None) == (
        told["flash"]["before"] - told["flash"]["after"] <= told["arena"]["after"] - told["arena"]["before"]
    )


def test_exporting_a_run_again_changes_nothing_in_it(tiny_run: Any) -> None:
    answer = _type("export", str(tiny_run.path))
    assert answer.exit_code == 0
    assert "model_data.h" in answer.output.replace("\n", "")
    digests = tiny_run.record.stages["export"].files
    assert {name: sha256(tiny_run.path / name) for name in digests} == digests


def test_footprint_of_a_file(tiny_run: Any) -> None:
    people = _type("footprint", str(tiny_run.path / "model.tflite"), "--board", "arduino-zero")
    machines = _type("footprint", str(tiny_run.path / "model.tflite"), "--board", "arduino-zero", "--json")
    record = json.loads(machines.output)
    assert "Arduino Zero" in people.output
    assert "measured" in people.output
    assert [board["board"] for board in record["boards"]] == ["arduino-zero"]
    assert record["schema"] == "tinyrobust.footprint/2"


def test_attack_a_run_with_other_epsilons(tiny_run: Any, tmp_path: Path) -> None:
    words = ["--epsilon", "0.3", "--samples", "10", "--output", str(tmp_path / "attack")]
    answer = _type("attack", str(tiny_run.path), *words)
    record = json.loads((tmp_path / "attack" / "robustness.json").read_text())
    assert answer.exit_code == 0
    assert "worst case" in answer.output
    assert record["epsilons"]["linf"] == [0.3]
    assert {clean["target"] for clean in record["clean"]} == {"keras", "int8"}


def test_attack_a_strangers_file(tiny_run: Any, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.tflite"
    stranger.write_bytes((tiny_run.path / "model.tflite").read_bytes())
    without = _shell("attack", str(stranger), cwd=tmp_path)
    assert "--data cifar10" in without.stderr
    words = ["attack", str(stranger), "--data", "digits", "--epsilon", "0.2", "--samples", "10", "--json"]
    record = json.loads(_shell(*words, cwd=tmp_path).stdout)
    assert {attack["target"] for attack in record["attacks"]} == {"int8"}
    assert any("rebuilt from the file" in note for note in record["notes"])
    assert (tmp_path / "attack-stranger" / "per_sample.npz").is_file()


def test_report_is_written_anew(tiny_run: Any) -> None:
    page = tiny_run.path / "report.html"
    page.unlink()
    assert _type("report", str(tiny_run.path)).exit_code == 0
    assert page.is_file()


def test_a_report_shows_another_run_beside_its_own(tiny_run: Any, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run.path, tmp_path / tiny_run.path.name)
    assert _type("report", str(run), "--beside", str(tiny_run.path)).exit_code == 0
    assert f"Beside {tiny_run.path.name}" in (run / "report.html").read_text(encoding="utf-8")


def test_doctor_knows_this_machine() -> None:
    findings = json.loads(_type("doctor", "--json").output)
    by_name = {finding["name"]: finding for finding in findings}
    assert by_name["keras"]["status"] == "works"
    assert by_name["digits"]["status"] == "works"
    assert all(finding["action"] for finding in findings if finding["area"] == "tool" and finding["status"] == "optional")


def test_emulate_prints_for_people_and_machines(small_tflite: Path) -> None:
    if not all(map(shutil.which, ("make", "arm-none-eabi-gcc", "qemu-system-arm"))):
        pytest.skip("the compiler or the emulator is not installed")
    words = ["emulate", str(small_tflite), "--images", "2", "--optimise", "Os", "--optimise", "O2"]
    people, machines = _shell(*words), _shell(*words, "--board", "mps2-an500", "--no-cycles", "--json")
    assert (people.returncode, machines.returncode) == (0, 0)
    assert "mps2-an386, -O2" in people.stdout
    records = json.loads(machines.stdout)
    assert [(one["board"], one["optimisation"], one["n"]) for one in records] == [
        ("mps2-an500", "-Os", 2),
        ("mps2-an500", "-O2", 2),
    ]
    assert f"{records[0]['layers'][0]['weight_bytes']:,}" in people.stdout
    assert [(one["cycles"], one["cycles_missing"]) for one in records] == [([], "")] * 2
    if importlib.util.find_spec("unicorn") and shutil.which("cc"):
        assert "Cycles of a Cortex-M4" in people.stdout
        assert "Cycles of a Cortex-M0+" in people.stdout
        assert "Technical Reference Manual" in people.stdout
    else:
        assert "not modelled" in people.stdout


def test_emulate_without_its_tools_names_the_line_that_installs_them(small_tflite: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tinyrobust.cli.app", "emulate", str(small_tflite)]
    environment = {**os.environ, "PATH": str(tmp_path)}
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    text = " ".join(answer.stderr.replace("│", " ").split())
    assert answer.returncode == 1
    assert "sudo apt install make gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm" in text
