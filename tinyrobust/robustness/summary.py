"""From outcomes to the rows of the record."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.data.speech.units import samples
from tinyrobust.robustness.clean_checks import WITHHOLDING
from tinyrobust.robustness.convergence import Converged
from tinyrobust.robustness.distance import Array, Bools, Floats, within
from tinyrobust.robustness.outcomes import Minimal, Outcome, Tally, strongest
from tinyrobust.robustness.robustness_record import (
    ALL,
    NOT_ATTACKED,
    AttackResult,
    Check,
    CleanAccuracy,
    DetectionRow,
    Golden,
    MinimalDistance,
    Proportion,
    RobustnessRecord,
    WorstCase,
)
from tinyrobust.robustness.row_checks import with_checks
from tinyrobust.robustness.runner import Runner
from tinyrobust.robustness.statistics import share

_EXAMPLES = 8  # pictures


@dataclass(frozen=True)
class Clean:
    """What the targets say without attack.

    Attributes:
        right: By target, whether it is right on each image of the whole test set.
        scores: Of the file on the whole test set, [n, classes].
        golden: How often the interpreters agreed on the attacked ones.
        confusion: Counts [true class][named class] of the flashed file on the whole test set.
    """

    right: dict[str, Bools]
    scores: Floats
    golden: Tally
    confusion: list[list[int]]


def summary(
    runner: Runner,
    attacks: Sequence[AttackSpec],
    outcomes: Sequence[Outcome],
    converged: Converged,
    clean: Clean,
    checks: list[Check],
    detection: list[DetectionRow],
) -> RobustnessRecord:
    """The record of an evaluation.

    Args:
        runner: After all attacks.
        attacks: Those attacks.
        outcomes: What they found, and what they found when they were run on.
        converged: How far they were run on.
        clean: What the targets say without attack.
        checks: All of them.
        detection: Of an anomaly detector; nothing of other files.
    """
    job, plan, targets = runner.job, runner.job.plan, runner.targets
    epsilons = _measured(runner, attacks)
    worst = with_checks(worst_cases(runner.minimal, epsilons), runner, attacks, outcomes, converged)
    return RobustnessRecord(
        model=job.subject.tflite.name,
        model_sha256=targets.flashed.model_file.sha256,
        dataset=job.data.name,
        dataset_fingerprint=job.data.fingerprint,
        domain=plan.domain,
        protocol=plan.protocol.name,
        cascade=plan.protocol.cascade,
        seed=plan.seed,
        input_range=targets.flashed.input_range,
        units=job.subject.units.words if job.subject.units else "",
        units_from=job.subject.units.source if job.subject.units else "",
        epsilon_unit=job.data.unit,
        per_unit=job.data.per_unit,
        epsilons=epsilons,
        headline_epsilon=plan.headline_epsilon,
        headline_norm=plan.headline_norm,
        samples=len(runner.subset.index),
        clean=[
            CleanAccuracy(target=name, test=share(clean.right[name]), attacked=share(runner.subset.right(name)))
            for name in targets.judged
        ],
        attacks=[result(outcome) for outcome in outcomes],
        worst=worst,
        minimal=minimal_distances(runner.minimal, epsilons),
        headline=_headline(runner, worst, checks),
        golden=_golden(clean.golden, runner.golden),
        confusion=clean.confusion,
        reading=targets.flashed.model_file.reading,
        detection=detection,
        convergence=list(converged.rows),
        checks=checks,
        reliable=not any(check.raised for check in checks),
        notes=targets.notes,
        seconds=runner.seconds,
    )


def _golden(*tallies: Tally) -> Golden:
    return Golden(checked=sum(one.checked for one in tallies), differing=sum(one.differing for one in tallies))


def _headline(runner: Runner, worst: Sequence[WorstCase], checks: Sequence[Check]) -> Proportion | None:
    """The worst case for all targets at the headline's radius; None where nothing was tried there, or a check withholds it."""
    plan = runner.job.plan
    place = (ALL, plan.headline_norm, plan.headline_epsilon)
    row = next((row for row in worst if (row.target, row.norm, row.epsilon) == place), None)
    if row is None or row.not_checked == NOT_ATTACKED:
        runner.targets.notes.append(
            f"No headline: the protocol {plan.protocol.name} has no attack at {plan.headline_norm} epsilon "
            f"{plan.headline_epsilon:.4g}, so what stands there was not attacked."
        )
        return None
    withheld = any(check.raised and check.name in WITHHOLDING for check in checks)
    return None if withheld else row.robust


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
        found=outcome.found,
    )


def worst_cases(minimal: Minimal, epsilons: dict[Norm, list[float]]) -> list[WorstCase]:
    """The per-sample worst case of every target, and of all together, at every epsilon of every norm."""
    return [
        WorstCase(target=name, norm=norm, epsilon=epsilon, robust=share(minimal.survives(name, norm, epsilon)))
        for name in (*minimal.subset.clean, ALL)
        for norm in epsilons
        for epsilon in epsilons[norm]
    ]


def minimal_distances(minimal: Minimal, epsilons: dict[Norm, list[float]]) -> list[MinimalDistance]:
    """How far the nearest examples are, over the samples that are right without attack."""
    rows = []
    for target in minimal.subset.clean:
        right = minimal.subset.right(target)
        if not right.any():
            continue
        for norm in epsilons:
            distance, largest = np.sort(minimal.distance[target, norm][right].astype(np.float64)), epsilons[norm][-1]
            quartile, median = (distance[int(np.ceil(part * len(distance))) - 1] for part in (0.25, 0.5))
            rows.append(
                MinimalDistance(
                    target=target,
                    norm=norm,
                    within=share(within(distance, largest)),
                    quartile=float(quartile) if within(quartile, largest) else None,
                    median=float(median) if within(median, largest) else None,
                )
            )
    return rows


def pictures(runner: Runner, outcomes: Sequence[Outcome]) -> dict[str, Array]:
    """Samples that the strongest attack broke on the file within the headline epsilon; none where there are none."""
    plan, subset = runner.job.plan, runner.subset
    best = strongest(outcomes, plan.headline_epsilon, plan.headline_norm)
    rows, adversarial = runner.examples(best) if best else (np.zeros(0, np.int64), np.zeros((0, *subset.image.shape[1:])))
    rows, adversarial = rows[:_EXAMPLES], adversarial[:_EXAMPLES].astype(np.float32)
    return {
        "example/index": subset.index[rows],
        "example/label": subset.label[rows],
        "example/image": subset.image[rows],
        "example/adversarial": samples(adversarial) if subset.sound else adversarial,
        "example/predicted": best.predicted[rows] if best else rows,
        "example/attack": np.asarray(best.attack if best else ""),
        "example/target": np.asarray("int8"),
        "example/epsilon": np.asarray(best.epsilon if best else plan.headline_epsilon),
    }


def _measured(runner: Runner, attacks: Sequence[AttackSpec]) -> dict[Norm, list[float]]:
    """Radii by norm: those of the attacks in it; the recipe's in L-inf always, where every example has a distance too."""
    plan = runner.job.plan
    measured: dict[Norm, set[float]] = {"linf": set(plan.epsilons["linf"])}
    for norm in plan.epsilons:
        here = {epsilon for attack in attacks if attack.norm == norm for epsilon in plan.epsilons_of(attack)}
        if here:
            measured[norm] = measured.get(norm, set()) | here
    return {norm: sorted(measured[norm]) for norm in measured}
