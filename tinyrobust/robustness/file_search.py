"""Attacks end on the file: an example that fools the network is brought to the file, and a short search goes on from there.

A network and its file are next to each other, not the same: the file rounds. An attack on the network stops right behind the
network's boundary, which may be right before the file's. So every example of an attack on gradients that fools the network is
tried on the file; where the file still stands, the search goes on from the example, in this order, until the file is fooled:

1. `rounding`, in L-inf: changes by whole steps of 1/255, the nearest ones inside of the ball, then the next ones away from the
   original. Of sound, which is rounded to 16 bits anyway, nothing.
2. `steps`: walks of projected gradient descent from the example, the later ones from a random point close to the best one so
   far; forward through the file, backward through the network (BPDA, Athalye et al. 2018, section 4.1), on the difference of
   logits ratio, which no scale of the logits hides.
3. `squares`: the random search of Square (Andriushchenko et al. 2020) from the best point so far, on the file's own scores.

It asks the file a bounded number of times a sample: three for the example and its roundings, for each walk two more than
`steps`, and two more than `queries`. Draws are functions of seed and image.
"""

import re
from typing import Literal, NamedTuple, get_args

import numpy as np

from tinyrobust.attacks.pgd import ProjectedGradient
from tinyrobust.attacks.scores import Lowest
from tinyrobust.attacks.specs import AttackSpec, BallNorm, Norm, Pgd, Square
from tinyrobust.attacks.specs.base import ViewName
from tinyrobust.attacks.square import RandomSearch
from tinyrobust.attacks.target import Target
from tinyrobust.robustness import protocol
from tinyrobust.robustness.distance import Floats, Ints

PHASES = ("example", "rounding", "steps", "squares")
"""What fooled the file: the example as it was, or what the search made of it."""
_VIEWS = ("keras", "keras/T", "repaired")  # on which an attack may stop before the file is fooled
# Of the radius: the boundary is near, and larger steps leave it. On the samples of digits-stq that were hardest for the search,
# walks of 0.02 and 0.03 ended nearer to it than those of 0.1 and 0.3, and some of several walks ended behind it.
_STEP, _NOISE = 0.03, 0.2
_SHARE = 0.05  # of the pixels in the first squares: the example is good already, large squares spoil it
_LEVELS = 255


class FollowUp(AttackSpec):
    """A search on the file behind one attack, as a row of the record.

    Attributes:
        follows: The attack whose examples it starts from.
        walks: How many.
        steps: Gradients of a walk.
        queries: Random squares a sample.
    """

    kind: Literal["file-search"] = "file-search"
    on: ViewName = "bpda"
    follows: str
    walks: int
    steps: int
    queries: int


def follow_up(rule: protocol.FileSearch | None, attack: AttackSpec) -> FollowUp | None:
    """The search that follows an attack; None where there is none.

    None follows attacks without gradients, on the file itself (BPDA) or on a surrogate, on what was learned for all samples
    together, of one step (it is a baseline), nor the longer runs of checks.
    """
    on_network = attack.gradients and not attack.learns and attack.on in _VIEWS
    if rule is None or not on_network or attack.parameters()["kind"] == "fgsm" or re.match(r"(longer\d*|wide)-", attack.name):
        return None
    name = f"{attack.name}-on-file"
    return FollowUp(
        name=name,
        norm=attack.norm,
        samples=attack.samples,
        epsilons=attack.epsilons,
        follows=attack.name,
        **rule.model_dump(),
    )


class Found(NamedTuple):
    """What a search came to.

    Attributes:
        example: [n, ...]; the best attempt where the file still stands.
        phase: [n], the place in `PHASES` of what fooled the file; -1 where nothing did.
    """

    example: Floats
    phase: Ints


def search(
    spec: FollowUp, file: Target, bpda: Target, x: Floats, y: Ints, examples: Floats, epsilon: float, seed: int
) -> Found:
    """Searches the file's answers from examples of the network.

    Args:
        spec: How far.
        file: The file.
        bpda: Its white-box view: the file's logits, the network's gradients.
        x: The originals [n, ...] in [0, 1].
        y: Their classes [n].
        examples: Where the search begins [n, ...], in the balls.
        epsilon: Radius of the balls in the norm of `spec`.
        seed: Of the draws.
    """
    best = Lowest.judged(file, examples.copy(), y, targeted=False)
    phase = np.where(best.broken, 0, -1).astype(np.int64)

    def tried(rows: Ints, points: Floats, place: int) -> None:
        best.improve(rows, Lowest.judged(file, points, y[rows], targeted=False), ties=True)
        phase[rows[best.broken[rows]]] = place

    for points in _rounded(examples, x, epsilon, spec.norm):
        rows = best.standing(drop=True)
        tried(rows, points[rows], 1)
    for number in range(spec.walks if spec.norm in get_args(BallNorm) else 0):
        rows = best.standing(drop=True)
        if not len(rows):
            break
        walk = Pgd.of(norm=spec.norm, steps=spec.steps, relative_step=_STEP, random_starts=0, loss="dlr", on="bpda")
        attack: object = walk.build(bpda, epsilon, seed=seed)
        assert isinstance(attack, ProjectedGradient)
        tried(rows, attack.continued(x[rows], y[rows], best.example[rows], noise=_NOISE if number else 0.0, run=number), 2)
    rows = best.standing(drop=True)
    if len(rows) and spec.norm in ("linf", "l2", "snr"):
        squares = Square.of(norm=spec.norm, iterations=spec.queries, initial_share=_SHARE, on="int8").build(
            file, epsilon, seed=seed
        )
        assert isinstance(squares, RandomSearch)
        tried(rows, squares.continued(x[rows], y[rows], best.example[rows]), 3)
    return Found(best.example, phase)


def _rounded(examples: Floats, x: Floats, epsilon: float, norm: Norm) -> list[Floats]:
    """Images next to the examples whose changes are whole steps of 1/255, the nearest ones and those beyond."""
    if x.ndim < 3 or norm != "linf":
        return []
    change = (examples.astype(np.float64) - x) * _LEVELS
    size, most = np.abs(change), epsilon * _LEVELS
    nearest = np.minimum(np.round(size), np.floor(most + 1e-4))
    # A change that is whole but for rounding errors is whole.
    beyond = np.minimum(np.ceil(size - 1e-3), most)
    return [np.clip(x + np.sign(change) * steps / _LEVELS, 0, 1).astype(np.float32) for steps in (nearest, beyond)]
