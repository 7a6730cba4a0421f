"""`tinyrobust doctor`: what works on this machine, and what to install for the rest."""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from tinyrobust._version import __version__
from tinyrobust.cli import console
from tinyrobust.cli.tables import table

Status = Literal["works", "missing", "optional", "broken"]

_REQUIRED = (
    "tensorflow",
    "keras",
    "qkeras-v3",
    "adversarial-robustness-toolbox",
    "ai-edge-litert",
    "tensorflow-datasets",
    "numpy",
)
# Packages of an extra: the module that is imported of them, and the extra.
_OPTIONAL = {
    "tflite-micro": ("tflite_micro", "mcu"),
    "unicorn": ("unicorn", "mcu"),
    "capstone": ("capstone", "mcu"),
    "jax": ("jax", "jax"),
    "sounddevice": ("sounddevice", "microphone"),
    "imagecorruptions-imaug": ("imagecorruptions", "corruptions"),
}
_TOOLS = {
    "arm-none-eabi-gcc": "apt install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "make": "apt install make",
    "qemu-system-arm": "apt install qemu-system-arm",
    "g++": "apt install g++",
    "cc": "apt install gcc libc6-dev",
    "espeak-ng": "apt install espeak-ng",
    "flite": "apt install flite",
}


_SIGNS: dict[Status, str] = {"works": "works", "optional": "-", "missing": "MISSING", "broken": "BROKEN"}


class Finding(NamedTuple):
    """One thing that was looked at; `action` says what to do where it does not work."""

    area: str
    name: str
    status: Status
    found: str
    action: str = ""


def doctor(
    data_dir: console.DataDir = None,
    as_json: console.Json = False,
    debug: console.Debug = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Look at versions, data sets, compiler, emulator and accelerator: what works, and what to install.

    Exits with 1 when something that every run needs is missing.

    **Examples**

        tinyrobust doctor

        tinyrobust doctor --data-dir ~/tensorflow_datasets --json
    """
    findings = [*_packages(), *_data(data_dir), *_tools(), *_accelerator()]
    if as_json:
        console.print_json([finding._asdict() for finding in findings])
    else:
        rows = [(f.name, _SIGNS[f.status], f"{f.found}: {f.action}" if f.action else f.found) for f in findings]
        title = f"tinyrobust {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        console.OUT.print(table(title, "llt", rows))
    if any(finding.status == "missing" for finding in findings):
        raise SystemExit(1)


def _packages() -> Iterator[Finding]:
    for name in _REQUIRED:
        version = _version(name)
        action = "" if version else "pip install tinyrobust"
        yield Finding("package", name, "works" if version else "missing", version or "not installed", action)
    for name, (module, extra) in _OPTIONAL.items():
        version = _version(name)
        if not version:
            yield Finding("package", name, "optional", "not installed", f"pip install 'tinyrobust[{extra}]'")
        elif failure := _import_failure(module):
            action = f"pip install --force-reinstall 'tinyrobust[{extra}]'"
            yield Finding("package", name, "broken", f"{version}, whose import fails ({failure})", action)
        else:
            yield Finding("package", name, "works", version)


def _version(package: str) -> str:
    """The version of an installed package; empty where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _import_failure(module: str) -> str:
    """Why a module cannot be imported, tried in a process of its own; empty when it can."""
    command = [sys.executable, "-c", f"import {module}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603
    if not done.returncode:
        return ""
    return done.stderr.strip().rpartition("\n")[2] or f"it ends the process with status {done.returncode}"


def _data(data_dir: Path | None) -> Iterator[Finding]:
    from tinyrobust.data.cards import cards
    from tinyrobust.data.sources import available

    for name, card in cards().items():
        if available(card, data_dir):
            yield Finding("data set", name, "works", card.title)
        else:
            variable = "TINYROBUST_DATA" if card.loader.kind == "speech" else "TFDS_DATA_DIR"
            yield Finding("data set", name, "optional", "not on this machine", f"--data-dir or {variable}; {card.url}")


def _tools() -> Iterator[Finding]:
    for name, action in _TOOLS.items():
        path = shutil.which(name)
        if path is None:
            yield Finding("tool", name, "optional", "not installed", action)
            continue
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
        numbered = (line for line in answer.stdout.splitlines() if re.search(r"\d\.\d", line))
        yield Finding("tool", name, "works", next(numbered, "").strip())


def _accelerator() -> Iterator[Finding]:
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    with console.quiet_imports():
        if backend == "jax" and importlib.util.find_spec("jax"):
            import jax

            devices = [f"{device.platform} {device.device_kind}" for device in jax.devices() if device.platform != "cpu"]
        else:
            import tensorflow as tf

            devices = [device.name for device in tf.config.list_physical_devices("GPU")]
    names = ", ".join(devices) or f"none; {os.cpu_count()} CPU cores"
    yield Finding("accelerator", f"Keras on {backend}", "works" if devices else "optional", names)
