"""An evaluation that is killed -9 and started again gives the figures of an undisturbed one, and never mixes two."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyrobust.errors import RunFolderError
from tinyrobust.pipeline.attack import attack
from tinyrobust.robustness.robustness_record import RobustnessRecord

_PROTOCOL = """
description = "Three kinds of attacks on 150 samples: two pieces each."
[[attack]]
name = "pgd"
kind = "pgd"
steps = 5
random_starts = 1
[[attack]]
name = "cw"
kind = "cw"
steps = 5
searches = 2
[[attack]]
name = "square-int8"
kind = "square"
on = "int8"
iterations = 30
restarts = 1
"""
# Runs the command line; the process kills itself the moment it would keep the fourth piece.
_SCRIPT = """
import os, pathlib, signal, sys
rename, kept = pathlib.Path.replace, []
def replace(self, target):
    if pathlib.Path(target).parent.name == "attacks" and pathlib.Path(target).suffix == ".npz":
        kept.append(target)
        if len(kept) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
pathlib.Path.replace = replace
from tinyrobust.cli.app import main
main()
"""


class Setting:
    """A file, images and a protocol, and how to attack them."""

    def __init__(self, folder: Path, net: Any) -> None:
        self.model, self.data, self.protocol = folder / "digits.tflite", folder / "digits.npz", folder / "three.toml"
        shutil.copy(net.tflite, self.model)
        np.savez(self.data, x_train=net.x[:20], y_train=net.y[:20], x_test=net.x[:300], y_test=net.y[:300])
        self.protocol.write_text(_PROTOCOL)

    def attack(self, output: Path, **changes: Any) -> RobustnessRecord:
        settings = {"model": self.model, "data": str(self.data), "protocol": str(self.protocol), "epsilons": (0.1, 0.2)}
        return attack(output=output, **{"samples": 150, **settings, **changes})

    def killed(self, output: Path) -> int:
        words = ["attack", self.model, "--data", self.data, "--protocol", self.protocol, "--samples", 150, "--output", output]
        words += ["--epsilon", 0.1, "--epsilon", 0.2]
        return subprocess.run([sys.executable, "-c", _SCRIPT, *map(str, words)], capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def setting(digits_net, tmp_path_factory) -> Setting:
    return Setting(tmp_path_factory.mktemp("resume"), digits_net)


@pytest.fixture(scope="module")
def done(setting, tmp_path_factory) -> Path:
    """The folder of an undisturbed evaluation."""
    folder = tmp_path_factory.mktemp("done")
    setting.attack(folder)
    return folder


@pytest.fixture
def copy(done, tmp_path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "copy"))


def _figures(folder: Path) -> dict[str, Any]:
    """Everything but times."""
    record = json.loads((folder / "robustness.json").read_text())
    del record["seconds"]
    for row in record["attacks"]:
        del row["seconds"]
    return record


def _pieces(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "attacks").glob("[!.]*.npz")}


def test_killed_and_started_again(setting, done, tmp_path) -> None:
    assert setting.killed(tmp_path) == -signal.SIGKILL
    before = _pieces(tmp_path)
    assert set(before) == {"pgd-0.1-0.npz", "pgd-0.1-1.npz", "pgd-0.2-0.npz"}
    assert not (tmp_path / "robustness.json").exists()
    setting.attack(tmp_path)
    assert before.items() <= _pieces(tmp_path).items(), "finished pieces were done again"
    assert set(_pieces(tmp_path)) == set(_pieces(done))
    assert not list(tmp_path.rglob(".partial-*"))
    assert _figures(tmp_path) == _figures(done)
    assert (tmp_path / "per_sample.npz").read_bytes() == (done / "per_sample.npz").read_bytes()


def test_two_processes_find_the_same_although_one_is_killed(setting, done, tmp_path) -> None:
    told: list[str] = []

    def watch(label: str, *_: int) -> None:
        if "piece" in label and not any("piece" in one for one in told):
            deadline = time.monotonic() + 60
            while not _workers():  # on a busy machine it is not there yet
                assert time.monotonic() < deadline
                time.sleep(0.01)
            os.kill(_workers()[0], signal.SIGKILL)
        told.append(label)

    setting.attack(tmp_path, jobs=2, progress=watch)
    # Which piece is waited for depends on the load: while the killed one starts again, the other may make all the rest.
    assert any("piece" in label and label.endswith("of 2") for label in told)
    assert any("was ended by SIGKILL" in label and label.endswith("is made again") for label in told)
    assert not _workers()
    assert set(_pieces(tmp_path)) == set(_pieces(done))
    assert _figures(tmp_path) == _figures(done)
    assert (tmp_path / "per_sample.npz").read_bytes() == (done / "per_sample.npz").read_bytes()


def test_two_processes_find_the_same_in_a_cascade(setting, tmp_path) -> None:
    path, one, two = tmp_path / "cascade.toml", tmp_path / "one", tmp_path / "two"
    path.write_text(f"cascade = true\n{_PROTOCOL}")
    setting.attack(one, protocol=str(path), epsilons=(0.1,))
    setting.attack(two, protocol=str(path), epsilons=(0.1,), jobs=2)
    assert _figures(two) == _figures(one)
    assert (two / "per_sample.npz").read_bytes() == (one / "per_sample.npz").read_bytes()


def _workers() -> list[int]:
    """The processes of this one that make pieces."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            for pid in (task / "children").read_text().split():
                with contextlib.suppress(OSError):  # a process that has just ended
                    if b"tinyrobust.execution.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.append(int(pid))
    return found


def test_a_finished_evaluation_is_not_done_again(setting, copy) -> None:
    before, figures = _pieces(copy), _figures(copy)
    setting.attack(copy)
    assert _pieces(copy) == before
    assert _figures(copy) == figures


def _other_data(setting: Setting, folder: Path) -> dict[str, Any]:
    with np.load(setting.data) as arrays:
        changed = dict(arrays)
    changed["x_test"] = changed["x_test"][::-1]
    np.savez(folder / "other.npz", **changed)
    return {"data": str(folder / "other.npz")}


def _other_model(setting: Setting, folder: Path) -> dict[str, Any]:
    (folder / "other.tflite").write_bytes(setting.model.read_bytes() + bytes(16))
    return {"model": folder / "other.tflite"}


def _other_protocol(setting: Setting, folder: Path) -> dict[str, Any]:
    (folder / "three.toml").write_text(setting.protocol.read_text().replace("steps = 5", "steps = 6"))
    return {"protocol": str(folder / "three.toml")}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda *_: {"epsilons": (0.1, 0.15, 0.2)}, "settings"),
        (_other_data, "data, samples"),
        (_other_model, "model"),
        (_other_protocol, "protocol"),
        (lambda *_: {"seed": 8}, "samples, seed"),
    ],
    ids=["epsilons", "data", "model", "protocol", "seed"],
)
def test_pieces_of_another_evaluation_are_refused(change, named, setting, copy, tmp_path) -> None:
    with pytest.raises(RunFolderError, match=f"pieces of another evaluation. Expected the same {named}.") as caught:
        setting.attack(copy, **change(setting, tmp_path))
    assert "--fresh" in str(caught.value.hint)
    assert _figures(copy)["samples"] == 150  # nothing was lost


def test_fresh_starts_anew(setting, copy) -> None:
    record = setting.attack(copy, seed=8, samples=10, fresh=True)
    assert (record.seed, record.samples) == (8, 10)
    assert not any(name.endswith("-1.npz") for name in _pieces(copy)), "pieces of 150 samples are still there"


@pytest.mark.parametrize("damage", [lambda found: found[: len(found) // 2], lambda _: b"", lambda _: b"nonsense"])
def test_a_damaged_piece_says_what_to_do(damage, setting, done, copy) -> None:
    piece = copy / "attacks" / "pgd-0.2-1.npz"
    piece.write_bytes(damage(piece.read_bytes()))
    with pytest.raises(RunFolderError, match=r"Cannot read .*pgd-0.2-1.npz") as caught:
        setting.attack(copy)
    assert caught.value.hint == "Delete this file: only it is done again."
    piece.unlink()
    setting.attack(copy)
    assert _figures(copy) == _figures(done)
