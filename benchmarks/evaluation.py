"""What a whole evaluation costs, and where the time goes.

    python benchmarks/evaluation.py RUN --samples 1000 --jobs 2 --output FOLDER

attacks a run with the adaptive protocol through the public interface and prints a table. It can be interrupted: what is done
stays in FOLDER. CPU seconds stand beside the seconds by the clock: divided by the cores they say what a machine with nothing
else to do needs at least.

    python benchmarks/evaluation.py RUN --growth cost.png

measures small evaluations, each in a process of its own, one of images, steps and epsilons doubled at a time, and draws them.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import tinyrobust
from tinyrobust.assets import protocols
from tinyrobust.robustness.robustness_record import RobustnessRecord

# What grows, and the small evaluation that it grows from.
GROWTH: dict[str, Sequence[int]] = {"images": (32, 64, 128), "steps": (5, 10, 20), "epsilons": (1, 2, 3)}
BASE = {name: values[0] for name, values in GROWTH.items()}
SQUARES = 50  # squares for a step of the other attacks, as in the adaptive protocol
TARGET = 1000  # images that small evaluations are scaled to


def main() -> None:
    """Attacks and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--epsilon", type=float, action="append", help="an L-inf radius; repeatable; 8/255 when absent")
    parser.add_argument("--samples", type=int, default=TARGET)
    parser.add_argument(
        "--steps", type=int, help="of every gradient attack, and a fiftieth of Square's; the protocol's when absent"
    )
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, help="a temporary folder when absent")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--growth", type=Path, metavar="PNG", help="measure how the cost grows, and draw it there")
    parser.add_argument("--json", action="store_true", help="print the costs alone")
    options = parser.parse_args()
    options.epsilon = options.epsilon or [8 / 255]
    if options.growth:
        grow(options)
        return
    cost, record = evaluated(options)
    if options.json:
        print(json.dumps(cost))
    else:
        show(cost, record, options)


def evaluated(options: argparse.Namespace) -> tuple[dict[str, float], RobustnessRecord]:
    """The evaluation, and what it cost: seconds, CPU seconds, MB of memory of this process and of the largest other one."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        record = tinyrobust.attack(
            options.run,
            protocol=str(_protocol(options.steps, Path(scratch))),
            epsilons=options.epsilon,
            samples=options.samples,
            data_dir=options.data_dir,
            output=options.output or Path(scratch) / "attack",
            grid=False,
            jobs=options.jobs,
            progress=_tell,
        )
    seconds = time.perf_counter() - start
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in usage)
    return {
        "seconds": seconds,
        "cpu": cpu,
        "attacking": record.seconds,
        "memory": usage[0].ru_maxrss / 1024,
        "workers": usage[1].ru_maxrss / 1024,
    }, record


def show(cost: dict[str, float], record: RobustnessRecord, options: argparse.Namespace) -> None:
    """The table of where the time went."""
    print(f"\n{options.run.name}: {record.headline.count} of {record.headline.n} images stand, {len(record.epsilons)} epsilons")
    print(f"{cost['seconds']:.0f} s by the clock, {cost['cpu']:.0f} CPU s, {options.jobs} jobs")
    print(f"peak memory {cost['memory']:.0f} MB, of a worker {cost['workers']:.0f} MB\n")
    rows: dict[str, list[float]] = {}
    for result in record.attacks:
        row = rows.setdefault(result.attack, [0, 0, 0, 0, 0])
        # Targets that examples are carried over to get the same samples.
        row[0] = max(row[0], result.given)
        for place, value in enumerate((result.seconds, result.queries, result.forward, result.backward), start=1):
            row[place] += value
    rest = record.seconds - sum(row[1] for row in rows.values())
    print("| attack | samples | s | % | queries | forward | backward |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, (given, seconds, queries, forward, backward) in rows.items():
        share = 100 * seconds / record.seconds
        print(f"| {name} | {given:.0f} | {seconds:.1f} | {share:.1f} | {queries:,.0f} | {forward:,.0f} | {backward:,.0f} |")
    print(f"| checks | | {rest:.1f} | {100 * rest / record.seconds:.1f} | | | |")
    if options.samples < TARGET:
        many = TARGET / options.samples / 60
        print(f"\nScaled to {TARGET} images: {cost['cpu'] * many:.0f} CPU min, {record.seconds * many:.0f} min of attacks.")


def grow(options: argparse.Namespace) -> None:
    """Small evaluations: a table, and a picture."""
    found: dict[str, list[dict[str, float]]] = {}
    print("| | | CPU s | s | MB |\n|---|---:|---:|---:|---:|")
    base: dict[str, float] | None = None
    for name, values in GROWTH.items():
        found[name] = []
        for value in values:
            cost = base if base and value == BASE[name] else _small(options, {**BASE, name: value})
            base = base or cost
            found[name].append(cost)
            print(f"| {name} | {value} | {cost['cpu']:.0f} | {cost['seconds']:.0f} | {cost['memory']:.0f} |", flush=True)
    figure, axes = plt.subplots(1, len(GROWTH), figsize=(10, 3), layout="constrained")
    for axis, (name, values) in zip(axes, GROWTH.items(), strict=True):
        cpu, memory = ([cost[key] for cost in found[name]] for key in ("cpu", "memory"))
        slope, start = np.polyfit(values, cpu, 1)
        axis.plot(values, cpu, "o", color="tab:blue")
        axis.plot((0, values[-1]), (start, start + slope * values[-1]), ":", color="tab:blue")
        axis.set(xlabel=name, ylabel="CPU s", xlim=0, ylim=0)
        beside = axis.twinx()
        beside.plot(values, memory, "s-", color="tab:orange")
        beside.set(ylabel="peak memory, MB", ylim=(0, 1.3 * max(memory)))
        print(f"{name}: {start:.0f} CPU s and {slope:.2f} for each")
    figure.savefig(options.growth, dpi=120)


def _small(options: argparse.Namespace, size: dict[str, int]) -> dict[str, float]:
    """The cost of an evaluation in a process of its own, whose peak memory is its own."""
    epsilons = sorted([*options.epsilon, max(options.epsilon) / 2, max(options.epsilon) / 4])[-size["epsilons"] :]
    command = [sys.executable, __file__, str(options.run), "--json", "--samples", str(size["images"])]
    command += ["--steps", str(size["steps"]), *(word for epsilon in epsilons for word in ("--epsilon", str(epsilon)))]
    command += [] if options.data_dir is None else ["--data-dir", str(options.data_dir)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    cost: dict[str, float] = json.loads(said.splitlines()[-1])
    return cost


def _protocol(steps: int | None, folder: Path) -> Path:
    """The adaptive protocol, with so many steps."""
    whole = protocols()["adaptive"]
    if steps is None:
        return whole
    text = whole.read_text(encoding="utf-8")
    text = re.sub(r'^(kind = "(?:apgd|apgd-t|fab)")$', rf"\1\nsteps = {steps}", text, flags=re.MULTILINE)
    text = re.sub(r"^iterations = \d+$", f"iterations = {SQUARES * steps}", text, flags=re.MULTILINE)
    path = folder / "adaptive.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _tell(label: str, done: int, total: int, **_: Any) -> None:
    print(f"{done}/{total} {label}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
