"""What TensorFlow Lite Micro itself says about an arena."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_RECORD = """
import sys
from tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size=1_000_000)
interpreter.invoke()
interpreter.print_allocations()
"""


@pytest.fixture(scope="session")
def recorded_head() -> Callable[[Path], int]:
    """Bytes of the arena's head that TensorFlow Lite Micro's recording allocator reports for a model."""
    pytest.importorskip("tflite_micro", reason="the extra `mcu` is not installed (Linux x86-64 only)")

    def head(path: Path) -> int:
        # In a process of its own: the interpreter can take its process with it.
        result = subprocess.run([sys.executable, "-c", _RECORD, path], capture_output=True, text=True, timeout=60)
        found = re.search(r"allocation head (\d+) bytes", result.stderr)
        assert found, result.stderr
        return int(found.group(1))

    return head
