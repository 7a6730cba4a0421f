"""From outcomes to the rows of the record."""

import numpy as np

from tinyrobust.robustness.outcomes import Minimal, Outcome, within
from tinyrobust.robustness.record import AttackResult, MinimalDistance, Norm, WorstCase
from tinyrobust.robustness.statistics import share

ALL = "all"  # the name of the worst case over targets


def result(outcome: Outcome) -> AttackResult:
    """One attack at one epsilon on one target."""
    on_grid = outcome.on_grid
    return AttackResult(
        target=outcome.target,
        attack=outcome.attack,
        crafted_on=outcome.crafted_on,
        norm=outcome.norm,
        epsilon=outcome.epsilon,
        parameters=outcome.parameters,
        robust=share(outcome.robust[outcome.meant]),
        given=int(outcome.given.sum()),
        largest_distance=float(outcome.distance[outcome.norm][outcome.broken].max(initial=0)),
        seconds=outcome.seconds,
        queries=outcome.queries,
        forward=outcome.forward,
        backward=outcome.backward,
        on_grid=share(on_grid[outcome.broken]) if on_grid is not None and outcome.broken.any() else None,
    )


def worst_cases(minimal: Minimal, epsilons: dict[Norm, list[float]]) -> list[WorstCase]:
    """The per-sample worst case of every target, and of all together, at every epsilon of every norm."""
    return [
        WorstCase(target=name, norm=norm, epsilon=epsilon, robust=share(minimal.survives(name, norm, epsilon)))
        for name in (*minimal.subset.clean, ALL)
        for norm, radii in epsilons.items()
        for epsilon in radii
    ]


def minimal_distances(minimal: Minimal, epsilons: dict[Norm, list[float]]) -> list[MinimalDistance]:
    """How far the nearest examples are, over the samples that are right without attack."""
    rows = []
    for target in minimal.subset.clean:
        right = minimal.subset.right(target)
        if not right.any():
            continue
        for norm, radii in epsilons.items():
            found = np.sort(minimal.found[target, norm][right].astype(np.float64))
            near = within(found, radii[-1])
            quartile, median = (found[int(np.ceil(part * len(found))) - 1] for part in (0.25, 0.5))
            rows.append(
                MinimalDistance(
                    target=target,
                    norm=norm,
                    within=share(near),
                    quartile=float(quartile) if within(quartile, radii[-1]) else None,
                    median=float(median) if within(median, radii[-1]) else None,
                )
            )
    return rows
