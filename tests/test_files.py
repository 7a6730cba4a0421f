"""Files are complete or absent, also when the disk is full or read-only."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tinyrobust.errors import RunFolderError
from tinyrobust.files import atomic_path, sha256, write_atomic


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_content_is_written_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "text.json"
    write_atomic(path, "naïve ✓")
    assert path.read_bytes() == "naïve ✓".encode()
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert _names(path.parent) == ["text.json"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError("no errno")], ids=repr)
@pytest.mark.parametrize("existing", [True, False], ids=["existing", "new"])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error, existing):
    path = tmp_path / "file.txt"
    if existing:
        path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert _names(tmp_path) == (["file.txt"] if existing else [])
    assert not existing or path.read_text() == "old"


def test_the_temporary_name_has_the_same_suffix_and_folder(tmp_path):
    path = tmp_path / "model.keras"
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("model.keras")
        assert temporary.name.startswith(".partial-")
        assert not path.exists()


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((RunFolderError, FileExistsError)):
        write_atomic(tmp_path / "file" / "inside.txt", "x")


def test_sha256_of_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    assert sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


# Real file systems, mounted in a namespace of the test's own: they refuse root too.

_SCRIPT = """
import os, sys
from pathlib import Path
import numpy as np
from tinyrobust.errors import RunFolderError
from tinyrobust.files import atomic_path, write_atomic

folder = Path(sys.argv[1])
write_atomic(folder / "kept.txt", "old")
os.system(sys.argv[2])

def arrays(path):
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, np.zeros(1_000_000))

for write in (lambda: write_atomic(folder / "kept.txt", bytes(2_000_000)), lambda: arrays(folder / "new.npz")):
    try:
        write()
    except RunFolderError as error:
        print(error)
assert os.listdir(folder) == ["kept.txt"], os.listdir(folder)
assert (folder / "kept.txt").read_text() == "old"
"""


def in_namespace(tmp_path: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a Python script where `tmp_path`/disk is a file system of 256 KiB."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not permit user and mount namespaces (unshare -rm)")
    disk = tmp_path / "disk"
    disk.mkdir()
    shell = 'mount -t tmpfs -o size=256k tmpfs "$1" && exec "$2" -c "$3" "$1" "${@:4}"'
    command = ["unshare", "-rm", "bash", "-c", shell, "bash", str(disk), sys.executable, script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("change", "reason", "hint"),
    [
        pytest.param("true", "the disk is full", "Free some space", id="full"),
        pytest.param("mount -o remount,ro tmpfs {}", "the file system is read-only", "--runs-dir", id="read-only"),
    ],
)
def test_a_disk_that_cannot_be_written(tmp_path, change, reason, hint):
    done = in_namespace(tmp_path, _SCRIPT, change.format(tmp_path / "disk"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for name, line in zip(("kept.txt", "new.npz"), lines, strict=True):
        assert line.startswith(f"Cannot write {tmp_path}/disk/{name}: {reason}.")
        assert hint in line
