"""Whether gradients tell the truth: what they promise, beside what the margin does at the radius of the attack.

A masked network has slopes that are zero, or steep and going nowhere, or turned around. Attacks that follow them stand still.
No look at a single point tells; a difference at the radius does (Athalye et al. 2018; Tramer et al. 2020, arXiv 2002.08347).
The margin is the highest other logit minus that of the label.
"""

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tinyrobust.attacks import losses
from tinyrobust.attacks.estimator import GraphClassifier
from tinyrobust.attacks.graph import compiled
from tinyrobust.attacks.norms import geometry, project, radii, steepest
from tinyrobust.attacks.scores import margin
from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.attacks.walk import slope
from tinyrobust.robustness.checks import check, tolerance
from tinyrobust.robustness.distance import Bools, Floats, Ints
from tinyrobust.robustness.robustness_record import Check
from tinyrobust.robustness.runner import Runner
from tinyrobust.robustness.subject import UNRELATED

NAME = "misleading-gradients"
_MOST = 128  # samples that are looked at
# Random directions: signs that are the same over patches of so many places, so many of each. Networks hardly see fine noise.
_PATCHES, _OF_EACH = (1, 2, 4), 6
_STEPS = (1.0, 0.5, 0.25)  # shares of the radius along the gradient: farther on a curved margin may fall again
# The slope at a sample is not that at the radius: of undefended networks some patches raise the margin more than it does. By
# more than twice as much hardly any should.
_ELSEWHERE = 2.0
_SHARE = 0.2  # of the samples that stand: masks mislead on nearly all of them, and honest slopes on a few
_PROMISE = 0.05  # of what the slope promises at the radius, the margin rises by at least this share


@dataclass(frozen=True)
class Promise:
    """What a gradient promises, and what came of it; all [n], in logits.

    Attributes:
        promised: By how much the margin would rise along the gradient up to the radius, were the network linear.
        along: By how much it rises there, at the radius, on half or on a quarter of the way.
        elsewhere: The most by which it rises in random directions of the same length.
    """

    promised: Floats
    along: Floats
    elsewhere: Floats

    @property
    def kept(self) -> Bools:
        """Whether [n] the margin rises along the gradient, and nowhere else by more than twice as much.

        A scale that slopes are repaired with says nothing: only a network's own slopes are held to what they promise; see
        `told`.
        """
        return np.asarray((self.along > 0) & (_ELSEWHERE * self.along >= self.elsewhere))

    @property
    def told(self) -> Bools:
        """The same, and that it rises by a share of what is promised: not so where slopes are steep and go nowhere."""
        return np.asarray(self.kept & (self.along >= _PROMISE * self.promised))


class Margins:
    """The margin of one target around some samples.

    Args:
        logits: Of the target, [n, classes] of inputs [n, ...], as they are: a repaired scale would hide how far they move.
        x: Samples [n, ...].
        label: Their classes [n].
        epsilon: The radius.
        norm: Of the radius.
    """

    def __init__(self, logits: Callable[[Floats], Floats], x: Floats, label: Ints, epsilon: float, norm: Norm) -> None:
        self._logits, self._x, self._label = logits, x, label
        self._ball, self._radius = geometry(norm), radii(x, epsilon, norm, 0.5)
        self._here = self._risen(x)
        rises = [self._risen(self._moved(direction)) for direction in _random_directions(x)]
        self._elsewhere = np.max(rises, axis=0) - self._here

    def along(self, view: GraphClassifier) -> Promise:
        """What comes of following the gradient of the margin that `view` has."""

        def gradient(x: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
            return slope(view, losses.margin, x, label, label).gradient

        own = compiled(view, "truth", gradient)(tf.constant(self._x), tf.constant(self._label))
        view.count(len(self._x), len(self._x))
        direction = steepest(own, self._ball).numpy()
        ends = [self._moved(direction, share) for share in _STEPS]
        promised = np.sum((own.numpy() * (ends[0] - self._x)).reshape(len(self._x), -1).astype(np.float64), axis=1)
        rises = np.max([self._risen(end) for end in ends], axis=0) - self._here
        return Promise(np.asarray(promised, np.float32), rises, self._elsewhere)

    def _moved(self, direction: Floats, share: float = 1.0) -> Floats:
        """Samples, moved in directions [n, ...] of norm 1 by a share of the radius, in ball and box."""
        radius = (share * self._radius).astype(np.float32)
        step = radius.reshape(-1, *[1] * (self._x.ndim - 1)) * direction
        moved: Floats = project(
            tf.constant(self._x + step), tf.constant(self._x), tf.constant(radius), self._ball, (0.0, 1.0)
        ).numpy()
        return moved

    def _risen(self, x: Floats) -> Floats:
        return -margin(self._logits(x), self._label)


def misleading_gradients(runner: Runner, attacks: Sequence[AttackSpec]) -> Check:
    """Raised when many samples stand at the headline's radius whose gradients mislead in every view that attacks used.

    Args:
        runner: After all attacks of the protocol.
        attacks: Those attacks. Views of another network than the file's are left out: what a surrogate finds is no proof.
    """
    plan, targets = runner.job.plan, runner.targets
    used = dict.fromkeys(attack.on for attack in attacks if attack.gradients and attack.on not in UNRELATED)
    views = [targets.view(name) for name in used]
    standing = np.flatnonzero(runner.minimal.survives("all", plan.headline_norm, plan.headline_epsilon))
    looked_at = standing[:_MOST]
    if not views or not len(looked_at):
        return check(NAME, False, "No sample stands that attacks with gradients were made on.", samples=0)
    runner.tell("checks: what gradients promise", 0, len(views))
    x, label = runner.subset.x[looked_at], runner.subset.label[looked_at]
    around: dict[str, Margins] = {}
    shares: dict[str, float] = {}
    misled = np.ones(len(looked_at), np.bool_)
    for view in views:
        judge = "file" if view.name == "bpda" else "network"
        if judge not in around:
            logits = targets.flashed.logits if judge == "file" else targets.view("keras").target.predict
            around[judge] = Margins(logits, x, label, plan.headline_epsilon, plan.headline_norm)
        assert isinstance(view.target, GraphClassifier), f"a file has no gradients: {view.name}"
        promise = around[judge].along(view.target)
        truthful = promise.told if view.target is targets.view("keras").target else promise.kept
        shares[view.name] = float(np.mean(~truthful))
        misled &= ~truthful
    return _found(shares, float(misled.mean()), len(standing), len(runner.subset.label), plan.headline_epsilon)


def _found(shares: dict[str, float], everywhere: float, standing: int, n: int, epsilon: float) -> Check:
    """The check, from the share of misled samples in each view, and in all of them at once."""
    count = round(everywhere * standing)
    listing = ", ".join(f"{share:.0%} on {view}" for view, share in shares.items())
    observed = f"of {standing} samples that stand at epsilon {epsilon:.4g}, the gradients mislead on {listing}"
    if count > 2 * tolerance(n) and everywhere > _SHARE:
        explanation = (
            f"Gradient masking: {observed}, and on all of these views at once for {count}: along them the margin does "
        )
        explanation += (
            "not rise as they promise, or random directions raise it twice as much. Attacks that follow them prove nothing."
        )
        return check(NAME, True, explanation, samples=count, **shares)
    return check(NAME, False, f"{observed[0].upper()}{observed[1:]}; on all at once for {count}.", samples=count, **shares)


def _random_directions(x: Floats) -> Iterator[Floats]:
    """Signs [n, ...], a function of the sample alone; over patches of each size the same."""
    generators = [np.random.default_rng(zlib.crc32(row.tobytes())) for row in x]
    for size in _PATCHES:
        for _ in range(_OF_EACH):
            yield np.stack([_patched(x.shape[1:], size, generator) for generator in generators])


def _patched(shape: tuple[int, ...], size: int, generator: np.random.Generator) -> Floats:
    places, rest = shape[:2] if len(shape) > 1 else shape, shape[2:]
    signs = generator.choice(np.array([-1, 1], np.float32), (*(math.ceil(side / size) for side in places), *rest))
    for axis, side in enumerate(places):
        signs = np.repeat(signs, size, axis=axis).take(np.arange(side), axis=axis)
    return signs
