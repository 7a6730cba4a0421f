"""Grids for what residual additions read, so that a sum falls on the level on which the network's falls.

A file rounds a residual branch x to an int8 grid before `clip(x + s, 0, a)` is rounded to multiples of a step A. Where these
are few, a value that the first rounding takes over the border between two of them ends a whole level away. With a shortcut s of
multiples of a step S, borders lie at (j + 1/2) A - k S. A grid of steps A / m with m odd and S = n A / m has a border at each
of them, and the first rounding then changes nothing. Steps that are equal (ReLU6) have m = n = 1 and miss none; those of
learned bounds come close to other fractions, the closer the fewer levels there are.
"""

from collections.abc import Mapping

import keras
import numpy as np

from tinyrobust.deploy.grids import EIGHT_BITS, Grid
from tinyrobust.graphs.topology import readers, writer


def aligned(twin: keras.Model, trained: Mapping[str, Grid], measured: Mapping[str, Grid]) -> dict[str, Grid]:
    """The grids of residual branches whose borders are, as far as may be, those of their sums.

    Only where a sum of two, of which one is an activation on a trained grid, goes into one activation of less than 8 bits.

    Args:
        twin: The twin.
        trained: The grids of the activations.
        measured: The grids that hold the values of all other layers.

    Returns:
        Grids in place of some of `measured`.
    """
    read_by = readers(twin)
    better = {}
    for add in twin.layers:
        after = trained.get(read_by[add.name][0]) if isinstance(add, keras.layers.Add) else None
        if after is None or after.steps == EIGHT_BITS or len(read_by[add.name]) > 1:
            continue
        sources = [writer(tensor).name for tensor in add.input]
        branches = [name for name in sources if name in measured and read_by[name] == [add.name]]
        shortcuts = [trained[name] for name in sources if name in trained]
        if (len(sources), len(branches), len(shortcuts)) == (2, 1, 1):
            grid = _aligned(measured[branches[0]], after, shortcuts[0])
            if grid is not None:
                better[branches[0]] = grid
    return better


def _aligned(grid: Grid, after: Grid, shortcut: Grid) -> Grid | None:
    """The grid over the range of `grid` that moves the fewest values over a border; None where that is `grid` itself."""
    best, step = _moved(grid.scale, after, shortcut), None
    # A branch of next to nothing has a grid so fine that a border more or less changes nothing.
    for m in range(1, int(min(after.scale / grid.scale, EIGHT_BITS)) + 1, 2):
        moved = _moved(after.scale / m, after, shortcut)
        if moved < best:
            best, step = moved, after.scale / m
    return None if step is None else grid.coarser(step)


def _moved(step: float, after: Grid, shortcut: Grid) -> float:
    """How far the borders of sums are from those of a grid, on average: values in between end on another level.

    A shortcut counts the more, the nearer it is to zero: there most activations are.
    """
    of_shortcut = np.arange(shortcut.steps + 1)
    borders = (np.arange(after.steps) + 0.5)[:, None] * after.scale - of_shortcut * shortcut.scale
    places = borders / step - 0.5
    away = step * np.abs(places - np.rint(places)).mean(axis=0)
    return float(np.average(away, weights=of_shortcut[::-1] + 1))
