"""An optional package that is installed and cannot be imported: nothing ends, and everything says so."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tinyrobust.robustness.robustness_record import RobustnessRecord

_SAID = "tflite-micro is installed, but its import fails (ImportError in yaml: this yaml is broken)"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `yaml`, which tflite-micro imports, raises what a package of another Python would."""
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")
    folder = tmp_path_factory.mktemp("site")
    (folder / "yaml.py").write_text('raise ImportError("this yaml is broken")\n')
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def typed(broken: dict[str, str], *words: str | Path, cwd: Path | None = None) -> Any:
    """What a command prints with --json."""
    command = [sys.executable, "-m", "tinyrobust.cli.app", *map(str, words), "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=broken, cwd=cwd, timeout=600)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_a_footprint_says_what_it_could_not_measure(broken: dict[str, str], small_tflite: Path) -> None:
    record = typed(broken, "footprint", small_tflite, "--board", "raspberry-pi-pico")
    assert record["tflm_arena"] is None
    assert record["arena"]["how"].endswith(f"TensorFlow Lite Micro was not asked: {_SAID}")
    if record["device"]:
        emulation = record["device"]["emulation"]
        assert (emulation["equal"], emulation["golden"]) == (None, f"not asked: {_SAID}")
    else:
        assert "arm-none-eabi-gcc" in record["device_missing"]


def test_an_export_computes_the_arena_instead(broken: dict[str, str], small_tflite: Path, tmp_path: Path) -> None:
    answer = typed(broken, "export", small_tflite, "--output", tmp_path)
    assert answer["arena_bytes"]["measured"] is None
    assert answer["arena_bytes"]["not_measured"] == _SAID
    comment = " ".join((tmp_path / "model_data.h").read_text().replace("//", " ").split())
    assert f"TensorFlow Lite Micro was not asked: {_SAID}." in comment


def test_an_attack_goes_on_without_the_golden(broken: dict[str, str], digits_net: Any, tmp_path: Path) -> None:
    words = ("--data", "digits", "--samples", "6", "--epsilon", "0.1", "--output", tmp_path)
    typed(broken, "attack", digits_net.tflite, *words)
    record = RobustnessRecord.load(tmp_path / "robustness.json")
    assert record.golden.checked == 0
    assert any(f"TensorFlow Lite Micro was not asked ({_SAID})" in note for note in record.notes)


def test_what_needs_it_says_which_line_mends_it(broken: dict[str, str], small_tflite: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tinyrobust.cli.app", "export", str(small_tflite), "--format", "lut"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=broken, cwd=tmp_path, timeout=600)
    said = " ".join(answer.stderr.replace("│", " ").split())
    assert answer.returncode == 1
    assert "this yaml is broken" in said
    assert "pip install --force-reinstall 'tinyrobust[mcu]'" in said
    assert "Export the model again" not in said


def test_doctor_names_it(broken: dict[str, str]) -> None:
    findings = {finding["name"]: finding for finding in typed(broken, "doctor")}
    assert findings["tflite-micro"]["status"] == "broken"
    assert "ImportError: this yaml is broken" in findings["tflite-micro"]["found"]
    assert findings["tflite-micro"]["action"] == "pip install --force-reinstall 'tinyrobust[mcu]'"
    assert findings["keras"]["status"] == "works"


def test_a_runtime_that_ends_the_process_that_imports_it_is_told(broken: dict[str, str], small_tflite: Path) -> None:
    folder = Path(broken["PYTHONPATH"].split(os.pathsep)[0]).with_name("crashing")
    folder.mkdir()
    (folder / "yaml.py").write_text("import os\nos.abort()\n")
    record = typed({**broken, "PYTHONPATH": f"{folder}{os.pathsep}{broken['PYTHONPATH']}"}, "footprint", small_tflite)
    assert record["tflm_arena"] is None
    assert "its import ends the process (status -6)" in record["arena"]["how"]
