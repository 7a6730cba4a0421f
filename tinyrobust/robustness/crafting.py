"""What an attack does to one batch of samples, kept as a piece: the examples, whom they fool, how far they are, their cost."""

import math
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from art.attacks import EvasionAttack

from tinyrobust.attacks.seeds import seeded
from tinyrobust.attacks.specs import AttackSpec
from tinyrobust.attacks.target import Target
from tinyrobust.robustness.bounds import inside
from tinyrobust.robustness.distance import Array, Floats, Ints, distances, moved
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
        """Makes and keeps one piece: what the attack does to these rows of the subset."""
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
        examples = inside(examples, x, epsilon, attack.norm, attack.name)
        # What is judged of sound can be played: 16-bit samples.
        return sampled(examples, x, epsilon, attack.norm) if self.subset.sound else examples, cost

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


def _measured(target: Target, work: Callable[[], _T]) -> tuple[_T, Cost]:
    def counts() -> Array:
        return np.asarray([target.queries, target.forward_passes, target.backward_passes])

    start, before = time.perf_counter(), counts()
    result = work()
    queries, forward, backward = (int(value) for value in counts() - before)
    return result, Cost(time.perf_counter() - start, queries, forward, backward)
