"""The checks that need further runs: attacks that should find nothing more, and attacks that must find everything."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tinyrobust.attacks.estimator import GraphClassifier
from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.deploy.reading import Anomaly
from tinyrobust.robustness import checks, outcome_checks
from tinyrobust.robustness.convergence import Converged, strongest_attack
from tinyrobust.robustness.distance import Bools, within
from tinyrobust.robustness.expectation import differs
from tinyrobust.robustness.outcomes import Minimal, Outcome
from tinyrobust.robustness.robustness_record import Check
from tinyrobust.robustness.runner import Runner
from tinyrobust.robustness.subject import UNRELATED
from tinyrobust.robustness.truth import misleading_gradients

_FEW = 64  # samples that show whether answers are random
_LOOKED_AT = 100  # examples of a row that are looked at again
_TO_NORMAL = 10  # times the steps of an attack that may go anywhere to make an anomaly normal


def all_checks(runner: Runner, attacks: Sequence[AttackSpec], outcomes: Sequence[Outcome], converged: Converged) -> list[Check]:
    """Every check that this evaluation allows.

    Args:
        runner: After all attacks of the protocol.
        attacks: Those attacks.
        outcomes: What they found.
        converged: What they found when they were run on.
    """
    targets = runner.targets
    every = [*outcomes, *converged.outcomes]
    right = {name: runner.subset.right(name) for name in targets.judged}
    # What random targets answer must not depend on what an interrupted evaluation had asked before.
    targets.forget()
    scores = {name: target.predict(runner.subset.x) for name, target in targets.judged.items()}
    white = {o.target for o in outcomes if o.gradients and o.crafted_on not in UNRELATED}
    return [
        checks.black_box_only(white, list(targets.judged)),
        gradients(runner, attacks),
        misleading_gradients(runner, attacks),
        checks.softmax(scores, white & {"int8"}),
        checks.saturated_scores(scores["int8"], runner.subset.label, "int8" in white),
        random_answers(runner),
        *probes(runner, attacks, outcomes, converged),
        outcome_checks.black_box_wins(every),
        outcome_checks.square_is_blind(every, right),
        # In a cascade, rows say what stands after an attack and all before it.
        *([] if runner.cascade else [outcome_checks.rising(outcomes)]),
        second_look(runner, every),
    ]


def probes(runner: Runner, attacks: Sequence[AttackSpec], outcomes: Sequence[Outcome], converged: Converged) -> Iterator[Check]:
    """Runs attacks again that should find nothing more, and such that must find everything.

    Their pieces are kept with the others. What they break counts for the checks, not for the figures.

    Args:
        runner: After all attacks of the protocol.
        attacks: Those attacks.
        outcomes: What they found.
        converged: What they found when they were run on.
    """
    before = runner.minimal
    try:
        runner.minimal = Minimal(runner.subset)
        yield from _longer(runner, attacks, outcomes, converged)
        # What all attacks must break depends on the norm and the attack, not on the radius of a row: one look serves them all.
        wide: dict[str, list[Check]] = {}
        for norm, target in itertools.product(dict.fromkeys(o.norm for o in outcomes), runner.targets.judged):
            own = [o for o in (*outcomes, *converged.outcomes) if (o.target, o.norm) == (target, norm)]
            for found in _wide(runner, attacks, own, norm, target):
                wide.setdefault(found.name, []).append(found)
        yield from (checks.together(found) for found in wide.values())
    finally:
        runner.minimal = before
    runner.tell("checks: done", 1, 1)


def _longer(
    runner: Runner, attacks: Sequence[AttackSpec], outcomes: Sequence[Outcome], converged: Converged
) -> Iterator[Check]:
    """The strongest attack at the headline, on what it left standing on its target; and what the rule of convergence said."""
    norm, headline = runner.job.plan.headline_norm, runner.job.plan.headline_epsilon
    unfinished = [
        f"{row.attack} on {row.target} at {row.norm} epsilon {row.epsilon:.4g}" for row in converged.rows if not row.converged
    ]
    strongest = strongest_attack(attacks, outcomes, norm, headline)
    harder = None
    if strongest is not None:
        attack, target = strongest
        row = converged.row_at(target, norm, headline)
        # Longer than it was run on, and at least five times as long as listed.
        factor = max(5, 2 * row.runs[-1].steps) if row and row.runs else 5
        harder = attack.harder(factor)
    if strongest is None or harder is None:
        if converged.rows:
            yield checks.run_on(len(converged.rows), unfinished)
        return
    runner.tell(f"checks: more steps of {attack.name}", 0, 1)
    white = [o for o in (*outcomes, *converged.outcomes) if (o.target, o.norm) == (target, norm) and o.white]
    # In a cascade, what a smaller radius broke was not tried at the headline.
    broken = _broken([o for o in white if o.epsilon == headline or (runner.cascade and o.epsilon < headline)], runner)
    left = runner.subset.right(target) & _changeable(runner, norm) & ~broken
    # The name is that of its pieces: what was run with another factor is another run.
    name = f"longer{'' if factor == 5 else factor}-{attack.name}"
    extra = _run(runner, harder.model_copy(update={"name": name}), target, headline, left)
    yield checks.more_steps(attack.name, headline, factor, left, extra, unfinished)


def _wide(runner: Runner, attacks: Sequence[AttackSpec], own: Sequence[Outcome], norm: Norm, target: str) -> Iterator[Check]:
    """The strongest attack in a norm on a target, at radii at which nothing can stand; nothing where there is none.

    Args:
        runner: After all attacks of the protocol.
        attacks: Those attacks.
        own: What they found in this norm on this target.
        norm: Of the radii.
        target: Who is attacked.
    """
    wide = _radii(norm, runner.subset.x[0].size)
    epsilons = sorted({o.epsilon for o in own})
    headline = runner.job.plan.headline_epsilon if norm == runner.job.plan.headline_norm else epsilons[-1] if epsilons else 0
    strongest = strongest_attack(attacks, own, norm, headline)
    if wide is None or strongest is None:
        return
    attack, _ = strongest
    standing = runner.subset.right(target) & _changeable(runner, norm)
    # All images become one: what is named for it is right for as many as have that class.
    chance = float(np.bincount(runner.subset.label).max() / len(standing))
    standing &= ~_broken([o for o in own if o.white and o.epsilon <= wide[0]], runner)
    for name, epsilon, limit in (("half-grey", wide[0], chance), ("unconstrained", wide[1], 0.0)):
        runner.tell(f"checks: {attack.name} at {norm} epsilon {epsilon:.4g}", 0, 1)
        # Among all inputs the normal ones are few: steps that begin as wide as the box must shrink often to end there.
        far = attack.longer(_TO_NORMAL) if isinstance(runner.targets.flashed.model_file.reading, Anomaly) else None
        alone = (far or attack).model_copy(update={"name": f"wide-{attack.name}"})
        standing &= ~_run(runner, alone, target, epsilon, standing)
        yield checks.large_epsilon(name, f"{attack.name} on {target}", int(standing.sum()), len(standing), limit, epsilon)


def _radii(norm: Norm, size: int) -> tuple[float, float] | None:
    """The radius at which all samples can be made the same one, and one that is as good as no bound; None in other norms.

    One gray: in L-inf at half of the range, in L2 and L1 at as much in every value. Of sound one silence, at 0 dB.
    """
    wide: dict[Norm, tuple[float, float]] = {
        "linf": (0.5, 1.0),
        "l2": (0.5 * size**0.5, size**0.5),
        "l1": (0.5 * size, float(size)),
        # What is 40 dB louder than a clip drowns it.
        "snr": (1.0, 100.0),
    }
    return wide.get(norm)


def gradients(runner: Runner, attacks: Sequence[AttackSpec]) -> Check:
    """The share of input gradients of the cross-entropy that are exactly zero, on every view that attacks used."""
    x, shares = runner.subset.x, {}
    for name in dict.fromkeys(attack.on for attack in attacks if attack.gradients and attack.on not in UNRELATED):
        view = runner.targets.view(name)
        assert isinstance(view.target, GraphClassifier), f"a file has no gradients: {name}"
        gradient = view.target.loss_gradient(x, runner.subset.label).reshape(len(x), -1)
        shares[view.name] = float(np.mean(~np.any(gradient, axis=1)))
    return checks.zero_gradients(shares)


def random_answers(runner: Runner) -> Check:
    """Whether the same images get the same logits twice in a row, on every target; a file is always deterministic."""
    x, worst = tf.constant(runner.subset.x[:_FEW]), 0.0
    for target in runner.targets.judged.values():
        if isinstance(target, GraphClassifier):  # these answer a question asked again from memory
            worst = max(worst, float(np.mean(differs(target.logits(x), target.logits(x)))))
    return checks.random_predictions(worst, runner.targets.passes)


def second_look(runner: Runner, outcomes: Sequence[Outcome]) -> Check:
    """Asks every target again about examples that are said to fool it: at each radius those of the attack that broke most.

    Of a target that answers at random only the distances are looked at: another draw is another answer.
    """
    x, looked_at, failing, why = runner.subset.x, 0, 0, ""
    most: dict[tuple[str, Norm, float], Outcome] = {}
    for outcome in sorted(outcomes, key=lambda o: int(o.broken.sum())):
        most[outcome.target, outcome.norm, outcome.epsilon] = outcome
    for (target, norm, epsilon), outcome in most.items():
        rows, examples = runner.examples(outcome)
        rows, examples = rows[:_LOOKED_AT], examples[:_LOOKED_AT]
        runner.targets.forget()
        again, _, _ = runner.targets.verdicts(target, examples)
        right = (again == runner.subset.label[rows]) & runner.targets.judged[target].deterministic
        distance = np.abs(examples - x[rows]).max(axis=tuple(range(1, x.ndim)), initial=0)
        away = ~within(distance, outcome.distance["linf"][rows]) | ~within(outcome.distance[norm][rows], epsilon)
        looked_at, failing = looked_at + len(rows), failing + int((right | away).sum())
        if failing and not why:
            why = f"{target} classifies them rightly" if right.any() else "they are not where they were said to be"
    return checks.no_examples(looked_at, failing, why)


def _changeable(runner: Runner, norm: Norm) -> Bools:
    """Whether [n] there is room in a sample's ball: none around digital silence, whose loudness any ratio is one of."""
    if norm != "snr":
        return np.ones(len(runner.subset.label), np.bool_)
    return np.asarray((runner.subset.image != 0).any(axis=1))


def _broken(outcomes: Sequence[Outcome], runner: Runner) -> Bools:
    nothing = np.zeros(len(runner.subset.label), np.bool_)
    return np.asarray(np.logical_or.reduce([nothing, *(o.broken for o in outcomes)]))


def _run(runner: Runner, attack: AttackSpec, target: str, epsilon: float, among: Bools) -> Bools:
    """Whether [n] the attack breaks samples `among` these on the target."""
    if not among.any():
        return among
    alone = attack.model_copy(update={"transfer_to": (), "samples": None})
    return next(o.broken for o in runner.attacked(alone, (epsilon,), among) if o.target == target)
