"""Whether two folders of results hold the same figures: for a change that should not have changed any.

    python benchmarks/figures.py BEFORE AFTER

Every file of BEFORE is looked for in AFTER, in the run folder of the same recipe whatever its hash. Artefacts and generated C
must be equal byte for byte, records (JSON) in every value but those that time and machine decide (real numbers to twelve
digits), arrays (.npz) in every element.
Keys that only AFTER has are listed, not counted. Exit status 1: something differs.
"""

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# What a repetition of the same evaluation changes.
_VOLATILE = {"seconds", "finished", "began", "versions", "version", "platform", "schema", "recipe_hash", "key"}
_BYTES = {".tflite", ".c", ".h", ".cc"}
Leaves = dict[str, object]


def run_of(path: Path) -> str:
    """A path without the hashes of run folders."""
    return re.sub(r"-[0-9a-f]{8}(?=/)", "", path.as_posix())


def leaves(value: object, place: str = "") -> Iterator[tuple[str, object]]:
    """The values of a JSON document by their place; rows of attacks go by name, epsilon and target, not by number."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _VOLATILE:
                yield from leaves(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            named = isinstance(inner, dict) and {"target", "epsilon"} <= inner.keys()
            name = (
                f"{inner.get('attack', '')} {inner['target']} {inner.get('norm', '')} {inner['epsilon']:.6g}"
                if named
                else number
            )
            yield from leaves(inner, f"{place}[{name}]")
    else:
        yield place, value


def different(before: Leaves, after: Leaves) -> Iterator[str]:
    """What is said of values that are gone or changed."""
    for place, value in before.items():
        if place not in after:
            yield f"{place}: {value!r} is gone"
        elif not same(value, after[place]):
            yield f"{place}: {value!r} is {after[place]!r} now"


def same(one: object, other: object) -> bool:
    """Whether two values are equal, real numbers to twelve digits: a library may compute an interval in another order."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return one == other


def arrays(path: Path) -> Leaves:
    """The arrays of a .npz as bytes."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: (stored[name].shape, stored[name].tobytes()) for name in stored.files}


def compared(before: Path, after: Path) -> tuple[list[str], list[str]]:
    """What differs between two files, and what only the second has."""
    if before.suffix in _BYTES:
        return (["other bytes"] if before.read_bytes() != after.read_bytes() else []), []
    if before.suffix == ".npz":
        old, new = arrays(before), arrays(after)
        return [place.partition(":")[0] for place in different(old, new)], sorted(new.keys() - old.keys())
    old, new = (dict(leaves(json.loads(path.read_text(encoding="utf-8")))) for path in (before, after))
    return list(different(old, new)), sorted(new.keys() - old.keys())


def main(first: str, second: str) -> int:
    """Compares; returns the exit status."""
    kinds = _BYTES | {".json", ".npz"}
    skipped = ("attacks", "checkpoints", "attacks-waveform")
    found = [
        {
            run_of(path.relative_to(root)): path
            for path in sorted(root.rglob("*"))
            if path.suffix in kinds and not {*path.parts} & {*skipped}
        }
        for root in (Path(first), Path(second))
    ]
    same, failed = 0, 0
    for name, path in found[0].items():
        if path.name in ("run.json", "evaluation.json"):
            continue
        other = found[1].get(name)
        problems, added = (["is not there"], []) if other is None else compared(path, other)
        same, failed = same + (not problems), failed + bool(problems)
        for problem in problems:
            print(f"{name}: {problem}")
        if added:
            print(f"{name}: new: {', '.join(added[:6])}{' ...' if len(added) > 6 else ''}")
    print(f"{same} files hold the same figures, {failed} do not.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
