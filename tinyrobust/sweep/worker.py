"""One run in a process of its own: `python -m tinyrobust.sweep.worker`, started by `tinyrobust.sweep.schedule`.

It tells its progress on stdout, a JSON object a line; everything else that is printed goes to stderr, which the sweep keeps as
a log. It ends when its stdin ends: where the sweep is killed, its workers do not live on.
"""

import sys
from pathlib import Path

from tinyrobust import recipe as recipes
from tinyrobust import workers
from tinyrobust.errors import TinyRobustError


def main(name: str, recipe: str, runs_dir: str, until: str, data_dir: str, cores: str) -> int:
    """Runs the resolved recipe in the file `recipe` on these cores; returns the exit status."""
    teller, _ = workers.begin(cores)
    try:
        from tinyrobust.pipeline.run import run

        resolved = recipes.load(recipe).model_copy(update={"name": name})
        run(resolved, until=until, runs_dir=runs_dir, data_dir=Path(data_dir) if data_dir else None, progress=teller)
    except TinyRobustError as error:
        teller.tell({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
