"""Files that are either complete or absent: write to a temporary name, fsync, rename."""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tinyrobust.errors import RunFolderError

_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space and run the same command again: finished stages are kept."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space and run the same command again."),
    errno.EROFS: ("the file system is read-only", "Choose another folder with --runs-dir or --output."),
    errno.EACCES: ("permission was denied", "Choose another folder with --runs-dir or --output."),
    errno.EPERM: ("permission was denied", "Choose another folder with --runs-dir or --output."),
    errno.ENOTDIR: ("a part of the path is a file", "Choose another folder with --runs-dir or --output."),
}


@contextlib.contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's refusals to write `path` into a `RunFolderError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        reason, hint = _REASONS[error.errno]
        raise RunFolderError(f"Cannot write {path}: {reason}.", hint=hint) from error


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renamed to it when the block ends well, removed when it does not.

    The temporary name ends like `path` does, so that writers which look at the suffix work.
    """
    with clear_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".partial-", suffix=path.name, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes `content` (text as UTF-8) to `path`, whole or not at all.

    Raises:
        RunFolderError: The disk is full, the folder is read-only or not allowed.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
