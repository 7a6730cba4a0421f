"""A training step beside its peers, in one run: `python benchmarks/training.py --data-dir FOLDER`.

The network of `cifar10-stq`, its augmentation, optimizer and batches of 128, on CPU. They take turns, a step each, so that
what else the machine does hits all of them; a figure is the best of the rounds, a ratio is of two such figures. Beside the time
on the clock stands the processor time of all threads, which other programs distort less. Compared are

- `float`: float weights, ReLU6 not rounded;
- `stochastic ternary`: ours, half of the channels drawn anew in every step (the first phase, and the costliest: later ones draw
  as many numbers);
- `QKeras ternary`: `qkeras.ternary(alpha="auto")` in its stock layers where ours is stochastic, all else as in ours;
- `batch`: making one augmented batch, in the thread that training has for it.

With --formats, instead: every weight format beside float activations, and every activation format beside float weights, on
ResNet-20 (32x32x3, batch 128, random images), against float weights and activations. Formats that have bits have them at their
default and at their least.

With --objectives, instead: every objective of `OBJECTIVES` on the network of the recipe, against cross-entropy alone. Goals are
of processor time.

The exit status is 1 when a goal is missed. Without --data-dir random images take CIFAR-10's place: times do not depend on
pixels.
"""

import argparse
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import qkeras

from tinyrobust import recipe as recipes
from tinyrobust.choices import members
from tinyrobust.data import Split, load
from tinyrobust.data.batches import Batches
from tinyrobust.networks.catalog import build
from tinyrobust.networks.stochastic import with_quantizers
from tinyrobust.quantizers.layers import QuantConv2D, QuantDense, QuantDepthwiseConv2D, set_declared
from tinyrobust.quantizers.weights import StochasticTernary
from tinyrobust.recipe import Recipe
from tinyrobust.recipe.activations import Activations
from tinyrobust.recipe.objective_table import ObjectiveTable
from tinyrobust.recipe.objectives import LABELS
from tinyrobust.recipe.precision import FLOAT, Precision
from tinyrobust.recipe.stochastic import StochasticQuantizer
from tinyrobust.recipe.weights import Weights
from tinyrobust.training.budget import sizes_of
from tinyrobust.training.fit import seed_everything
from tinyrobust.training.learner import compiled
from tinyrobust.training.objectives import Supplies, build_objectives

STOCK = {QuantConv2D: qkeras.QConv2D, QuantDepthwiseConv2D: qkeras.QDepthwiseConv2D, QuantDense: qkeras.QDense}
GOALS = (
    ("stochastic ternary", "float", "at most 1.15", 1.15),
    ("stochastic ternary", "QKeras ternary", "below 1", 1.0),
    ("batch", "float", "at most a third", 1 / 3),
)
# Of the step of every format, times the float step, in processor time: a dozen networks take turns, and others' work hits few.
FORMAT_GOAL = 1.25
# What is trained for, and the most that such a step may take of the processor time of one for cross-entropy alone.
OBJECTIVES: dict[str, tuple[float, tuple[dict[str, Any], ...]]] = {
    "jacobian": (1.6, ({"kind": "cross-entropy"}, {"kind": "jacobian"})),
    "defensive-quantization": (1.1, ({"kind": "cross-entropy"}, {"kind": "defensive-quantization", "weight": 3e-4})),
    "adversarial, fgsm": (
        2.1,
        ({"kind": "adversarial", "clean_statistics": False, "perturbation": {"kind": "fgsm", "epsilon": 8 / 255}},),
    ),
    "adversarial, n-fgsm": (
        2.1,
        ({"kind": "adversarial", "clean_statistics": False, "perturbation": {"kind": "n-fgsm", "epsilon": 8 / 255}},),
    ),
    "trades": (12.2, ({"kind": "trades"},)),  # of 10 steps
    # Draws of a network with stochastic quantizers at the input and on the features, in one pass of four times the batch.
    "ensemble of 4": (5.0, ({"kind": "ensemble", "members": 4},)),
}
# For after training: a search of ranges in every step would be a waste.
NOT_TRAINED = (["weights", "uniform"], ["weights", "pwlq"], ["activations", "calibrated"])


class Best(NamedTuple):
    """The shortest time on the clock, and the least processor time of all threads, in seconds."""

    clock: float
    processor: float


def main() -> int:
    """Measures, prints a table, and says which goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="cifar10-stq")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--formats", nargs="?", const=".*", metavar="REGEX", help="every format (or those that match) on ResNet-20"
    )
    parser.add_argument("--objectives", nargs="?", const=".*", metavar="REGEX", help="every objective (or those that match)")
    options = parser.parse_args()
    if options.objectives:
        recipe = recipes.load(options.recipe, options.overrides)
        return objectives(recipe, _images(recipe, options.data_dir), options.objectives, options.rounds)
    if options.formats:
        return formats(
            recipes.load("cifar10-stq", ["data.color=rgb", 'network={kind="resnet"}']), options.formats, options.rounds
        )
    recipe = recipes.load(options.recipe, options.overrides)
    best = measure(recipe, _images(recipe, options.data_dir), options.rounds)
    print(
        f"{recipe.name}, batch {recipe.train.batch_size}, best of {options.rounds}, {len(os.sched_getaffinity(0))} processors\n"
    )
    print("| | time | times float | processor time | times float |\n|---|---|---|---|---|")
    for name, (clock, processor) in best.items():
        shares = (clock / best["float"].clock, processor / best["float"].processor)
        print(f"| {name} | {1000 * clock:,.1f} ms | {shares[0]:.3f} | {1000 * processor:,.1f} ms | {shares[1]:.3f} |")
    print()
    missed = False
    for one, other, goal, limit in GOALS:
        clock, processor = (a / b for a, b in zip(best[one], best[other], strict=True))
        missed |= clock > limit
        verdict = "MISSED" if clock > limit else "met"
        print(f"{one} / {other}: {clock:.3f} (goal: {goal}): {verdict}; of processor time {processor:.3f}")
    return int(missed)


def formats(recipe: Recipe, pattern: str, rounds: int) -> int:
    """Measures and prints the step of every format whose name matches, as a multiple of the float step."""
    x, y = Batches(_images(recipe, None), recipe.data.augment, recipe.train.batch_size, recipe.seed)[0]
    precisions = _precisions()
    names = [name for name in precisions if name == "float" or re.fullmatch(pattern, name)]
    columns, packed = {}, {}
    for name in names:
        network = build(recipe.model_copy(update={"precision": precisions[name]}), x.shape[1:], 10)
        set_declared(network, "quantized_fraction", 0.5)
        columns[name] = _step(network, recipe, x, y)
        packed[name] = _packed(network, precisions[name])
    best = interleaved(columns, rounds)
    print(f"ResNet-20, batch {len(x)}, best of {rounds}, {len(os.sched_getaffinity(0))} processors\n")
    print("| | packed weights | step, times float | of processor time |\n|---|---|---|---|")
    for name, (clock, processor) in best.items():
        shares = (clock / best["float"].clock, processor / best["float"].processor)
        print(f"| {name} | {packed[name] / 1024:,.1f} KiB | {shares[0]:.2f} | {shares[1]:.2f} |")
    trained = [name for name in names if name.split()[:2] not in NOT_TRAINED]
    missed = [name for name in trained if best[name].processor > FORMAT_GOAL * best["float"].processor]
    print(f"\nAt most {FORMAT_GOAL} of processor time each: {'MISSED by ' + ', '.join(missed) if missed else 'met'}")
    return int(bool(missed))


def objectives(recipe: Recipe, images: Split, pattern: str, rounds: int) -> int:
    """Measures and prints the step of every objective whose name matches, as a multiple of the plain step."""
    x, y = Batches(images, recipe.data.augment, recipe.train.batch_size, recipe.seed)[0]
    wanted = {name: entry for name, entry in OBJECTIVES.items() if re.fullmatch(pattern, name)}
    columns = {}
    for name, (_, tables) in {"plain": (1.0, ({"kind": "cross-entropy"},)), **wanted}.items():
        network = build(recipe, x.shape[1:], 10)
        if any("members" in table for table in tables):
            network = with_quantizers(
                network, [StochasticQuantizer(place=place) for place in ("input", "features")], recipe.seed
            )
        set_declared(network, "quantized_fraction", 0.5)
        train = recipe.train.model_validate({**recipe.train.model_dump(by_alias=True), "objective": tables})
        columns[name] = _step(network, recipe, x, y, train.objectives)
    best = interleaved(columns, rounds)
    print(f"{recipe.name}, batch {len(x)}, best of {rounds}, {len(os.sched_getaffinity(0))} processors\n")
    print("| | step | times plain | processor time | times plain | at most | |\n|---|---|---|---|---|---|---|")
    missed = False
    for name, (clock, processor) in best.items():
        shares = (clock / best["plain"].clock, processor / best["plain"].processor)
        cells = f"| {name} | {1000 * clock:,.1f} ms | {shares[0]:.2f} | {1000 * processor:,.1f} ms | {shares[1]:.2f} |"
        if name in wanted:
            missed |= shares[1] > wanted[name][0]
            cells += f" {wanted[name][0]} | {'MISSED' if shares[1] > wanted[name][0] else 'met'} |"
        print(cells)
    return int(missed)


def _packed(network: keras.Model, precision: Precision) -> int:
    """Bytes of the packed weights."""
    layers = sizes_of(network, precision).layers
    return sum(layer.bytes_in(layer.format) for layer in layers if layer.format is not None)


def _precisions() -> dict[str, Precision]:
    """By names such as `weights lsq (8 bits)`; `float` first."""
    found = {"float": FLOAT}
    for seam, union in (("weights", Weights), ("activations", Activations)):
        for kind, table in members(union).items():
            bits = table.model_fields.get("bits")
            least = next((one.ge for one in bits.metadata if hasattr(one, "ge")), 1) if bits else 1
            for settings in ({"bits": bits.default}, {"bits": least}) if bits else ({},):
                name = f"{seam} {kind}" + "".join(f" ({value} bits)" for value in settings.values())
                rule = {"layers": ".*", "weights": "float", "activations": "float", seam: {"kind": kind, **settings}}
                if kind != "float":
                    found[name] = Precision.model_validate({"rule": (rule,)})
    return found


def interleaved(columns: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Best]:
    """The shortest times of each, which take turns."""
    best = dict.fromkeys(columns, Best(math.inf, math.inf))
    for _ in range(rounds):
        for name, run in columns.items():
            clock, processor = time.perf_counter(), time.process_time()
            run()
            taken = (time.perf_counter() - clock, time.process_time() - processor)
            best[name] = Best(*map(min, best[name], taken))
    return best


def measure(recipe: Recipe, images: Split, rounds: int) -> dict[str, Best]:
    """The shortest times of every step, and of a batch."""
    batches = Batches(images, recipe.data.augment, recipe.train.batch_size, recipe.seed)
    shape, classes = images.x.shape[1:], int(images.y.max()) + 1
    ours = build(recipe, shape, classes)
    set_declared(ours, "quantized_fraction", 0.5)
    networks = {
        "float": build(recipe.model_copy(update={"precision": FLOAT}), shape, classes),
        "stochastic ternary": ours,
        "QKeras ternary": _stock(ours),
    }
    x, y = batches[0]
    columns = {name: _step(network, recipe, x, y) for name, network in networks.items()}
    counter = iter(range(10**9))
    columns["batch"] = lambda: batches[next(counter) % len(batches)]
    return interleaved(columns, rounds)


def _step(
    network: keras.Model, recipe: Recipe, x: Any, y: Any, trained_for: Sequence[ObjectiveTable] = LABELS
) -> Callable[[], Any]:
    """One optimizer step on the batch; traced and warm."""
    seed_everything(recipe.seed)
    built = build_objectives(trained_for, Supplies(recipe.seed, recipe.train.label_smoothing))
    learner = compiled(network, built, recipe.train, 10_000)
    for _ in range(2):
        learner.train_on_batch(x, y)
    return lambda: learner.train_on_batch(x, y)


def _stock(network: keras.Model) -> keras.Model:
    """The network with QKeras' own layers and `ternary` where it has a stochastic quantizer."""

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if not isinstance(getattr(layer, "weight_quantizer", None), StochasticTernary):
            return type(layer).from_config(config)
        prefix = layer._prefix
        # QKeras' default: latent weights are clipped to [-1, 1].
        config |= {f"{prefix}_quantizer": qkeras.ternary(alpha="auto"), f"{prefix}_constraint": None}
        return STOCK[type(layer)](**config)

    return keras.models.clone_model(network, clone_function=clone)


def _images(recipe: Recipe, data_dir: Path | None) -> Split:
    if data_dir:
        return load(recipe.data, recipe.seed, data_dir).train
    random = np.random.default_rng(0)
    shape = (5120, 32, 32, 1 if recipe.data.color == "gray" else 3)
    return Split(random.integers(0, 256, shape, np.uint8), random.integers(0, 10, shape[0]))


if __name__ == "__main__":
    sys.exit(main())
