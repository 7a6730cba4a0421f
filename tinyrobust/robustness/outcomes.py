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
from pathlib import Path

import numpy as np

from tinyrobust.attacks.specs import Norm
from tinyrobust.files import atomic_path
from tinyrobust.robustness.distance import Array, Bools, Floats, Ints, within
from tinyrobust.robustness.subject import UNRELATED
from tinyrobust.robustness.subset import Subset


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
        found: Of a search on the file, how many samples each of its parts broke (`file_search.PHASES`).
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
    found: dict[str, int] = field(default_factory=dict)

    @property
    def direct(self) -> bool:
        """Whether the examples were made on the target itself, or on a view of it: no transfer."""
        return self.home == self.target

    @property
    def white(self) -> bool:
        """Whether the attack knew the weights: a transfer between network and file does too, one from a surrogate does not."""
        return self.gradients and self.crafted_on not in UNRELATED


@dataclass
class Minimal:
    """The smallest distance at which anything made a target wrong, kept per target and norm while attacks go on.

    A sample that is broken at one epsilon is so at every larger one, whichever attack did it, in whatever norm it was made.
    """

    subset: Subset
    distance: dict[tuple[str, Norm], Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for target in self.subset.clean:
            start = np.where(self.subset.right(target), np.float32(np.inf), np.float32(0))
            for norm in self.subset.norms:
                self.distance[target, norm] = start

    def add(self, target: str, predicted: Ints, distance: dict[Norm, Floats]) -> None:
        """Takes in what an attack found: classes [n] (-1: none) and distances [n]."""
        wrong = (predicted >= 0) & (predicted != self.subset.label)
        for norm in self.subset.norms:
            here = np.where(wrong, distance[norm], np.float32(np.inf)).astype(np.float32)
            self.distance[target, norm] = np.minimum(self.distance[target, norm], here)

    def survives(self, target: str, norm: Norm, epsilon: float) -> Bools:
        """Whether [n] a sample is right and unbroken within `epsilon`; for "all", on every target."""
        targets = self.subset.clean if target == "all" else (target,)
        return np.asarray(np.logical_and.reduce([~within(self.distance[name, norm], epsilon) for name in targets]))


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
        **{f"minimal/{target}/{norm}": distance for (target, norm), distance in minimal.distance.items()},
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
