"""A run that is killed -9 in every stage and started again gives the figures of an undisturbed one."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# Runs the command line; the process kills itself the moment it would rename a finished file to the given name.
_SCRIPT = """
import os, pathlib, signal, sys
doomed, sys.argv = sys.argv[1], ["tinyrobust", *sys.argv[2:]]
rename = pathlib.Path.replace
def replace(self, target):
    if pathlib.Path(target).name == doomed:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
pathlib.Path.replace = replace
from tinyrobust.cli.app import main
main()
"""
_DEATHS = (
    "teacher-0002.npz",
    "train-0002.npz",
    "model.keras",
    "parity.json",
    "footprint.json",
    "robustness.json",
    "amplification.json",
    "README.md",
)


def _figures(folder: Path) -> dict[str, Any]:
    """Everything that a run found out, without times."""
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    for row in history:
        del row["seconds"]
    robustness = json.loads((folder / "robustness.json").read_text())
    del robustness["seconds"]
    for attack in robustness["attacks"]:
        del attack["seconds"]
    return {
        "history": history,
        "tflite": (folder / "model.tflite").read_bytes(),
        "per_sample": (folder / "per_sample.npz").read_bytes(),
        "parity": json.loads((folder / "parity.json").read_text()),
        "footprint": json.loads((folder / "footprint.json").read_text()),
        "robustness": robustness,
        "amplification": json.loads((folder / "amplification.json").read_text()),
    }


def test_killed_in_every_stage(tiny_recipe: Path, tiny_run: Any, tmp_path: Path) -> None:
    command = ["run", str(tiny_recipe), "--runs-dir", str(tmp_path)]
    for doomed in _DEATHS:
        done = subprocess.run([sys.executable, "-c", _SCRIPT, doomed, *command], capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, f"{doomed}: {done.stderr}"
    subprocess.run([sys.executable, "-m", "tinyrobust.cli.app", *command], check=True, capture_output=True)
    (resumed,) = tmp_path.iterdir()
    assert _figures(resumed) == _figures(tiny_run.path)
    assert not list(resumed.rglob(".partial-*"))
