"""Runs the attacks of a protocol, batch by batch, each batch kept as a piece, and judges what they find."""

import functools
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinyrobust.attacks.seeds import seeded
from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.errors import RunFolderError
from tinyrobust.progress import Progress, silent
from tinyrobust.robustness.bounds import inside
from tinyrobust.robustness.grid import sampled, snap
from tinyrobust.robustness.lineup import Lineup, View
from tinyrobust.robustness.outcomes import Array, Bools, Floats, Ints, Minimal, Outcome, Subset, Tally, distances, moved, within
from tinyrobust.robustness.pieces import Pieces
from tinyrobust.robustness.shards import Shards

# Samples in a piece: what is lost at most when an evaluation is killed. Of large samples fewer, so many values or `_FEWEST`:
# they take longer, and with few pieces the processes that share them wait for the last one.
_MOST, _FEWEST, _VALUES = 128, 32, 32 * 1024
_Cost = tuple[float, int, int, int]


@dataclass
class Runner:
    """Every attack of a protocol, at every epsilon, on one subset.

    Attributes:
        lineup: The targets and views.
        subset: The attacked samples.
        radii: Epsilons by norm.
        seed: Of all attacks.
        pieces: Where batches are kept.
        cascade: Whether an attack gets only what still stands.
        grid: Whether examples are tried rounded to 8 bits too.
        lesson: Samples of another part in [0, 1] and their classes, for attacks that learn.
        tell: Progress.
        shards: Other processes that make pieces.
        minimal: The smallest distances found so far.
        golden: How often the interpreters agreed.
        seconds: Of all batches, those done before an interruption included.
    """

    lineup: Lineup
    subset: Subset
    radii: Mapping[Norm, tuple[float, ...]]
    seed: int
    pieces: Pieces
    cascade: bool = False
    grid: bool = False
    lesson: tuple[Floats, Ints] | None = None
    tell: Progress = silent
    shards: Shards | None = None
    minimal: Minimal = field(init=False)
    golden: Tally = field(default_factory=Tally)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.minimal = Minimal(self.subset)
        self._x = self.subset.x
        self._kept: dict[tuple[str, float], list[str]] = {}
        self._step = (0, 1)

    def epsilons(self, attack: AttackSpec) -> tuple[float, ...]:
        """The radii of an attack: its own, or those of its norm."""
        return attack.epsilons or self.radii[attack.norm]

    def outcomes(self, attacks: Sequence[AttackSpec]) -> Iterator[Outcome]:
        """Runs all attacks in order; an outcome for every attack, epsilon and target."""
        # An attack that looks for the nearest example is run once, and its distances are compared with every radius.
        runs = [
            (attack, near)
            for attack in attacks
            for near in ([self.epsilons(attack)] if attack.minimal else [(epsilon,) for epsilon in self.epsilons(attack)])
        ]
        if self.shards and not self.cascade:  # where no attack depends on an earlier one
            for attack, near in runs:
                rows = np.flatnonzero(self._given(attack, near, self._meant(attack)))
                self._want(attack, near[-1], self._parts(rows))
        for done, (attack, near) in enumerate(runs):
            self._step = (done, len(runs))
            self.tell(f"attack: {attack.name} at epsilon {near[-1]:.4g}", *self._step)
            yield from self.attacked(attack, near)
        self._step = (len(runs), len(runs))
        self.tell("attack: done", *self._step)

    def attacked(self, attack: AttackSpec, epsilons: tuple[float, ...], among: Bools | None = None) -> list[Outcome]:
        """One run of an attack.

        Args:
            attack: Which.
            epsilons: The radius; several for an attack that looks for the nearest example.
            among: The samples [n] that count; all that the attack is meant for when absent.
        """
        view = self.lineup.view(attack.on)
        victims = self.lineup.judged(attack)
        meant = self._meant(attack) if among is None else among
        standing = {name: self._standing(name, attack.norm, epsilons) for name in victims}
        given = self._given(attack, epsilons, meant)
        batches = list(self._batches(attack, victims, epsilons[-1], np.flatnonzero(given)))
        for epsilon in epsilons:
            self._kept[attack.name, epsilon] = [piece_name(attack, epsilons[-1], number) for number in range(len(batches))]
        found = [
            self._outcome(attack, view, name, epsilon, meant, given, standing[name][step], batches, costs=step == 0)
            for step, epsilon in enumerate(epsilons)
            for name in victims
        ]
        for name in victims:
            self.minimal.add(name, _gathered(batches, f"predicted/{name}", len(meant), -1), self._distances(batches))
        return found

    def examples(self, outcome: Outcome) -> tuple[Ints, Floats]:
        """The samples that an attack broke, as rows of the subset, and the examples that did it, [m, ...]."""
        found = np.zeros_like(self._x)
        for name in self._kept[outcome.attack, outcome.epsilon]:
            piece = self.pieces.get(name)
            if piece is None:
                raise RunFolderError(f"Expected the piece {name!r} of this evaluation. Received: it was deleted meanwhile.")
            found[piece["rows"][piece["kept"]]] = piece["adversarial"]
        rows = np.flatnonzero(outcome.broken)
        return rows, found[rows]

    def make(self, attack: AttackSpec, epsilon: float, number: int, rows: Ints) -> dict[str, Array]:
        """Makes and keeps one piece: what the attack does to these rows of the subset."""
        name = piece_name(attack, epsilon, number)
        view, victims = self.lineup.view(attack.on), self.lineup.judged(attack)
        piece = self._crafted(attack, view, victims, epsilon, rows, zlib.crc32(name.encode()))
        self.pieces.put(name, piece)
        return piece

    def _meant(self, attack: AttackSpec) -> Bools:
        return np.arange(len(self._x)) < (attack.samples or len(self._x))

    def _given(self, attack: AttackSpec, epsilons: tuple[float, ...], meant: Bools) -> Bools:
        """Whether the attack gets samples [n]: those that stand on one of its targets, at the smallest radius."""
        standing = [self._standing(name, attack.norm, epsilons[:1])[0] for name in self.lineup.judged(attack)]
        return np.asarray(meant & np.logical_or.reduce(standing))

    def _standing(self, target: str, norm: Norm, epsilons: tuple[float, ...]) -> list[Bools]:
        """Whether samples [n] stand before the attack, at every radius."""
        if not self.cascade:
            return [self.subset.right(target)] * len(epsilons)
        return [self.minimal.survives(target, norm, epsilon) for epsilon in epsilons]

    def _batches(self, attack: AttackSpec, victims: Sequence[str], epsilon: float, rows: Ints) -> Iterator[dict[str, Array]]:
        parts = self._parts(rows)
        self._want(attack, epsilon, parts)
        for number, part in enumerate(parts):
            piece = self._there(attack, epsilon, number, part)
            if piece is None and self.shards:
                self.tell(f"attack: {attack.name} at epsilon {epsilon:.4g}, piece {number + 1} of {len(parts)}", *self._step)
                self.shards.wait(piece_name(attack, epsilon, number), *self._step)
                piece = self._there(attack, epsilon, number, part)
            if piece is None:
                piece = self.make(attack, epsilon, number, part)
            self.seconds += sum(float(piece[f"cost/{victim}"][0]) for victim in victims)
            self.golden.add(*(int(count) for count in piece["golden"]))
            yield piece

    def _there(self, attack: AttackSpec, epsilon: float, number: int, rows: Ints) -> dict[str, Array] | None:
        """A finished piece about these rows."""
        piece = self.pieces.get(piece_name(attack, epsilon, number))
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
            if self._there(attack, epsilon, number, part) is None:
                task = {"attack": attack.model_dump(mode="json"), "epsilon": epsilon, "number": number, "rows": part.tolist()}
                self.shards.want(piece_name(attack, epsilon, number), task)

    def _crafted(
        self, attack: AttackSpec, view: View, victims: Sequence[str], epsilon: float, rows: Ints, draw: int
    ) -> dict[str, Array]:
        """One batch: the examples, whom they fool, how far they are and what they cost."""
        x, label = self._x[rows], self.subset.label[rows]
        one_hot = np.eye(self.lineup.classes, dtype=np.float32)[label]
        # Counts must not depend on what an interrupted evaluation had asked before.
        self.lineup.forget()
        # An attack draws the same numbers whatever else the protocol and the recipe list.
        with seeded(self.seed, draw) as seed:
            # A sample that is left alone as soon as it is broken is barely adversarial, and would not transfer.
            drop = view.exact and set(victims) <= {view.home}
            made, cost = self._measured(
                view.estimator, lambda: self._built(attack, view, epsilon, seed=seed, drop=drop).generate(x, one_hot)
            )
        bound = math.inf if attack.minimal else epsilon
        found = inside(made, x, bound, attack.norm, attack.name)
        if self.subset.sound:
            # What is judged can be played: 16-bit samples.
            found = sampled(found, x, bound, attack.norm)
        far = distances(found, x, self.subset.norms)
        if attack.norm == "shift":
            far["shift"] = moved(found, x, math.ceil(epsilon))
        piece: dict[str, Array] = {"rows": rows, **{f"distance/{norm}": d for norm, d in far.items()}}
        fooled = np.zeros(len(rows), dtype=bool)
        golden = Tally()
        for name in victims:
            predicted, judged = self._measured(self.lineup.victims[name], functools.partial(self._judged, name, found, golden))
            piece[f"predicted/{name}"] = predicted
            piece[f"cost/{name}"] = np.asarray(judged) + (np.asarray(cost) if name == victims[0] else 0)
            fooled |= predicted != label
            if self.grid:
                rounded = snap(found, x, None if attack.minimal else epsilon, attack.norm)
                piece[f"grid/{name}"] = self._judged(name, rounded, Tally()) != label
        piece["golden"] = np.asarray([golden.checked, golden.differing])
        piece["kept"], piece["adversarial"] = np.flatnonzero(fooled), found[fooled]
        return piece

    def _built(self, attack: AttackSpec, view: View, epsilon: float, *, seed: int, drop: bool) -> Any:
        """The attack, ready to run: one that learns has learned, once for all batches."""
        if not attack.learns:
            return attack.build(view.estimator, epsilon, seed=seed, drop=drop)
        assert self.lesson is not None, "attacks that learn are left out where there is nothing to learn on"
        name = f"{attack.name}-{epsilon:.6g}-delta"
        with seeded(self.seed, zlib.crc32(name.encode())) as own:
            made = attack.build(view.estimator, epsilon, seed=own, drop=drop)
        piece = self.pieces.get(name)
        if piece is None:
            piece = {"delta": made.learn(*self.lesson)}
            self.pieces.put(name, piece)
        made.delta = piece["delta"]
        return made

    def _judged(self, name: str, x: Floats, tally: Tally) -> Ints:
        predicted, checked, differing = self.lineup.verdicts(name, x)
        tally.add(checked, differing)
        return predicted

    @staticmethod
    def _measured(estimator: Any, work: Callable[[], Any]) -> tuple[Any, _Cost]:
        def counts() -> Array:
            return np.asarray([estimator.queries, estimator.forward_passes, estimator.backward_passes])

        start, before = time.perf_counter(), counts()
        result = work()
        queries, forward, backward = (int(value) for value in counts() - before)
        return result, (time.perf_counter() - start, queries, forward, backward)

    def _distances(self, batches: Sequence[dict[str, Array]]) -> dict[Norm, Floats]:
        return {norm: _gathered(batches, f"distance/{norm}", len(self._x), np.float32(np.inf)) for norm in self.subset.norms}

    def _outcome(
        self,
        attack: AttackSpec,
        view: View,
        target: str,
        epsilon: float,
        meant: Bools,
        given: Bools,
        standing: Bools,
        batches: Sequence[dict[str, Array]],
        *,
        costs: bool,
    ) -> Outcome:
        predicted = _gathered(batches, f"predicted/{target}", len(meant), -1)
        distance = self._distances(batches)
        near = within(distance[attack.norm], epsilon) & (predicted >= 0)
        broken = self.subset.right(target) & near & (predicted != self.subset.label)
        cost = np.sum([piece[f"cost/{target}"] for piece in batches], axis=0) if costs and batches else np.zeros(4)
        on_grid = _gathered(batches, f"grid/{target}", len(meant), False) & broken if self.grid else None
        return Outcome(
            target=target,
            attack=attack.name,
            crafted_on=attack.on if attack.on != "keras" else view.name,
            home=view.home,
            gradients=attack.gradients,
            norm=attack.norm,
            epsilon=epsilon,
            parameters=attack.parameters(),
            meant=meant,
            given=given,
            predicted=predicted,
            distance=distance,
            broken=broken,
            robust=meant & standing & ~broken,
            on_grid=on_grid,
            seconds=float(cost[0]),
            queries=int(cost[1]),
            forward=int(cost[2]),
            backward=int(cost[3]),
        )


def piece_name(attack: AttackSpec, epsilon: float, number: int) -> str:
    """The name of a piece: attack, radius and batch."""
    return f"{attack.name}-{epsilon:.6g}-{number}"


def _gathered(batches: Sequence[dict[str, Array]], key: str, n: int, absent: Any) -> Array:
    """One array [n] from what the pieces say about their rows; `absent` for rows in none of them."""
    gathered = np.full(n, absent)
    for piece in batches:
        gathered[piece["rows"]] = piece[key]
    return gathered
