"""One run of an attack, gathered from its pieces: what it did to every sample, and what that means at an epsilon."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinyrobust.attacks.specs import AttackSpec, Norm
from tinyrobust.robustness.distance import Array, Bools, Floats, Ints, within
from tinyrobust.robustness.outcomes import Outcome
from tinyrobust.robustness.pieces import Piece
from tinyrobust.robustness.subject import View
from tinyrobust.robustness.subset import Subset


@dataclass(frozen=True, eq=False)
class AttackRun:
    """One run of an attack.

    Attributes:
        attack: Which.
        view: What the examples were made on.
        subset: The attacked samples.
        meant: Samples [n] that count for this attack.
        given: Samples [n] that it was run on.
        pieces: Everything that it did.
    """

    attack: AttackSpec
    view: View
    subset: Subset
    meant: Bools
    given: Bools
    pieces: Sequence[Piece]

    def predicted(self, target: str) -> Ints:
        """The class [n] that `target` names for each example; -1 where there is none."""
        return self._gathered(f"predicted/{target}", -1)

    @cached_property
    def distance(self) -> dict[Norm, Floats]:
        """Per norm, distances [n] of the examples; inf where there is none."""
        return {norm: self._gathered(f"distance/{norm}", np.float32(np.inf)) for norm in self.subset.norms}

    def outcome(self, target: str, epsilon: float, standing: Bools, *, costs: bool, grid: bool) -> Outcome:
        """What the run means at one epsilon for one target.

        Args:
            target: Whose verdicts count.
            epsilon: The radius.
            standing: Whether samples [n] stood before.
            costs: Whether the outcome bears the cost of the run.
            grid: Whether examples were tried rounded to the sensor's 8 bits too.
        """
        attack, view, predicted = self.attack, self.view, self.predicted(target)
        in_ball = within(self.distance[attack.norm], epsilon) & (predicted >= 0)
        broken = self.subset.right(target) & in_ball & (predicted != self.subset.label)
        cost = np.sum([piece[f"cost/{target}"] for piece in self.pieces], axis=0) if costs and self.pieces else np.zeros(4)
        return Outcome(
            target=target,
            attack=attack.name,
            crafted_on=attack.on if attack.on != "keras" else view.name,
            home=view.home,
            gradients=attack.gradients,
            norm=attack.norm,
            epsilon=epsilon,
            parameters=attack.parameters(),
            meant=self.meant,
            given=self.given,
            predicted=predicted,
            distance=self.distance,
            broken=broken,
            robust=self.meant & standing & ~broken,
            on_grid=self._gathered(f"grid/{target}", False) & broken if grid else None,
            seconds=float(cost[0]),
            queries=int(cost[1]),
            forward=int(cost[2]),
            backward=int(cost[3]),
        )

    def _gathered(self, key: str, absent: float | np.float32) -> Array:
        """One array [n] from what the pieces say about their rows; `absent` for rows in none of them."""
        gathered = np.full(len(self.subset.label), absent)
        for piece in self.pieces:
            gathered[piece["rows"]] = piece[key]
        return gathered
