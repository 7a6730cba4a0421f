"""What an anomaly detector finds, without attack and under attack: detected anomalies, false alarms, area under the ROC curve.

The detector is a classifier of two classes, normal and anomaly: what makes it wrong hides an anomaly or raises a false alarm.
That is decided at the threshold. The area looks at scores, which attacks that stop at the threshold leave there; so one more
attack moves each score as far as it can. What it breaks counts in the worst case as what any attack breaks.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from tinyrobust.attacks.seeds import seeded
from tinyrobust.attacks.specs import Apgd, AttackSpec, Square
from tinyrobust.deploy.reading import Anomaly
from tinyrobust.robustness.bounds import inside
from tinyrobust.robustness.distance import Bools, Floats, Ints, distances
from tinyrobust.robustness.outcomes import Outcome
from tinyrobust.robustness.robustness_record import Area, DetectionRow, Proportion
from tinyrobust.robustness.runner import Runner
from tinyrobust.robustness.statistics import share

_NORMAL, _ANOMALY = 0, 1
_Z = 1.959963984540054  # of 95 %
_EDGE = 1e-9
_FACTORS = (1, 2, 4, 8)  # times the steps of the attack that moves scores
_SETTLED = 0.01
_NOTE = "One more L-inf attack than the protocol's moves every score as far as it can; what it breaks is in the worst case too."


def detection(runner: Runner, outcomes: Sequence[Outcome], clean: Floats) -> list[DetectionRow]:
    """The rows of the record: 0 and every L-inf epsilon; none for a file that is no anomaly detector.

    What the attack on the area breaks is added to `runner.minimal`.

    Args:
        runner: After all attacks.
        outcomes: What they found.
        clean: The file's scores of the whole test set, [n, classes].
    """
    if not isinstance(runner.targets.flashed.model_file.reading, Anomaly):
        return []
    runner.targets.notes.append(_NOTE)
    epsilons, above = sorted(runner.job.plan.epsilons["linf"]), clean[:, _ANOMALY]
    rows = [_row(0.0, runner.job.data.labels, above > 0, above)]
    worst = above[runner.subset.index]
    for done, epsilon in enumerate(epsilons):
        runner.tell(f"area under the ROC curve at epsilon {epsilon:.4g}", done, len(epsilons))
        worst = _worst(runner, outcomes, epsilon, worst)
        right = runner.minimal.survives("all", "linf", epsilon)
        rows.append(_row(epsilon, runner.subset.label, right == (runner.subset.label == _ANOMALY), worst))
    return rows


def area(scores: Floats, labels: Ints) -> Area | None:
    """Area under the ROC curve of scores [n], larger for anomalies (labels [n], 1); None where one kind is absent."""
    from scipy.stats import rankdata  # takes a second

    m, n = int((labels == _ANOMALY).sum()), int((labels == _NORMAL).sum())
    if not m or not n:
        return None
    ranks = float(rankdata(scores)[labels == _ANOMALY].sum())
    value = (ranks - m * (m + 1) / 2) / (m * n)
    low, high = _interval(value, m, n)
    return Area(value=value, low=low, high=high, normals=n, anomalies=m)


def _interval(value: float, m: int, n: int) -> tuple[float, float]:
    """The areas from which one found in m anomalies and n normal inputs is 1.96 standard errors away; also of 0 and 1."""
    from scipy.optimize import brentq

    def away(area: float) -> float:
        half = (m + n) / 2 - 1
        variance = area * (1 - area) * (1 + half * (1 - area) / (2 - area) + half * area / (1 + area)) / (m * n)
        return float((value - area) ** 2 - _Z**2 * variance)

    low = brentq(away, 0.0, value - _EDGE) if value > _EDGE else 0.0
    high = brentq(away, value + _EDGE, 1.0) if value < 1 - _EDGE else 1.0
    return float(low), float(high)


def _row(epsilon: float, labels: Ints, alarm: Bools, scores: Floats) -> DetectionRow:
    def shared(kind: int) -> Proportion | None:
        return share(alarm[labels == kind]) if (labels == kind).any() else None

    return DetectionRow(epsilon=epsilon, detected=shared(_ANOMALY), false_alarms=shared(_NORMAL), area=area(scores, labels))


def _worst(runner: Runner, outcomes: Sequence[Outcome], epsilon: float, scores: Floats) -> Floats:
    """The worst score [n] of each attacked sample: of what is known, of every attack's examples, and of one more attack's.

    That one is run with twice the steps until the area falls by less than a hundredth.
    """
    subset, file = runner.subset, runner.targets.flashed
    worst, hidden = scores.copy(), subset.label == _ANOMALY

    def add(rows: Ints, examples: Floats) -> None:
        new = file.predict(examples)[:, 1]
        worst[rows] = np.where(hidden[rows], np.minimum(worst[rows], new), np.maximum(worst[rows], new))

    for outcome in outcomes:
        if outcome.target == "int8" and outcome.norm == "linf" and outcome.epsilon <= epsilon and outcome.broken.any():
            add(*runner.examples(outcome))
    found = area(worst, subset.label)
    for factor in _FACTORS:
        far = _moved_far(runner, epsilon, factor)
        add(np.arange(len(subset.label)), far)
        named, checked, differing = runner.targets.verdicts("int8", far)
        runner.golden.add(checked, differing)
        runner.minimal.add("int8", named, distances(far, subset.x, subset.norms))
        before, found = found, area(worst, subset.label)
        if before is None or found is None or (factor > 1 and before.value - found.value < _SETTLED):
            break
    else:
        runner.targets.notes.append(
            f"The area at epsilon {epsilon:.4g} was still falling with {_FACTORS[-1]} times the steps: it is at most that."
        )
    return worst


def _moved_far(runner: Runner, epsilon: float, factor: int) -> Floats:
    """Examples [n, ...] whose scores are as far as they go: by the twin's gradients, of a black box by random squares."""
    attack: AttackSpec = Square.of(name="far", on="int8", iterations=1000 * factor)
    if runner.targets.white:
        attack = Apgd.of(name="far", loss="margin", steps=100 * factor, restarts=2)
    subset, view = runner.subset, runner.targets.view(attack.on)
    runner.targets.forget()
    with seeded(runner.job.plan.seed, zlib.crc32(f"far-{epsilon:.6g}-{factor}".encode())) as seed:
        examples = attack.build(view.target, epsilon, seed=seed, drop=False).generate(subset.x, np.eye(2)[subset.label])
    return inside(examples, subset.x, epsilon, attack.norm, attack.name)
