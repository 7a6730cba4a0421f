"""How much faster our attacks are than ART's: one run, same images, networks and budgets. `python benchmarks/speed.py`.

ART's attacks run on ART's own classifier, as its documentation shows; ours on ours. Broken samples go on to the end of the
budget, as ART's do; but ART's Square leaves them, so ours does there too. What leaving them adds stands apart. Both sides take
turns and the best time of each counts, so a busy machine slows both; the ratio of the CPU seconds stands beside it, which a
busy machine hardly changes. The exit status is 1 when a goal is missed.

Goals are those of the project's issue on speed. Robust accuracy is that at the radius, and counts as equal up to one sample:
starts are random. `benchmarks/attacks.py` is the careful comparison of strength.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import attacks
import keras
import numpy as np
import numpy.typing as npt
from art.attacks import evasion as art
from art.estimators.classification import TensorFlowV2Classifier

from tinyrobust.attacks.apgd import AutoProjectedGradient
from tinyrobust.attacks.boundary import Boundary
from tinyrobust.attacks.cw import CarliniWagner
from tinyrobust.attacks.deepfool import DeepFool
from tinyrobust.attacks.estimator import CompiledClassifier
from tinyrobust.attacks.hopskipjump import HopSkipJump
from tinyrobust.attacks.norms import Norm, distance
from tinyrobust.attacks.pgd import ProjectedGradient
from tinyrobust.attacks.seeds import seeded
from tinyrobust.attacks.square import Square
from tinyrobust.attacks.zoo import ZeroOrder
from tinyrobust.data import load
from tinyrobust.data.arrays import scale
from tinyrobust.pipeline.folder import read
from tinyrobust.quantizers.layers import freeze

RAW_SHARE = 0.9  # of the raw rate of compiled gradients, held on CIFAR-10: a prototype had 0.999
ENOUGH = 15.0  # seconds of one side, after which it is not measured again
MEGABYTE = 2**20
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One attack of ours and ART's; both at a radius, or for the nearest example.

    Attributes:
        norm: Of the radius.
        ours: From target, radius and further settings to an attack.
        arts: From classifier, radius and number of images to an attack.
        leaves: Whether broken samples leave on both sides: ART's Square sees to that itself.
        goals: How many times faster on digits and on CIFAR-10; None: not named.
        images: How many; ART's slow attacks get few.
        gradients: Whether its rate is compared with that of raw gradients: it takes one a step, forward and back.
    """

    norm: Norm
    ours: Callable[..., Any]
    arts: Callable[..., Any]
    goals: tuple[float | None, float | None]
    images: tuple[int, int] = (64, 64)
    gradients: bool = False
    leaves: bool = False


def _pgd(classifier: Any, epsilon: float, n: int) -> Any:
    settings = {"eps": epsilon, "eps_step": epsilon / 8, "max_iter": 20, "num_random_init": 1, "batch_size": n}
    # The faster one of ART's two on a small network; on a large one they take the same time.
    return art.ProjectedGradientDescentNumpy(classifier, verbose=False, **settings)


def _apgd(classifier: Any, epsilon: float, n: int) -> Any:
    settings = {"eps": epsilon, "eps_step": 2 * epsilon, "max_iter": 20, "nb_random_init": 1, "batch_size": n}
    return art.AutoProjectedGradientDescent(classifier, loss_type="cross_entropy", verbose=False, **settings)


def _art_square(classifier: Any, epsilon: float, n: int) -> Any:
    return art.SquareAttack(classifier, eps=epsilon, max_iter=200, nb_restarts=1, p_init=0.8, batch_size=n, verbose=False)


_WALK = {"max_iter": 20, "num_trial": 10, "sample_size": 10, "targeted": False}
_HOP = {"max_iter": 6, "max_eval": 300, "init_eval": 50}
_ZOO = {"max_iter": 10, "binary_search_steps": 2, "nb_parallel": 64, "learning_rate": 0.1, "initial_const": 1.0}
# ART's ZOO gives up when its loss has not fallen for a while; with it, the budgets would not be the same.
_ZOO |= {"use_resize": False, "abort_early": False, "verbose": False}
_CARLINI = {"max_iter": 100, "binary_search_steps": 3}

CASES: dict[str, Case] = {
    "pgd-20": Case(
        "linf",
        lambda target, epsilon, **more: ProjectedGradient(target, epsilon=epsilon, steps=20, relative_step=1 / 8, **more),
        _pgd,
        (12, 5),
        gradients=True,
    ),
    "apgd-ce-20": Case(
        "linf",
        lambda target, epsilon, **more: AutoProjectedGradient(target, epsilon=epsilon, steps=20, **more),
        _apgd,
        (12, 5),
        gradients=True,
    ),
    "carlini-l2": Case(
        "l2",
        lambda target, _, **more: CarliniWagner(target, steps=100, searches=3, **more),
        lambda classifier, _, n: art.CarliniL2Method(classifier, batch_size=n, verbose=False, **_CARLINI),
        (50, 20),
        (16, 2),
        gradients=True,
    ),
    "deepfool-50": Case(
        "l2",
        lambda target, _, **more: DeepFool(target, steps=50, **more),
        lambda classifier, _, n: art.DeepFool(classifier, max_iter=50, batch_size=n, verbose=False),
        (10, 10),
        (64, 16),
    ),
    "square-200": Case(
        "linf",
        lambda target, epsilon, **more: Square(target, epsilon=epsilon, iterations=200, **more),
        _art_square,
        (3, 3),
        (64, 32),
        leaves=True,
    ),
    "boundary-20": Case(
        "l2",
        lambda target, _, **more: Boundary(target, steps=20, trials=10, samples=10, **more),
        lambda classifier, _, n: art.BoundaryAttack(classifier, verbose=False, **_WALK),  # noqa: ARG005 - one signature for all
        (10, 10),
        (32, 8),
    ),
    "hop-skip-jump-6": Case(
        "l2",
        lambda target, _, **more: HopSkipJump(target, steps=6, queries=300, first_queries=50, **more),
        lambda classifier, _, n: art.HopSkipJump(classifier, verbose=False, **_HOP),  # noqa: ARG005 - one signature for all
        (None, None),
        (32, 8),
    ),
    "zoo-10": Case(
        "l2",
        lambda target, _, **more: ZeroOrder(target, steps=10, searches=2, coordinates=64, **more),
        lambda classifier, _, n: art.ZooAttack(classifier, **_ZOO),  # noqa: ARG005 - one signature for all
        (10, 10),
        (8, 2),
    ),
}


@dataclass(frozen=True)
class Bench:
    """A network and images for it, and the radii by norm at which attacks are judged; `place` is that of its goals."""

    name: str
    place: int
    model: keras.Model
    x: Floats
    y: npt.NDArray[np.int64]
    radii: dict[Norm, float]


@dataclass
class Clock:
    """The best time and the fewest CPU seconds of several runs, and the most memory in MB that one of them took."""

    seconds: float = np.inf
    cpu: float = np.inf
    memory: float = 0.0
    total: float = 0.0
    found: Any = field(default=None, repr=False)

    def run(self, work: Callable[[], Any]) -> None:
        """Once more."""
        with _Peak() as peak:
            start, cpu = time.perf_counter(), time.process_time()
            self.found = work()
            taken = time.perf_counter() - start
            self.seconds, self.total = min(self.seconds, taken), self.total + taken
            self.cpu = min(self.cpu, time.process_time() - cpu)
        self.memory = max(self.memory, peak.grown)


class _Peak:
    """The most resident memory of this process above what it was at first, in MB, looked at every 5 ms."""

    def __enter__(self) -> "_Peak":
        self._first = self._most = _resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._most = max(self._most, _resident())

    @property
    def grown(self) -> float:
        return (self._most - self._first) / MEGABYTE

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._most = max(self._most, _resident())


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def measured(bench: Bench, case: Case, ours: CompiledClassifier, theirs: Any, repeats: int) -> tuple[str, list[str]]:
    """A row of the table, and the goals that it misses."""
    count = min(case.images[bench.place], len(bench.x))
    x, y = bench.x[:count], bench.y[:count]
    label, radius = np.eye(ours.nb_classes, dtype=np.float32)[y], bench.radii[case.norm]
    sides = {
        "ours": lambda: case.ours(ours, radius, norm=case.norm, drop=case.leaves).generate(x, label),
        "arts": lambda: case.arts(theirs, radius, count).generate(x, label),
        "other": lambda: case.ours(ours, radius, norm=case.norm, drop=not case.leaves).generate(x, label),
        "raw": lambda: [ours.loss_gradient(x, label) for _ in range(20)],
    }
    clocks = {name: Clock() for name in sides}
    case.ours(ours, radius, norm=case.norm, drop=False).generate(x[:2], label[:2])  # traced here
    case.ours(ours, radius, norm=case.norm, drop=True).generate(x[:2], label[:2])
    passes = 0
    for _ in range(repeats):
        for name, work in sides.items():
            if clocks[name].total > ENOUGH:
                continue
            before = ours.backward_passes
            with attacks._quiet(0):
                clocks[name].run(work)
            passes = ours.backward_passes - before if name == "ours" else passes
    mine, art_side, other, raw = (clocks[name] for name in ("ours", "arts", "other", "raw"))
    stand = [_standing(ours, clock.found, x, y, case.norm, radius) for clock in (mine, art_side)]
    ratio, share = art_side.seconds / mine.seconds, passes / mine.seconds * raw.seconds / (20 * count)
    goal = case.goals[bench.place]
    missed = [] if goal is None or ratio >= goal else [f"{ratio:.1f} times, not {goal:g}"]
    if case.gradients and bench.place and share < RAW_SHARE:
        missed.append(f"{share:.2f} of the raw gradient rate, not {RAW_SHARE}")
    if stand[0] > stand[1] + 1:
        missed.append("WEAKER")
    figures = [
        f"{count}",
        f"{mine.seconds:.2f}",
        f"{art_side.seconds:.2f}",
        f"{ratio:.1f}",
        f"{art_side.cpu / mine.cpu:.1f}",
        "" if goal is None else f"{goal:g}",
        f"{100 * stand[0] / count:.0f}",
        f"{100 * stand[1] / count:.0f}",
        f"{share:.2f}" if case.gradients else "",
        f"{mine.memory:.0f}",
        f"{art_side.memory:.0f}",
        f"{(other.seconds / mine.seconds) if case.leaves else (mine.seconds / other.seconds):.1f}",
        "; ".join(missed) if missed else "met" if goal else "",
    ]
    return " | ".join(figures), missed


def _standing(target: CompiledClassifier, found: Floats, x: Floats, y: Any, norm: Norm, radius: float) -> int:
    found = np.clip(np.where(np.isfinite(found), found, x), 0, 1).astype(np.float32)
    broken = (target.predict(found).argmax(axis=1) != y) & (distance(found - x, norm) <= radius * (1 + 1e-5))
    return int(np.sum(~broken))


def show(bench: Bench, names: Sequence[str], repeats: int) -> bool:
    """Prints the table of one network; whether all goals are met."""
    ours = CompiledClassifier(bench.model)
    theirs = TensorFlowV2Classifier(
        bench.model,
        nb_classes=ours.nb_classes,
        input_shape=ours.input_shape,
        loss_object=keras.losses.CategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )
    right = 100 * np.mean(ours.predict(bench.x).argmax(axis=1) == bench.y)
    radii = ", ".join(f"{norm} {radius:.4g}" for norm, radius in bench.radii.items())
    print(f"\n## {bench.name}: {right:.1f} % right; judged at {radii}\n")
    print(
        "| attack | images | ours s | ART's s | times | by CPU s | goal | ours stand % | ART's | of raw gradient rate "
        "| ours MB | ART's MB | dropping: times more | |"
    )
    print("|---|" + "---:|" * 12 + "---|")
    good = True
    for name in names:
        row, missed = measured(bench, CASES[name], ours, theirs, repeats)
        good = good and not missed
        print(f"| {name} | {row} |", flush=True)
    return good


def cifar10(folder: Path, count: int) -> Bench:
    """The network of a CIFAR-10 run, and validation images: the test set is for the record."""
    recipe, _ = read(folder)
    split = load(recipe.data, recipe.seed).validation
    model = freeze(keras.models.load_model(folder / "model.keras", compile=False))
    return Bench(f"CIFAR-10, {folder.name}", 1, model, scale(split.x[:count]), split.y[:count], {"linf": 8 / 255, "l2": 0.5})


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, metavar="RUN", help="folder of a CIFAR-10 run whose network is attacked too")
    parser.add_argument("--only-cifar10", action="store_true", help="leave the digits out")
    parser.add_argument("--attack", action="append", choices=CASES, help="only this one; may be repeated")
    parser.add_argument("--repeats", type=int, default=10, help="turns of each side, fewer where they take long")
    options = parser.parse_args()
    names, good = options.attack or list(CASES), True
    if not options.only_cifar10:
        images, labels = attacks.digits()
        model = attacks.networks(images[:1200], labels[:1200])["adversarially trained"]
        bench = Bench("Digits, adversarially trained", 0, model, images[1200:], labels[1200:], {"linf": 0.1, "l2": 0.8})
        good = show(bench, names, options.repeats)
    if options.cifar10:
        with seeded(0):
            bench = cifar10(options.cifar10, 64)
        good = show(bench, names, options.repeats) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
