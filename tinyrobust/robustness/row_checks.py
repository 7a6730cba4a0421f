"""Which published rows were checked at their own radius: a row that was not says so.

Checks that do not depend on a radius (clean answers, gradients, scores, what must fall at wide radii) are about all rows, and
those that compare attacks look at all rows that have what they compare. What is left for each row is whether its attack had
converged there.
"""

from collections.abc import Sequence

from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.robustness.convergence import Converged, strongest_attack
from tinyrobust.robustness.outcomes import Outcome
from tinyrobust.robustness.robustness_record import ALL, NOT_ATTACKED, WorstCase
from tinyrobust.robustness.runner import Runner


def with_checks(
    rows: Sequence[WorstCase],
    runner: Runner,
    attacks: Sequence[AttackSpec],
    outcomes: Sequence[Outcome],
    converged: Converged,
) -> list[WorstCase]:
    """The rows, each with the reason why it was not checked at its own radius; an empty one where it was.

    A row of 0 % needs no check: nothing can be lower. That of all targets together is at most the row of each, so one of these
    that was checked is enough.

    Args:
        rows: Worst cases of all targets, and of all together.
        runner: After all attacks and checks.
        attacks: Those of the protocol.
        outcomes: What they found.
        converged: What they found when they were run on.
    """
    plan = runner.job.plan
    probed = strongest_attack(attacks, outcomes, plan.headline_norm, plan.headline_epsilon)

    def reason(target: str, norm: Norm, epsilon: float) -> str:
        here = [o for o in outcomes if (o.target, o.norm, o.epsilon) == (target, norm, epsilon)]
        if not here:
            return NOT_ATTACKED
        headline = (norm, epsilon) == (plan.headline_norm, plan.headline_epsilon)
        longer = probed is not None and headline and target == probed[1] and probed[0].harder() is not None
        if longer or converged.row_at(target, norm, epsilon) is not None:
            return ""
        if strongest_attack(attacks, here, norm, epsilon) is None:
            return "no attack of steps along its own gradients, which could be run on"
        return "the protocol has no rule of convergence"

    def of_row(row: WorstCase) -> str:
        targets = list(runner.targets.judged) if row.target == ALL else [row.target]
        reasons = [reason(target, row.norm, row.epsilon) for target in targets]
        if all(one == NOT_ATTACKED for one in reasons):
            return NOT_ATTACKED
        if row.robust.count == 0 or "" in reasons:
            return ""
        return next(one for one in reasons if one != NOT_ATTACKED)

    return [row.model_copy(update={"not_checked": of_row(row)}) for row in rows]
