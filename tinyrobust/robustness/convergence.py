"""Attacks that have not converged are run on, not reported: more steps from new starts, until those break next to nothing."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.robustness.distance import Bools
from tinyrobust.robustness.outcomes import Outcome
from tinyrobust.robustness.protocol import Convergence
from tinyrobust.robustness.robustness_record import ConvergenceRow, LongerRun
from tinyrobust.robustness.runner import Runner
from tinyrobust.robustness.subject import UNRELATED

_GROWTH = 2


@dataclass(frozen=True)
class Converged:
    """What running on came to.

    Attributes:
        outcomes: A row for every longer run, on the samples that still stood: they count for the figures.
        rows: What was spent on every target at every epsilon, and whether it was enough.
    """

    outcomes: tuple[Outcome, ...] = ()
    rows: tuple[ConvergenceRow, ...] = ()

    def row_at(self, target: str, norm: Norm, epsilon: float) -> ConvergenceRow | None:
        """What was spent on one target at one epsilon; None where no attack was run on."""
        return next((row for row in self.rows if (row.target, row.norm, row.epsilon) == (target, norm, epsilon)), None)


def run_on(runner: Runner, attacks: Sequence[AttackSpec], outcomes: Sequence[Outcome]) -> Converged:
    """Runs the strongest gradient attack on each target on, at every radius that was attacked, by the protocol's rule.

    Each run has twice the steps of the one before, all restarts from new random points, and the samples that every attack which
    knows the weights left standing on that target: what a black box broke besides is theirs to find too. It ends when a run
    breaks less than the rule's share of all attacked samples.

    Args:
        runner: After all attacks of the protocol.
        attacks: Those attacks.
        outcomes: What they found.
    """
    rule = runner.job.plan.protocol.convergence
    if rule is None:
        return Converged()
    longer: list[Outcome] = []
    rows = []
    radii = sorted({(outcome.norm, outcome.epsilon) for outcome in outcomes if outcome.gradients})
    for (norm, epsilon), target in itertools.product(radii, runner.targets.judged):
        own = [outcome for outcome in outcomes if outcome.target == target]
        strongest = strongest_attack(attacks, own, norm, epsilon)
        if strongest is None:
            continue
        attack, _ = strongest
        near = [o.broken for o in own if o.white and o.norm == norm and o.epsilon <= epsilon]
        standing = runner.subset.right(target) & ~np.logical_or.reduce(near)
        runs = list(_longer_runs(runner, attack, target, epsilon, rule, standing))
        longer += (outcome for outcomes, _ in runs for outcome in outcomes)
        rows.append(
            ConvergenceRow(
                target=target,
                attack=attack.name,
                norm=norm,
                epsilon=epsilon,
                budget=rule.budget,
                runs=[run for _, run in runs],
                converged=has_converged([run for _, run in runs], rule.share * len(runner.subset.label)),
            )
        )
    return Converged(tuple(longer), tuple(rows))


def has_converged(runs: Sequence[LongerRun], enough: float) -> bool:
    """Whether the last run broke fewer than `enough` samples, or left none to be broken; true where none had to be run."""
    return not runs or runs[-1].broken < enough or runs[-1].broken == runs[-1].standing


def strongest_attack(
    attacks: Sequence[AttackSpec], outcomes: Sequence[Outcome], norm: Norm, epsilon: float
) -> tuple[AttackSpec, str] | None:
    """The attack with gradients and steps that broke most at an epsilon, and the target that it knows; the first of equals."""
    own = [a for a in attacks if a.gradients and a.on not in UNRELATED]
    able = {a.name: a for a in own if not a.minimal and a.norm == norm and a.longer(_GROWTH) is not None}
    direct = [o for o in outcomes if o.attack in able and o.direct and o.epsilon == epsilon]
    if not direct:
        return None
    best = max(direct, key=lambda o: int(o.broken.sum()))
    return able[best.attack], best.target


def _longer_runs(
    runner: Runner, attack: AttackSpec, target: str, epsilon: float, rule: Convergence, standing: Bools
) -> Iterator[tuple[list[Outcome], LongerRun]]:
    factor = _GROWTH
    while factor <= rule.budget:
        longer = attack.longer(factor)
        if not standing.any() or longer is None:
            return
        # The name makes the draws: starts that no run before had.
        alone = longer.model_copy(update={"name": f"{attack.name}-x{factor}", "transfer_to": (), "samples": None})
        runner.tell(f"attack: {alone.name} at epsilon {epsilon:.4g}, until it converges", factor, rule.budget)
        ran = runner.attacked(alone, (epsilon,), standing, cascade=False)
        before, fell = int(standing.sum()), np.logical_or.reduce([o.broken for o in ran if o.target == target])
        broken, standing = int((standing & fell).sum()), standing & ~fell
        # Their rows say what stands after them and the attacks before them, of all samples.
        left = {"int8": runner.minimal.survives("int8", attack.norm, epsilon), target: standing}
        yield (
            [replace(o, meant=np.ones_like(standing), robust=left[o.target]) for o in ran],
            LongerRun(steps=factor, standing=before, broken=broken),
        )
        if broken < rule.share * len(runner.subset.label):
            return
        factor *= _GROWTH
