"""What attacks did to every sample, the worst case over them, and the file that keeps both.

`per_sample.npz` (NumPy arrays only, no pickle; n attacked samples, E epsilons):

| key | type, shape | what |
|---|---|---|
| `index` | int64 [n] | position in the test set |
| `label` | int64 [n] | the true class |
| `epsilons` | float64 [E] | radii, rising, in input units |
| `clean/TARGET` | int64 [n] | class that TARGET names without attack |
| `predicted/ATTACK/TARGET` | int64 [E, n] | class that TARGET names for the adversarial example |
| `distance/ATTACK/TARGET` | float32 [E, n] | L-inf distance of that example from its image |
| `minimal/TARGET` | float32 [n] | smallest distance that made TARGET wrong; 0: wrong anyway, inf: nothing did |
| `example/index`, `example/label` | int64 [m] | up to 8 samples broken at the headline epsilon, for pictures |
| `example/image` | uint8 [m, h, w, c] | the original |
| `example/adversarial` | float32 [m, h, w, c] | what the strongest attack on the file made of it, in [0, 1] |
| `example/predicted` | int64 [m] | the wrong class that `example/target` names |
| `example/attack`, `example/target` | text | what made the examples, whom they fool |
| `example/epsilon` | float64 | how far they may go |
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyrobust.files import atomic_path

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

# Rounding of float32 pixels: an example this much outside of a ball counts as inside.
SLACK = 1e-6
_EXAMPLES = 8


@dataclass(frozen=True)
class Outcome:
    """One attack at one epsilon, judged on one target.

    Attributes:
        target: Whose predictions these are.
        attack: The attack's name in the protocol.
        crafted_on: The target that the examples were made on; differs from `target` for a transfer.
        epsilon: The radius, L-inf, in input units.
        parameters: The attack's, as used.
        predicted: Class [n] that the target names for each adversarial example.
        distance: L-inf distance [n] of each example from its image, before a target rounds it to its own input grid.
        broken: Whether [n] the target was right and is now wrong.
        robust: Whether [n] the target was right and still is.
        adversarial: The examples [n, h, w, c] in [0, 1].
        seconds: Time to make the examples; for a transfer, to judge them.
        queries: Samples that went through a network meanwhile.
    """

    target: str
    attack: str
    crafted_on: str
    epsilon: float
    parameters: dict[str, float | int | str | bool]
    predicted: Ints
    distance: Floats
    broken: npt.NDArray[np.bool_]
    robust: npt.NDArray[np.bool_]
    adversarial: Floats
    seconds: float
    queries: int


@dataclass(frozen=True)
class Subset:
    """The attacked samples.

    Attributes:
        index: Positions [n] in the test set.
        image: Originals [n, h, w, c], uint8.
        label: True classes [n].
        clean: Per target, the class [n] that it names without attack.
    """

    index: Ints
    image: npt.NDArray[np.uint8]
    label: Ints
    clean: dict[str, Ints]

    def right(self, target: str) -> npt.NDArray[np.bool_]:
        """Whether [n] `target` is right without attack."""
        return np.asarray(self.clean[target] == self.label)


def minimal_distance(subset: Subset, outcomes: Iterable[Outcome], target: str) -> Floats:
    """The smallest distance [n] at which anything made `target` wrong: 0 where it was wrong anyway, inf where nothing did.

    So a sample that is broken at one epsilon is broken at every larger one, whichever attack did it.
    """
    smallest = np.where(subset.right(target), np.float32(np.inf), np.float32(0))
    for outcome in outcomes:
        if outcome.target == target:
            smallest = np.minimum(smallest, np.where(outcome.broken, outcome.distance, np.float32(np.inf)))
    return smallest.astype(np.float32)


def survives(minimal: Floats, epsilon: float) -> npt.NDArray[np.bool_]:
    """Whether [n] a sample with this minimal distance is right and unbroken within `epsilon`."""
    return np.asarray(minimal > epsilon + SLACK)


def strongest(outcomes: Iterable[Outcome], epsilon: float) -> Outcome:
    """The outcome at `epsilon` that broke most samples on the flashed file; the first of equals."""
    candidates = [outcome for outcome in outcomes if outcome.epsilon == epsilon and outcome.target == "int8"]
    return max(candidates, key=lambda outcome: int(outcome.broken.sum()))


def save(path: Path, subset: Subset, outcomes: list[Outcome], epsilons: tuple[float, ...], headline: float) -> None:
    """Writes `per_sample.npz` (see the module's text) atomically.

    Raises:
        RunFolderError: The disk is full, the folder is read-only or not allowed.
    """
    arrays: dict[str, Array] = {
        "index": subset.index,
        "label": subset.label,
        "epsilons": np.asarray(epsilons, dtype=np.float64),
        **{f"clean/{target}": predicted for target, predicted in subset.clean.items()},
        **{f"minimal/{target}": minimal_distance(subset, outcomes, target) for target in subset.clean},
    }
    for attack, target in dict.fromkeys((outcome.attack, outcome.target) for outcome in outcomes):
        row = [outcome for outcome in outcomes if (outcome.attack, outcome.target) == (attack, target)]
        arrays[f"predicted/{attack}/{target}"] = np.stack([outcome.predicted for outcome in row])
        arrays[f"distance/{attack}/{target}"] = np.stack([outcome.distance for outcome in row])
    arrays.update(_examples(subset, strongest(outcomes, headline)))
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)


def _examples(subset: Subset, outcome: Outcome) -> dict[str, Array]:
    shown = np.flatnonzero(outcome.broken)[:_EXAMPLES]
    return {
        "example/index": subset.index[shown],
        "example/label": subset.label[shown],
        "example/image": subset.image[shown],
        "example/adversarial": outcome.adversarial[shown],
        "example/predicted": outcome.predicted[shown],
        "example/attack": np.asarray(outcome.attack),
        "example/target": np.asarray(outcome.target),
        "example/epsilon": np.asarray(outcome.epsilon),
    }
