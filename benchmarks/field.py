"""What becomes of files that people flash: `python benchmarks/field.py FOLDER [--output FILE] [--only PART] [--inputs N]`.

A row for each `.tflite` of a folder: its footprint, the planned arena head beside the one that TensorFlow Lite Micro records,
the generated C on an emulated Cortex-M4 against TensorFlow Lite Micro's outputs, flash and RAM in both runtimes, and whether
the file can be attacked: black box where the interpreter takes it as a classifier, white box where a twin can be rebuilt.
The exit status is 1 when a planned head differs from a recorded one, or an output of the C from the golden.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.interpreter import Int8Model
from tinyrobust.deploy.reading import Anomaly, Label
from tinyrobust.errors import ModelFileError, TinyRobustError
from tinyrobust.footprint.footprint_record import FootprintRecord
from tinyrobust.footprint.measure import footprint

HEADER = ("file", "footprint", "head: planned, recorded", "C: equal, n", "TFLM: flash, RAM", "C: flash, RAM", "attack")
_RECORD = """
import sys
from tflite_micro import runtime
interpreter = runtime.Interpreter.from_file(sys.argv[1], arena_size=2**24)
interpreter.invoke()
interpreter.print_allocations()
"""


@dataclass(frozen=True)
class Row:
    """One file: what is printed, and whether a figure is wrong."""

    cells: tuple[str, ...]
    good: bool = True


def recorded_head(path: Path) -> int | None:
    """Bytes of the arena's head that TensorFlow Lite Micro records; None where it does not run the file."""
    # In a process of its own: the interpreter can take its process with it.
    command = [sys.executable, "-c", _RECORD, str(path)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300, check=False)
    found = re.search(r"allocation head (\d+) bytes", result.stderr)
    return int(found[1]) if found and not result.returncode else None


def row(path: Path, inputs: int) -> Row:
    """All about one file."""
    try:
        record = footprint(path, ["nucleo-l4r5zi"], device=True, inputs=inputs)
    except ModelFileError as error:
        return Row((path.name, f"no: {_short(error, path)}", *[""] * 5))
    head, run = recorded_head(path), record.device.emulation if record.device else None
    said = f"not run: {record.tflm_refused}" if record.tflm_refused else "yes"
    c = f"{run.equal} of {run.n}" if run else f"no: {_short(record.device_missing, path)}"
    cells = (path.name, said, f"{record.arena.value:,}, {'' if head is None else format(head, ',')}", c, *_sizes(record))
    same = head is None or head == record.arena.value
    return Row((*cells, attack(path)), same and (run is None or run.equal in (None, run.n)))


def _sizes(record: FootprintRecord) -> tuple[str, str]:
    ram = record.tflm_ram
    micro = f"{record.tflm_flash.value:,}, {ram.value:,}" if ram and not record.tflm_refused else ""
    return micro, f"{record.device.flash.value:,}, {record.device.ram.value:,}" if record.device else ""


def attack(path: Path) -> str:
    """Whether the file can be attacked: tried without data, up to where inputs would be needed."""
    from tinyrobust.deploy.rebuild import rebuild

    try:  # as many outputs as inputs are no classes
        reading: Anomaly | None = Anomaly(score="reconstruction")
        Int8Model(path, read_as=reading)
        how = "as an anomaly detector: "
    except TinyRobustError:
        reading, how = None, ""
    try:
        several = Int8Model(path, read_as=reading).sigmoids and reading is None
    except TinyRobustError as error:
        return f"no: {_short(error, path)}"
    how = "label by label: " if several else how
    try:
        rebuild(read(path), Label() if several else reading)
    except TinyRobustError as error:
        return f"{how}black box; no white box: {_short(error, path)}"
    return f"{how}white box, black box"


def _short(error: object, path: Path) -> str:
    """A message without the path, up to its hint."""
    text = error.message if isinstance(error, TinyRobustError) else str(error)
    text = " ".join(text.replace(f"{path}: ", "").replace(str(path), "it").split())
    return text if len(text) < 240 else f"{text[:240]} ..."


def rows(paths: Sequence[Path], inputs: int) -> Iterator[Row]:
    for path in paths:
        found = row(path, inputs)
        print(f"{path.name}: {'ok' if found.good else 'WRONG'}", file=sys.stderr, flush=True)
        yield found


def table(found: Sequence[Row]) -> str:
    """In Markdown."""
    lines = [HEADER, ("---",) * len(HEADER), *(one.cells for one in found)]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with .tflite files")
    parser.add_argument("--only", default="", help="files whose names hold this")
    parser.add_argument("--inputs", type=int, default=8, help="how many inputs the C is run on")
    parser.add_argument("--output", type=Path, help="file for the table")
    options = parser.parse_args(arguments)
    paths = sorted(path for path in options.folder.rglob("*.tflite") if options.only in path.name)
    found = list(rows(paths, options.inputs))
    if options.output:
        options.output.write_text(table(found))
    print(table(found))
    return 0 if all(one.good for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
