"""Coverage-guided fuzzing of the door to files: `make fuzz SECONDS=3600`.

Every input is opened as a `.tflite`, planned, and lowered to C. Expected is a valid result or an error that says what is wrong;
anything else, more than five seconds, or more than 2 GiB ends it, and the input stays in `build/fuzz-crashes`, to be mended
and kept in `tests/hostile/corpus`. What reaches new code is kept in the folder that is named first.
"""

import contextlib
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tinyrobust"]):
    from tinyrobust.deploy import artefact, input_units, micro, probing
    from tinyrobust.deploy.cgen.lower import lower
    from tinyrobust.errors import TinyRobustError
    from tinyrobust.footprint import layers, planner

SUFFIX = ".tflite"


def opened(path: Path) -> None:
    """What every door does with a file before anything runs it.

    Raises:
        TinyRobustError: The file is refused.
    """
    file = artefact.read(path)
    plan = planner.schedule(file)
    planner.place(plan.buffers)
    learned = layers.constants(file)
    for operator, own in zip(file.operators, learned, strict=True):
        layers.layer(file, operator, own, 0)
    micro.refused(file)
    micro.beside(file, 0)
    input_units.candidates(input_units.grid_of(file), 3)
    probing.quantized(file, probing.probes(file, 2).raw)
    lower(file)


def main() -> None:
    path = Path(f"/dev/shm/fuzzed{SUFFIX}")  # in memory

    def one(content: bytes) -> None:
        path.write_bytes(content)
        with contextlib.suppress(TinyRobustError):
            opened(path)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
