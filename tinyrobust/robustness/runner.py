"""Runs the attacks of a protocol, batch by batch, each batch kept as a piece, and judges what they find."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.errors import RunFolderError
from tinyrobust.robustness.attack_run import AttackRun
from tinyrobust.robustness.crafting import Crafter, piece_name
from tinyrobust.robustness.distance import Bools, Floats, Ints
from tinyrobust.robustness.file_search import PHASES, FollowUp, follow_up
from tinyrobust.robustness.outcomes import Minimal, Outcome, Tally
from tinyrobust.robustness.pieces import Piece
from tinyrobust.robustness.shards import Shards

# Samples in a piece: what is lost at most when an evaluation is killed. Of large samples fewer, so many values or `_FEWEST`:
# they take longer, and with few pieces the processes that share them wait for the last one.
_MOST, _FEWEST, _VALUES = 128, 32, 32 * 1024


class Runner:
    """Every attack of a protocol, at every epsilon, on one subset.

    Args:
        crafter: Makes the pieces.

    Attributes:
        job: The evaluation.
        targets: The evaluation targets.
        subset: The attacked samples.
        shards: Other processes that make pieces.
        minimal: The smallest distances found so far.
        golden: How often the interpreters agreed.
        seconds: Of all batches, those done before an interruption included.
    """

    def __init__(self, crafter: Crafter) -> None:
        self._crafter = crafter
        self.job, self.targets, self.subset = crafter.job, crafter.targets, crafter.subset
        self.shards: Shards | None = None
        self.minimal = Minimal(self.subset)
        self.golden = Tally()
        self.seconds = 0.0
        self._kept: dict[tuple[str, float], list[str]] = {}
        self._step = (0, 1)

    @property
    def cascade(self) -> bool:
        """Whether an attack gets only what still stands."""
        return self.job.plan.protocol.cascade

    def tell(self, label: str, done: int, total: int) -> None:
        """Reports progress."""
        self.job.execution.progress(label, done, total)

    def outcomes(self, attacks: Sequence[AttackSpec]) -> Iterator[Outcome]:
        """Runs all attacks in order; an outcome for every attack, epsilon and target."""
        # An attack that looks for the nearest example is run once, and its distances are compared with every radius.
        runs = [
            (attack, epsilons)
            for attack in attacks
            for every in [self.job.plan.epsilons_of(attack)]
            for epsilons in ([every] if attack.minimal else [(epsilon,) for epsilon in every])
        ]
        if self.shards and not self.cascade:  # where no attack depends on an earlier one
            for attack, epsilons in runs:
                rows = np.flatnonzero(self._given(attack, epsilons, self._meant(attack), cascade=False))
                self._want(attack, epsilons[-1], self._parts(rows))
        for done, (attack, epsilons) in enumerate(runs):
            self._step = (done, len(runs))
            self.tell(f"attack: {attack.name} at epsilon {epsilons[-1]:.4g}", *self._step)
            yield from self.attacked(attack, epsilons)
        self._step = (len(runs), len(runs))
        self.tell("attack: done", *self._step)

    def attacked(
        self, attack: AttackSpec, epsilons: tuple[float, ...], among: Bools | None = None, *, cascade: bool | None = None
    ) -> list[Outcome]:
        """One run of an attack, and of the search on the file that follows it.

        Args:
            attack: Which.
            epsilons: The radius; several for an attack that looks for the nearest example.
            among: The samples [n] that count; all that the attack is meant for when absent.
            cascade: Whether it gets only what still stands; as the protocol says when absent.
        """
        judged = self.targets.judged_by(attack)
        meant = self._meant(attack) if among is None else among
        cascade = self.cascade if cascade is None else cascade
        standing = {target: self._standing(target, attack.norm, epsilons, cascade) for target in judged}
        given = self._given(attack, epsilons, meant, cascade)
        pieces = list(self._pieces(attack, judged, epsilons[-1], np.flatnonzero(given)))
        for epsilon in epsilons:
            self._kept[attack.name, epsilon] = [piece_name(attack, epsilons[-1], number) for number in range(len(pieces))]
        run = AttackRun(attack, self.targets.view(attack.on), self.subset, meant, given, pieces)
        outcomes = [
            run.outcome(target, epsilon, standing[target][step], costs=step == 0, grid=self.job.plan.grid)
            for step, epsilon in enumerate(epsilons)
            for target in judged
        ]
        for target in judged:
            self.minimal.add(target, run.predicted(target), run.distance)
        follow = follow_up(self.job.plan.protocol.file_search, attack)
        return outcomes if follow is None else outcomes + self._searched(follow, epsilons, meant, len(pieces), cascade)

    def _searched(
        self, follow: FollowUp, epsilons: tuple[float, ...], meant: Bools, count: int, cascade: bool
    ) -> list[Outcome]:
        """What the search that followed an attack found on the file; its pieces were made with those of the attack."""
        names = [piece_name(follow, epsilons[-1], number) for number in range(count)]
        pieces = [self._kept_piece(name) for name in names]
        self._kept |= {(follow.name, epsilon): names for epsilon in epsilons}
        self._count(pieces, ("int8",))
        right = self.subset.right("int8")
        given, phase = np.zeros_like(right), np.full(len(right), -1)
        for piece in pieces:
            given[piece["rows"]], phase[piece["rows"]] = True, piece["phase"]
        standing = self._standing("int8", follow.norm, epsilons, cascade)
        run = AttackRun(follow, self.targets.view("bpda"), self.subset, meant, given & right, pieces)
        outcomes = [
            run.outcome("int8", epsilon, standing[step], costs=step == 0, grid=self.job.plan.grid)
            for step, epsilon in enumerate(epsilons)
        ]
        self.minimal.add("int8", run.predicted("int8"), run.distance)
        # How the file was fooled, among the samples that count as broken.
        return [
            replace(o, found={name: int((phase[o.broken] == place).sum()) for place, name in enumerate(PHASES)})
            for o in outcomes
        ]

    def _kept_piece(self, name: str) -> Piece:
        piece = self._crafter.pieces.get(name)
        if piece is None:
            raise RunFolderError(f"Expected the piece {name!r} of this evaluation. Received: it was deleted meanwhile.")
        return piece

    def _count(self, pieces: Sequence[Piece], judged: Sequence[str]) -> None:
        """Adds what pieces took, and how often the interpreters agreed."""
        for piece in pieces:
            self.seconds += sum(float(piece[f"cost/{target}"][0]) for target in judged)
            self.golden.add(*(int(count) for count in piece["golden"]))

    def examples(self, outcome: Outcome) -> tuple[Ints, Floats]:
        """The samples that an attack broke, as rows of the subset, and the examples that did it, [m, ...]."""
        examples = np.zeros_like(self.subset.x)
        for name in self._kept[outcome.attack, outcome.epsilon]:
            piece = self._kept_piece(name)
            examples[piece["rows"][piece["kept"]]] = piece["adversarial"]
        rows = np.flatnonzero(outcome.broken)
        return rows, examples[rows]

    def _meant(self, attack: AttackSpec) -> Bools:
        return np.arange(len(self.subset.label)) < (attack.samples or len(self.subset.label))

    def _given(self, attack: AttackSpec, epsilons: tuple[float, ...], meant: Bools, cascade: bool) -> Bools:
        """Whether the attack gets samples [n]: those that stand on one of its targets, at the smallest radius."""
        standing = [self._standing(target, attack.norm, epsilons[:1], cascade)[0] for target in self.targets.judged_by(attack)]
        return np.asarray(meant & np.logical_or.reduce(standing))

    def _standing(self, target: str, norm: Norm, epsilons: tuple[float, ...], cascade: bool) -> list[Bools]:
        """Whether samples [n] stand before the attack, at every radius."""
        if not cascade:
            return [self.subset.right(target)] * len(epsilons)
        return [self.minimal.survives(target, norm, epsilon) for epsilon in epsilons]

    def _pieces(self, attack: AttackSpec, judged: Sequence[str], epsilon: float, rows: Ints) -> Iterator[Piece]:
        parts = self._parts(rows)
        self._want(attack, epsilon, parts)
        for number, part in enumerate(parts):
            piece = self._finished(attack, epsilon, number, part)
            if piece is None and self.shards:
                self.tell(f"attack: {attack.name} at epsilon {epsilon:.4g}, piece {number + 1} of {len(parts)}", *self._step)
                self.shards.wait(piece_name(attack, epsilon, number), *self._step)
                piece = self._finished(attack, epsilon, number, part)
            if piece is None:
                piece = self._crafter.make(attack, epsilon, number, part)
            self._count([piece], judged)
            yield piece

    def _finished(self, attack: AttackSpec, epsilon: float, number: int, rows: Ints) -> Piece | None:
        """A finished piece about these rows; the one of the search that follows it must be there too."""
        follow = follow_up(self.job.plan.protocol.file_search, attack)
        if follow and self._crafter.pieces.get(piece_name(follow, epsilon, number)) is None:
            return None
        piece = self._crafter.pieces.get(piece_name(attack, epsilon, number))
        return piece if piece is not None and np.array_equal(piece["rows"], rows) else None

    def _parts(self, rows: Ints) -> list[Ints]:
        """The rows of each piece."""
        most = min(_MOST, max(_FEWEST, _VALUES // math.prod(self.subset.image.shape[1:])))
        count = math.ceil(len(rows) / most)
        # Of an odd number, one of two processes would make the last one while the other waits.
        return np.array_split(rows, count + (count > 1 and count % 2)) if count else []

    def _want(self, attack: AttackSpec, epsilon: float, parts: Sequence[Ints]) -> None:
        """Has other processes make the pieces that are not there yet."""
        if self.shards is None:
            return
        for number, part in enumerate(parts):
            if self._finished(attack, epsilon, number, part) is None:
                task = {"attack": attack.model_dump(mode="json"), "epsilon": epsilon, "number": number, "rows": part.tolist()}
                self.shards.want(piece_name(attack, epsilon, number), task)
