"""What an attack does to one batch of samples, kept as a piece: the examples, whom they fool, how far they are, their cost."""

import math
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from art.attacks import EvasionAttack

from tinyrobust.attacks.seeds import seeded
from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.attacks.target import Target
from tinyrobust.robustness.bounds import inside
from tinyrobust.robustness.distance import Array, Bools, Floats, Ints, distances, moved, within
from tinyrobust.robustness.file_search import FollowUp, follow_up, search
from tinyrobust.robustness.grid import sampled, snap
from tinyrobust.robustness.identity import identity
from tinyrobust.robustness.job import EvaluationJob
from tinyrobust.robustness.learned import Learned, learn, restored
from tinyrobust.robustness.outcomes import Tally
from tinyrobust.robustness.pieces import Piece, Pieces
from tinyrobust.robustness.subject import EvaluationTargets, View
from tinyrobust.robustness.subset import Subset, inputs

_T = TypeVar("_T")
_OTHERS = 2000  # test samples that a surrogate learns from, besides those that are attacked
_LEARNED = "learned-surrogate"  # the name of its piece: no attack's, which end in a radius and a number


class Cost(NamedTuple):
    """What work on a target took: seconds, and samples by what happened to them (see `Outcome`)."""

    seconds: float
    queries: int
    forward: int
    backward: int


class Crafter:
    """Makes the pieces of an evaluation, in any order; the evaluation itself does, or worker processes.

    A piece depends on nothing but the evaluation, the attack, its radius and its rows.

    Args:
        job: The evaluation.
        targets: Fitted to the attacked samples.
        subset: The attacked samples.

    Attributes:
        job: The evaluation.
        targets: What is attacked.
        subset: The attacked samples.
        pieces: Those in `<output>/attacks`; of sound, in `<output>/attacks-waveform`.

    Raises:
        RunFolderError: The folder holds pieces of another evaluation, or cannot be written.
    """

    def __init__(self, job: EvaluationJob, targets: EvaluationTargets, subset: Subset) -> None:
        self.job, self.targets, self.subset = job, targets, subset
        folder = job.execution.output / f"attacks{job.plan.suffix}"
        self.pieces = Pieces(folder, identity(job, targets, subset), fresh=job.execution.fresh)

    def learn(self) -> Learned | None:
        """Learns what the file answers and adds the view of it, where an attack of the protocol wants one; else None.

        It is kept as a piece: it is learned once, whichever process asks, and again by none that goes on.
        """
        targets, plan = self.targets, self.job.plan
        if not targets.learns or all(attack.on != "learned" for attack in plan.protocol.attacks):
            return None
        piece = self.pieces.get(_LEARNED)
        if piece is None:
            self.job.execution.progress("learning what the file answers", 0, 1)
            samples = self.job.data.samples
            spread = np.linspace(0, len(samples) - 1, min(_OTHERS, len(samples))).astype(np.int64)
            others = inputs(samples[spread])
            learned = learn(targets.flashed, self.subset.x, others, plan.epsilons["linf"], plan.seed)
            self.pieces.put(_LEARNED, learned.arrays())
        else:
            learned = restored(piece, tuple(targets.flashed.input_shape), targets.classes)
        targets.learn(learned.model)
        return learned

    def make(self, attack: AttackSpec, epsilon: float, number: int, rows: Ints) -> Piece:
        """Makes and keeps one piece: what the attack does to these rows of the subset.

        Where a search on the file follows the attack, its piece is kept first, under its own name.
        """
        name = piece_name(attack, epsilon, number)
        x, label = self.subset.x[rows], self.subset.label[rows]
        adversarial, cost = self._examples(attack, epsilon, x, label, draw=zlib.crc32(name.encode()))
        distance = distances(adversarial, x, self.subset.norms)
        if attack.norm == "shift":
            distance["shift"] = moved(adversarial, x, math.ceil(epsilon))
        piece: Piece = {"rows": rows, **{f"distance/{norm}": d for norm, d in distance.items()}}
        fooled = np.zeros(len(rows), dtype=bool)
        golden = Tally()
        for place, target in enumerate(self.targets.judged_by(attack)):
            predicted, judging = _measured(self.targets.judged[target], partial(self._verdicts, target, adversarial, golden))
            piece[f"predicted/{target}"] = predicted
            piece[f"cost/{target}"] = np.asarray(judging) + (np.asarray(cost) if place == 0 else 0)
            fooled |= predicted != label
            if self.job.plan.grid:
                rounded = snap(adversarial, x, None if attack.minimal else epsilon, attack.norm)
                piece[f"grid/{target}"] = self._verdicts(target, rounded, Tally()) != label
        piece["golden"] = np.asarray([golden.checked, golden.differing])
        piece["kept"], piece["adversarial"] = np.flatnonzero(fooled), adversarial[fooled]
        if follow := follow_up(self.job.plan.protocol.file_search, attack):
            tried = self._fooled_the_network(attack, piece, adversarial)
            nearest = _radii(attack, self.job.plan.epsilons_of(attack), epsilon, distance[attack.norm], tried)
            self._follow(follow, piece_name(follow, epsilon, number), rows, adversarial, nearest)
        self.pieces.put(name, piece)
        return piece

    def _examples(self, attack: AttackSpec, epsilon: float, x: Floats, label: Ints, draw: int) -> tuple[Floats, Cost]:
        """Adversarial examples [n, ...] inside of their bounds, and what they cost."""
        view, judged = self.targets.view(attack.on), self.targets.judged_by(attack)
        one_hot = np.eye(self.targets.classes, dtype=np.float32)[label]
        # Counts must not depend on what an interrupted evaluation had asked before.
        self.targets.forget()
        # An attack draws the same numbers whatever else the protocol and the recipe list.
        with seeded(self.job.plan.seed, draw) as seed:
            # A sample that is left alone as soon as it is broken is barely adversarial, and would not transfer.
            drop = view.exact and set(judged) <= {view.home}

            def generated() -> Floats:
                examples: Floats = self._built(attack, view, epsilon, seed=seed, drop=drop).generate(x, one_hot)
                return examples

            examples, cost = _measured(view.target, generated)
        # One that looks for the nearest example goes as far as it must.
        epsilon = math.inf if attack.minimal else epsilon
        return self._placed(examples, x, epsilon, attack.norm, attack.name), cost

    def _fooled_the_network(self, attack: AttackSpec, piece: Piece, adversarial: Floats) -> Bools:
        """Whether examples [n] fool what they were made on: a network that is judged, or the twin of a file."""
        view, label = self.targets.view(attack.on), self.subset.label[piece["rows"]]
        if view.home != "int8":
            return np.asarray(piece[f"predicted/{view.home}"] != label)
        return np.asarray(np.argmax(view.target.predict(adversarial), axis=1) != label)

    def _follow(self, follow: FollowUp, name: str, rows: Ints, examples: Floats, radius: Floats) -> None:
        """Keeps the piece of a search on the file behind an attack, about those rows whose `radius` [n] is not 0."""
        target, bpda = self.targets.flashed, self.targets.view("bpda").target
        chosen = np.flatnonzero(radius)
        found, phase = examples[chosen], np.zeros(len(chosen), np.int64)
        before, backward = target.queries, bpda.backward_passes
        start = time.perf_counter()
        self.targets.forget()
        with seeded(self.job.plan.seed, zlib.crc32(name.encode())) as seed:
            for epsilon in np.unique(radius[chosen]):
                here = np.flatnonzero(radius[chosen] == epsilon)
                x, label = self.subset.x[rows[chosen[here]]], self.subset.label[rows[chosen[here]]]
                found[here], phase[here] = search(follow, target, bpda, x, label, found[here], float(epsilon), seed)
                found[here] = self._placed(found[here], x, float(epsilon), follow.norm, follow.name)
        golden = Tally()
        predicted = self._verdicts("int8", found, golden)
        seconds, queries = time.perf_counter() - start, target.queries - before
        x, fooled = self.subset.x[rows[chosen]], predicted != self.subset.label[rows[chosen]]
        piece: Piece = {
            "rows": rows[chosen],
            "predicted/int8": predicted,
            "phase": phase,
            "cost/int8": np.asarray(Cost(seconds, queries, queries, bpda.backward_passes - backward)),
            "golden": np.asarray([golden.checked, golden.differing]),
            "kept": np.flatnonzero(fooled),
            "adversarial": found[fooled],
            **{f"distance/{norm}": d for norm, d in distances(found, x, self.subset.norms).items()},
        }
        if self.job.plan.grid:
            rounded = snap(found, x, float(radius.max(initial=0)), follow.norm)
            piece["grid/int8"] = self._verdicts("int8", rounded, Tally()) != self.subset.label[rows[chosen]]
        self.pieces.put(name, piece)

    def _placed(self, examples: Floats, x: Floats, epsilon: float, norm: Norm, attack: str) -> Floats:
        """Examples inside of their bounds; what is judged of sound can be played: 16-bit samples."""
        examples = inside(examples, x, epsilon, norm, attack)
        return sampled(examples, x, epsilon, norm) if self.subset.sound else examples

    def _built(self, attack: AttackSpec, view: View, epsilon: float, *, seed: int, drop: bool) -> EvasionAttack:
        """The attack, ready to run: one that learns has learned, once for all batches."""
        if not attack.learns:
            return attack.build(view.target, epsilon, seed=seed, drop=drop)
        training_samples = self.job.data.training_samples
        assert training_samples is not None, "attacks that learn are left out where there is nothing to learn on"
        name = f"{attack.name}-{epsilon:.6g}-delta"
        with seeded(self.job.plan.seed, zlib.crc32(name.encode())) as own:
            learner = attack.build(view.target, epsilon, seed=own, drop=drop)
        piece = self.pieces.get(name)
        if piece is None:
            stored, labels = training_samples
            piece = {"delta": learner.learn(inputs(stored[:]), labels)}
            self.pieces.put(name, piece)
        learner.delta = piece["delta"]
        return learner

    def _verdicts(self, target: str, x: Floats, tally: Tally) -> Ints:
        predicted, checked, differing = self.targets.verdicts(target, x)
        tally.add(checked, differing)
        return predicted


def piece_name(attack: AttackSpec, epsilon: float, number: int) -> str:
    """The name of a piece: attack, radius and batch."""
    return f"{attack.name}-{epsilon:.6g}-{number}"


def _radii(attack: AttackSpec, epsilons: Sequence[float], epsilon: float, distance: Floats, tried: Bools) -> Floats:
    """How far [n] a search may go from each sample: as far as the attack; 0 where it is not tried.

    Behind an attack that looks for the nearest example, as far as the smallest radius that its example is in.
    """
    if not attack.minimal:
        return np.where(tried, epsilon, 0.0)
    fits = np.stack([within(distance, radius) for radius in epsilons])
    radius = np.where(fits.any(axis=0), np.asarray(epsilons)[fits.argmax(axis=0)], 0.0)
    return np.where(tried, radius, 0.0)


def _measured(target: Target, work: Callable[[], _T]) -> tuple[_T, Cost]:
    def counts() -> Array:
        return np.asarray([target.queries, target.forward_passes, target.backward_passes])

    start, before = time.perf_counter(), counts()
    result = work()
    queries, forward, backward = (int(value) for value in counts() - before)
    return result, Cost(time.perf_counter() - start, queries, forward, backward)
