"""A whole adaptive evaluation, killed -9 again and again until it is through: the figures of an undisturbed one."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_AT_FIRST = 12.0  # seconds that it is given; half as much again after every time that brought no new piece


@pytest.fixture(scope="module")
def words(digits_net: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command, without its output."""
    path = tmp_path_factory.mktemp("killed") / "digits.npz"
    np.savez(path, x_train=digits_net.x[:20], y_train=digits_net.y[:20], x_test=digits_net.x[:300], y_test=digits_net.y[:300])
    settings = ("--protocol", "adaptive", "--samples", "16", "--epsilon", "0.1", "--data", str(path))
    return [sys.executable, "-m", "tinyrobust.cli.app", "attack", str(digits_net.tflite), *settings]


@pytest.fixture(scope="module")
def undisturbed(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run([*words, "--output", folder], check=True, capture_output=True)
    return folder


def _figures(folder: Path) -> dict[str, Any]:
    """Everything but times."""
    record = json.loads((folder / "robustness.json").read_text())
    for row in (record, *record["attacks"]):
        del row["seconds"]
    return record


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_every_few_seconds(jobs: int, words: list[str], undisturbed: Path, tmp_path: Path) -> None:
    patience, deaths, pieces = _AT_FIRST, 0, 0
    while True:
        process = subprocess.Popen(
            [*words, "--output", tmp_path, "--jobs", str(jobs)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            assert process.wait(timeout=patience) == 0
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            deaths += 1
        before, pieces = pieces, len(list((tmp_path / "attacks").glob("[!.]*.npz")))
        patience *= 1.0 if pieces > before else 1.5
    assert deaths >= 4
    _wait_for_the_workers_to_end()
    assert _figures(tmp_path) == _figures(undisturbed)
    assert (tmp_path / "per_sample.npz").read_bytes() == (undisturbed / "per_sample.npz").read_bytes()


def _wait_for_the_workers_to_end() -> None:
    """Processes that nobody waits for any more have ended too."""
    deadline = time.monotonic() + 30
    while orphans := [path for path in Path("/proc").glob("[0-9]*/stat") if _orphan(path)]:
        assert time.monotonic() < deadline, orphans
        time.sleep(0.5)


def _orphan(stat: Path) -> bool:
    try:
        parent = int(stat.read_text().rpartition(")")[2].split()[1])
        return parent == 1 and b"tinyrobust.execution.worker" in (stat.parent / "cmdline").read_bytes()
    except OSError:  # it has just ended
        return False
