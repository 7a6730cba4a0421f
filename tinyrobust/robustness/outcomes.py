"""What attacks did to every sample, the worst case over them, and the file that keeps both.

`per_sample.npz` (NumPy arrays only, no pickle; n attacked samples; E epsilons of an attack, one row for an attack that looks
for the smallest distance; norms are linf, l2, l1 and l0, in input units, for l0 in input values; of sound linf, l2, snr and
shift, in shares of the 16-bit range, of the length of the clip, and in milliseconds). Of sound (`per_sample-waveform.npz`)
clips are int16 [samples], `example/adversarial` too: what was judged.


| key | type, shape | what |
|---|---|---|
| `index` | int64 [n] | position in the test set |
| `label` | int64 [n] | the true class |
| `clean/TARGET` | int64 [n] | class that TARGET names without attack |
| `epsilon/ATTACK` | float64 [E] | radii, rising |
| `given/ATTACK` | bool [E, n] | whether the attack was run on the sample (a cascade skips what is broken already) |
| `predicted/ATTACK/TARGET` | int64 [E, n] | class that TARGET names for the example; -1 where there is none |
| `distance/ATTACK/NORM` | float32 [E, n] | distance of the example from its image; inf where there is none |
| `minimal/TARGET/NORM` | float32 [n] | smallest distance that made TARGET wrong; 0: wrong anyway, inf: nothing did |
| `example/index`, `example/label` | int64 [m] | up to 8 samples broken within the headline epsilon, for pictures |
| `example/image` | uint8 [m, h, w, c] | the original |
| `example/adversarial` | float32 [m, h, w, c] | what the strongest attack made of it, in [0, 1] |
| `example/predicted` | int64 [m] | the wrong class that `example/target` names |
| `example/attack`, `example/target` | text | what made the examples, whom they fool |
| `example/epsilon` | float64 | how far they may go |
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyrobust.attacks.specs import Norm
from tinyrobust.data.arrays import scale
from tinyrobust.data.speech.units import MIDPOINT, samples, shifted, unit
from tinyrobust.files import atomic_path
from tinyrobust.recipe.frontend import SAMPLE_RATE

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Array = npt.NDArray[Any]

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")
SOUND_NORMS: tuple[Norm, ...] = ("linf", "l2", "snr", "shift")
# Rounding of float32 pixels and of sums over them: an example this much (relative to the radius) outside counts as inside.
SLACK = 1e-6
_RELATIVE = 1e-5


@dataclass
class Tally:
    """Verdicts that both interpreters gave, and those in which they differ."""

    checked: int = 0
    differing: int = 0

    def add(self, checked: int, differing: int) -> None:
        """Counts some more."""
        self.checked += checked
        self.differing += differing


@dataclass(frozen=True)
class Outcome:
    """One attack at one epsilon, judged on one target.

    Attributes:
        target: Whose predictions these are.
        attack: The attack's name in the protocol.
        crafted_on: What the examples were made on.
        home: The target that `crafted_on` is, or is a view of; differs from `target` for a transfer.
        gradients: Whether the attack uses gradients.
        norm: Of `epsilon`.
        epsilon: The radius.
        parameters: The attack's, as used.
        meant: Samples [n] that count for this attack.
        given: Samples [n] that it was run on.
        predicted: Class [n] that the target names for each example; -1 where there is none.
        distance: Per norm, distances [n] of the examples; inf where there is none.
        broken: Whether [n] the target was right and an example within `epsilon` makes it wrong.
        robust: Whether [n] the target was right and still is: after this attack, in a cascade also after the ones before it.
        on_grid: Whether [n] a broken sample is broken too when its example is rounded to 8 bits; None where not asked.
        seconds: Time to make the examples and judge them; for a transfer, to judge them.
        queries: Samples whose scores were asked for meanwhile.
        forward: Samples that went forward through a network.
        backward: Samples that went backward.
    """

    target: str
    attack: str
    crafted_on: str
    home: str
    gradients: bool
    norm: Norm
    epsilon: float
    parameters: dict[str, float | int | str | bool]
    meant: Bools
    given: Bools
    predicted: Ints
    distance: dict[Norm, Floats]
    broken: Bools
    robust: Bools
    on_grid: Bools | None = None
    seconds: float = 0.0
    queries: int = 0
    forward: int = 0
    backward: int = 0

    @property
    def direct(self) -> bool:
        """Whether the examples were made on the target itself, or on a view of it: no transfer."""
        return self.home == self.target


@dataclass(frozen=True)
class Subset:
    """The attacked samples.

    Attributes:
        index: Positions [n] in the test set.
        image: Originals, uint8 [n, h, w, c], or clips, int16 [n, samples].
        label: True classes [n].
        clean: Per target, the class [n] that it names without attack.
    """

    index: Ints
    image: npt.NDArray[np.uint8] | npt.NDArray[np.int16]
    label: Ints
    clean: dict[str, Ints]

    @property
    def sound(self) -> bool:
        """Whether they are clips."""
        return self.image.dtype == np.int16

    @property
    def norms(self) -> tuple[Norm, ...]:
        """In which distances are measured."""
        return SOUND_NORMS if self.sound else NORMS

    @cached_property
    def x(self) -> Floats:
        """The samples as attacks see them, in [0, 1]."""
        return inputs(self.image)

    def right(self, target: str) -> Bools:
        """Whether [n] `target` is right without attack."""
        return np.asarray(self.clean[target] == self.label)


def inputs(stored: npt.NDArray[np.uint8] | npt.NDArray[np.int16]) -> Floats:
    """Images, or clips, as attacks see them, in [0, 1]."""
    return unit(stored.astype(np.int16)) if stored.dtype == np.int16 else scale(stored.astype(np.uint8))


def distances(adversarial: Floats, x: Floats, norms: Sequence[Norm] = NORMS) -> dict[Norm, Floats]:
    """Distances [n] of examples from their samples in every norm.

    l0 counts input values that differ. snr is the L2 length of the change over that of the clip; no change is none of it. shift
    is infinite here, where nothing is changed zero: who moves clips in time measures it by `moved`.
    """
    change = np.abs(adversarial.astype(np.float64) - x).reshape(len(x), -1)
    return {norm: np.asarray(_measured(change, x, norm), dtype=np.float32) for norm in norms}


def _measured(change: npt.NDArray[np.float64], x: Floats, norm: Norm) -> Array:
    if norm == "linf":
        return np.asarray(change.max(axis=1, initial=0))
    if norm == "l1":
        return np.asarray(change.sum(axis=1))
    if norm == "l0":
        return np.asarray(np.count_nonzero(change, axis=1))
    if norm == "shift":
        return np.where(change.any(axis=1), np.inf, 0)
    far = np.sqrt(np.square(change).sum(axis=1))
    loud = (
        np.sqrt(np.square(x.reshape(len(x), -1).astype(np.float64) - MIDPOINT).sum(axis=1))
        if norm == "snr"
        else np.ones(len(x))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(far > 0, far / loud, 0)


def moved(adversarial: Floats, x: Floats, most: int) -> Floats:
    """By how many whole milliseconds [n] clips were moved in time, either way: the fewest that explain it, `most` at most.

    Infinite where no shift makes the one from the other.
    """
    found, before, after = np.full(len(x), np.inf, np.float32), samples(x), samples(adversarial)
    for ms in sorted(range(-most, most + 1), key=abs, reverse=True):
        found[(after == shifted(before, ms * SAMPLE_RATE // 1000)).all(axis=1)] = abs(ms)
    return found


def within(distance: npt.ArrayLike, epsilon: npt.ArrayLike) -> Bools:
    """Whether distances [n] are at most `epsilon`, give or take rounding."""
    return np.asarray(np.asarray(distance) <= (1 + _RELATIVE) * np.asarray(epsilon) + SLACK)


@dataclass
class Minimal:
    """The smallest distance at which anything made a target wrong, kept per target and norm while attacks go on.

    A sample that is broken at one epsilon is so at every larger one, whichever attack did it, in whatever norm it was made.
    """

    subset: Subset
    found: dict[tuple[str, Norm], Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for target in self.subset.clean:
            start = np.where(self.subset.right(target), np.float32(np.inf), np.float32(0))
            for norm in self.subset.norms:
                self.found[target, norm] = start

    def add(self, target: str, predicted: Ints, distance: dict[Norm, Floats]) -> None:
        """Takes in what an attack found: classes [n] (-1: none) and distances [n]."""
        wrong = (predicted >= 0) & (predicted != self.subset.label)
        for norm in self.subset.norms:
            here = np.where(wrong, distance[norm], np.float32(np.inf)).astype(np.float32)
            self.found[target, norm] = np.minimum(self.found[target, norm], here)

    def survives(self, target: str, norm: Norm, epsilon: float) -> Bools:
        """Whether [n] a sample is right and unbroken within `epsilon`; for "all", on every target."""
        targets = self.subset.clean if target == "all" else (target,)
        return np.asarray(np.logical_and.reduce([~within(self.found[name, norm], epsilon) for name in targets]))


def strongest(outcomes: Iterable[Outcome], epsilon: float, norm: Norm = "linf") -> Outcome | None:
    """The outcome within `epsilon` that broke most samples on the flashed file; the first of equals.

    Those at `epsilon` itself come first: at smaller radii they are looked for only where a cascade left nothing to break.
    """
    candidates = [
        outcome
        for outcome in outcomes
        if (outcome.norm, outcome.target) == (norm, "int8") and outcome.epsilon <= epsilon and outcome.broken.any()
    ]
    return max(candidates, key=lambda outcome: (outcome.epsilon == epsilon, int(outcome.broken.sum())), default=None)


def save(path: Path, subset: Subset, outcomes: Sequence[Outcome], minimal: Minimal, examples: dict[str, Array]) -> None:
    """Writes `per_sample.npz` (see the module's text) atomically.

    Raises:
        RunFolderError: The disk is full, the folder is read-only or not allowed.
    """
    arrays: dict[str, Array] = {
        "index": subset.index,
        "label": subset.label,
        **{f"clean/{target}": predicted for target, predicted in subset.clean.items()},
        **{f"minimal/{target}/{norm}": distance for (target, norm), distance in minimal.found.items()},
        **examples,
    }
    for attack, target in dict.fromkeys((outcome.attack, outcome.target) for outcome in outcomes):
        row = [outcome for outcome in outcomes if (outcome.attack, outcome.target) == (attack, target)]
        arrays[f"epsilon/{attack}"] = np.asarray([outcome.epsilon for outcome in row], dtype=np.float64)
        arrays[f"given/{attack}"] = np.stack([outcome.given for outcome in row])
        arrays[f"predicted/{attack}/{target}"] = np.stack([outcome.predicted for outcome in row])
        for norm in subset.norms:
            arrays[f"distance/{attack}/{norm}"] = np.stack([outcome.distance[norm] for outcome in row])
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
