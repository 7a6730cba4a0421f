"""Our attacks and ART's side by side: same networks, images and budgets. `python benchmarks/attacks.py`.

Budgets are cut, or ART's would take hours: what is compared is how much an attack makes of what it is given. An example counts
within the radius, whatever the attack itself says. Ours do not leave samples that are broken (`drop`) unless ART's do so too.
The exit status is 1 when one of ours leaves more standing than ART's, by over a point at some radius; with few samples, chance
alone does that: one of a hundred is a point. Here both run on our compiled estimator: `benchmarks/speed.py` compares the speed,
with ART's on its own.
"""

import argparse
import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import numpy.typing as npt
from pairs import PAIRS, Make, Pair
from sklearn.datasets import load_digits

from tinyrobust.attacks.estimator import GraphClassifier
from tinyrobust.attacks.norms import distance
from tinyrobust.attacks.seeds import seeded
from tinyrobust.recipe.train import Train
from tinyrobust.training.learner import compiled
from tinyrobust.training.objectives import Supplies, build_objectives

POINT = 0.01
CLASSES = 10
_FGSM = {"kind": "adversarial", "perturbation": {"kind": "fgsm", "epsilon": 0.15}}
ADVERSARIAL = Train(epochs=15, learning_rate=5e-3, weight_decay=0.0, objective=(_FGSM,))


@dataclass(frozen=True)
class Side:
    """What one attack did: the share that stands at each radius, its time, samples through the network and back."""

    standing: npt.NDArray[np.float64]
    seconds: float
    passes: int
    broken_numbers: int


@dataclass(frozen=True)
class Row:
    """Both, on one network."""

    pair: Pair
    samples: int
    ours: Side
    arts: Side

    @property
    def behind(self) -> float:
        """By how much more is left standing by ours, at the radius where that is most."""
        return float(np.max(self.ours.standing - self.arts.standing))


def compare(pair: Pair, target: Any, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> Row:
    """Runs both on the first of the images, as many as the pair's share; before, on two of them: tracing takes no part.

    Args:
        pair: The two attacks.
        target: The network, as `white_box` makes it.
        x: Images [n, ...] in [0, 1].
        y: Their classes [n].
    """
    count = max(3, round(pair.share * len(x)))
    x, y = x[:count], y[:count]

    def ours(epsilon: float, seed: int) -> Any:
        return pair.ours(target, norm=pair.norm, epsilon=epsilon, seed=seed)

    def arts(epsilon: float, _: int) -> Any:
        return pair.arts(target, norm=pair.norm, epsilon=epsilon)

    for make in (ours, arts):
        with _quiet(0):
            make(pair.radii[0], 0).generate(x[:2], np.eye(CLASSES, dtype=np.float32)[y[:2]])
    return Row(pair, count, _measured(pair, target, ours, x, y), _measured(pair, target, arts, x, y))


@contextlib.contextmanager
def _quiet(seed: int) -> Iterator[None]:
    """Seeds ART. Its Square in L2 divides by the norm of a window that may be zero: the table says how often."""
    with seeded(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def _measured(pair: Pair, target: Any, make: Make, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Side:
    label = (y + 1) % CLASSES if pair.targeted else y
    one_hot = np.eye(CLASSES, dtype=np.float32)[label]
    standing, invalid = np.zeros(len(pair.radii)), 0
    start, before = time.perf_counter(), target.forward_passes + target.backward_passes
    for seed in range(pair.seeds):
        for place, radius in enumerate(pair.radii):
            if place == 0 or not pair.nearest:
                with _quiet(seed):
                    found = make(radius, seed).generate(x, one_hot)
                numbers = np.isfinite(found).reshape(len(x), -1).all(axis=1)
                invalid += int((~numbers).sum())
                found = np.where(numbers.reshape(-1, *[1] * (x.ndim - 1)), np.clip(found, 0, 1), x).astype(np.float32)
                away, named = distance(found - x, pair.norm), target.predict(found).argmax(axis=1)
            done = (named == label if pair.targeted else named != label) & (away <= radius * (1 + 1e-5))
            standing[place] += (1 - done.mean()) / pair.seeds
    passes = target.forward_passes + target.backward_passes - before
    return Side(standing, time.perf_counter() - start, passes, invalid)


def digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The 8x8 digits of scikit-learn in [0, 1], shuffled, and their classes."""
    known = load_digits()
    order = np.random.default_rng(0).permutation(len(known.target))
    images = np.round(known.images * (255 / 16))[order, ..., np.newaxis] / 255
    return images.astype(np.float32), known.target[order].astype(np.int64)


def white_box(network: keras.Model) -> GraphClassifier:
    """A network from images in [0, 1] to logits as a target without a memory of answers: every question counts."""
    shape, classes = tuple(network.input_shape[1:]), int(network.output_shape[-1])
    return GraphClassifier(lambda x: network(x, training=False), shape, classes)


def networks(images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, keras.Model]:
    """Two networks of one architecture on 8x8 digits: undefended, and after fast adversarial training at epsilon 0.15."""
    made = {}
    for name, settings in (("undefended", None), ("adversarially trained", ADVERSARIAL)):
        keras.utils.set_random_seed(0)
        layers = [
            keras.layers.Conv2D(12, 3, padding="same", activation="relu"),
            keras.layers.Conv2D(24, 3, strides=2, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(CLASSES),
        ]
        network = keras.Sequential([keras.Input((8, 8, 1)), *layers])
        if settings:
            objectives = build_objectives(settings.objectives, Supplies())
            compiled(network, objectives, settings, 15 * 19).fit(images, labels, batch_size=64, epochs=15, verbose=0)
        else:
            network.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            network.fit(images, labels, epochs=12, batch_size=64, verbose=0)
        made[name] = network
    return made


def show(rows: Iterable[tuple[str, Row]]) -> bool:
    """Prints a table as its rows come; whether ours are nowhere behind by more than a point."""
    print(
        "| attack | samples | radii | ours stand % | ART's stand % | ours s | ART's s | ART's / ours | passes, ours : ART's | |"
    )
    print("|---|---:|---|---|---|---:|---:|---:|---|---|")
    good = True
    for name, row in rows:
        level = row.behind <= POINT + 1e-9
        good = good and level
        ours, arts = (" ".join(f"{100 * share:.1f}" for share in side.standing) for side in (row.ours, row.arts))
        notes = [] if level else ["WEAKER"]
        if row.arts.broken_numbers:
            notes.append(f"{row.arts.broken_numbers} of ART's examples are no numbers: counted as failed")
        radii = " ".join(f"{radius:g}" for radius in row.pair.radii)
        times = f"{row.ours.seconds:.1f} | {row.arts.seconds:.1f} | {row.arts.seconds / row.ours.seconds:.1f}"
        passes = f"{row.ours.passes:,} : {row.arts.passes:,}"
        figures = f"{row.samples} | {radii} | {ours} | {arts} | {times} | {passes} | {'; '.join(notes)}"
        print(f"| {name} | {figures} |", flush=True)
    return good


def main() -> int:
    """Trains, attacks and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=300, help="images attacked; ART's slow attacks get a share of them")
    parser.add_argument("--attack", action="append", choices=PAIRS, help="only this one; may be repeated")
    options = parser.parse_args()
    images, labels = digits()
    x, y = images[1200 : 1200 + options.samples], labels[1200 : 1200 + options.samples]
    good = True
    for name, network in networks(images[:1200], labels[:1200]).items():
        target = white_box(network)
        print(f"\n## Digits, {name}: {100 * np.mean(target.predict(x).argmax(axis=1) == y):.1f} % right\n")
        chosen = options.attack or PAIRS
        good = show((attack, compare(PAIRS[attack], target, x, y)) for attack in chosen) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
