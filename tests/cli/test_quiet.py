"""What libraries say stays out of the way of programs: JSON on stdout, nothing on stderr that is no error."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def _typed(*words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """As a user has it: the log level that the tests set is not theirs."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"} | variables
    command = [sys.executable, "-m", "tinyrobust.cli.app", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


@pytest.mark.parametrize("words", [("list", "models"), ("footprint", "mnist-stq", "--no-device"), ("doctor",)], ids=" ".join)
def test_commands_without_tensorflow(words: tuple[str, ...], tmp_path: Path) -> None:
    answer = _typed(*words, "--json", cwd=tmp_path)
    assert answer.stderr == ""
    assert json.loads(answer.stdout)


def test_a_command_that_reads_images_of_tensorflow_datasets(shared: Path, tmp_path: Path) -> None:
    words = ("verify", "svhn-stq", "--attacks", "0", "--json")
    answer = _typed(*words, cwd=tmp_path, TFDS_DATA_DIR=str(shared / "data" / "tfds"))
    assert (answer.returncode, answer.stderr) == (0, "")
    verdicts = {(one["name"], one["target"]): one["verdict"] for one in json.loads(answer.stdout)["figures"]}
    assert verdicts["data", ""] == verdicts["accuracy", "int8"] == "holds"


def test_an_error_is_on_stderr_all_the_same(tmp_path: Path) -> None:
    answer = _typed("attack", "nothing.tflite", "--json", cwd=tmp_path)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "nothing.tflite" in answer.stderr


def test_with_debug_everything_is_shown(tmp_path: Path) -> None:
    answer = _typed("attack", "nothing.tflite", "--debug", cwd=tmp_path)
    assert "Traceback" in answer.stderr
