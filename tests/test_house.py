"""The rules of the house that tools can check: floors, sizes of files, a command line that starts at once."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main

from tinyrobust.cli.app import app

_LONGEST_FILE = 300
_LONGEST_FUNCTION = 60
# Of 1,000 lines so many may name Any: where a protocol can stand, it does.
_ANY_IN_1000 = 5
# Each takes most of a second or seconds to import.
_HEAVY = (
    "tensorflow",
    "keras",
    "qkeras",
    "art",
    "jax",
    "matplotlib",
    "sklearn",
    "scipy",
    "tensorflow_datasets",
    "librosa",
    "soundfile",
)
_COMMANDS = list(typer.main.get_command(app).commands)


def _python(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_file_imports_only_from_floors_below_its_own(checkout: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_has_a_floor(checkout: Path) -> None:
    settings = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    floors = {name for layer in contract["layers"] for name in layer.split(" | ")}
    rooms = {f"tinyrobust.{path.stem}" for path in (checkout / "tinyrobust").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - floors <= {"tinyrobust.__init__", "tinyrobust.__pycache__", "tinyrobust._version"}


def _sources(checkout: Path) -> dict[str, str]:
    return {
        path.relative_to(checkout).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((checkout / "tinyrobust").rglob("*.py"))
    }


def test_no_file_is_too_long_to_read(checkout: Path) -> None:
    lengths = {name: len(text.splitlines()) for name, text in _sources(checkout).items()}
    assert {name: length for name, length in lengths.items() if length > _LONGEST_FILE} == {}


def test_no_function_is_too_long_to_read(checkout: Path) -> None:
    lengths = {
        f"{name}:{node.name}": node.end_lineno - node.lineno + 1
        for name, text in _sources(checkout).items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    }
    assert {name: length for name, length in lengths.items() if length > _LONGEST_FUNCTION} == {}


def test_types_say_what_they_are(checkout: Path) -> None:
    lines = [line for text in _sources(checkout).values() for line in text.splitlines()]
    named = [line for line in lines if re.search(r"\bAny\b", line) and "import" not in line]
    assert 1000 * len(named) <= _ANY_IN_1000 * len(lines)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in _COMMANDS)], ids=" ".join)
def test_help_waits_for_no_heavy_package(arguments: list[str]) -> None:
    """What makes `--help` answer in under a second; a stopwatch would measure the machine."""
    code = (
        "import json, sys; from tinyrobust.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        f"print(json.dumps([name for name in {_HEAVY!r} if name in sys.modules]))"
    )
    help_text, _, loaded = _python(code, *arguments).rstrip().rpartition("\n")
    assert "Usage" in help_text
    assert json.loads(loaded) == []


def test_every_command_shows_examples() -> None:
    commands = typer.main.get_command(app).commands
    assert [name for name, command in commands.items() if f"tinyrobust {name} " not in f"{command.help} "] == []


def test_importing_the_package_waits_for_no_heavy_package() -> None:
    code = f"import sys, tinyrobust; print([name for name in {_HEAVY!r} if name in sys.modules])"
    assert _python(code).strip() == "[]"
