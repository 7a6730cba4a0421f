"""Our C on emulated boards, side by side with what others need for the same files (peers.toml): `python benchmarks/device.py`.

Peers' figures are read, never recomputed; ours are measured here. The exit status is 1 when a goal is missed.
`--model NAME` and `--board NAME` choose some, `--json FILE` writes every figure.
"""

import argparse
import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyrobust.deploy import device, probing
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.deploy_records import DeviceRecord

CHECKOUT = Path(__file__).resolve().parent.parent
M3, M4, M7, M55 = "mps2-an385", "mps2-an386", "mps2-an500", "mps3-an547"
BOARDS = (M3, M4, M7, M55)
INPUTS = 16
OWN = "own"


@dataclass(frozen=True)
class Goal:
    """A figure of ours, the most it may be, and what it is compared with."""

    what: str
    ours: int
    most: int
    peers: str

    @property
    def met(self) -> bool:
        return self.ours <= self.most


class Measured:
    """The builds of one model, each made when it is asked for first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inputs = probing.probes(read(path), INPUTS)
        self._records: dict[tuple[str, str], DeviceRecord] = {}

    def __call__(self, board: str = M4, optimisation: Any = "-Os") -> DeviceRecord:
        if (board, optimisation) not in self._records:
            record = device.measure(self.path, self._inputs, board=board, optimisation=optimisation)
            self._records[board, optimisation] = record
        return self._records[board, optimisation]

    def fewest(self, board: str) -> int:
        """Instructions of an inference, -Os or -O2."""
        return min(self(board, optimisation).instructions for optimisation in ("-Os", "-O2"))


def ternary(ours: Measured, peer: dict[str, Any]) -> Iterator[Goal]:
    """The goals for the ternary keyword spotter."""
    flash, runs = peer["flash"], peer["instructions"]
    tflm = f"TFLM {flash['os_reference']:,}; as int4 and stripped {peer['best_flash']:,}"
    yield Goal("Flash, M4 -Os, B", ours().flash, 13_600, tflm)
    yield Goal("Static RAM, B", ours().static_ram, 13_000, f"TFLM's arena head {peer['arena_reference']['head']:,}")
    yield Goal("Instructions, M4", ours.fewest(M4), 3_000_000, _runs(runs))
    yield Goal("Instructions, M3 (no DSP)", ours.fewest(M3), 6_000_000, "-")


def int8(most_ram: int) -> Any:
    """The goals for a network with int8 weights."""

    def goals(ours: Measured, peer: dict[str, Any]) -> Iterator[Goal]:
        flash, runs = peer["flash"], peer["instructions"]
        yield Goal("Flash, M4 -Os, B", ours().flash, flash["os_reference"] * 6 // 10, f"TFLM {flash['os_reference']:,}")
        heads = f"TFLM's arena head {peer['arena_reference']['head']:,}"
        yield Goal("RAM with stack, B", ours().ram, most_ram, heads)
        yield Goal("Instructions, M4", ours.fewest(M4), runs["o2_cmsis_nn"], _runs(runs))

    return goals


GOALS = {"ds-cnn-ternary": ternary, "mlperf-tiny-kws": int8(14_000), "mlperf-tiny-ic": int8(40_000)}


def stochastic_ternary(ours: Measured) -> Iterator[Goal]:
    """The goal for a network of our own: what the weights need, ten bytes a channel, and ten kilobytes of code."""
    record = ours()
    packed = sum(layer.weight_bytes for layer in record.layers)
    artefact = read(ours.path)
    with_weights = [o for o in artefact.operators if o.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    channels = sum(artefact.tensors[o.outputs[0]].shape[-1] for o in with_weights)
    yield Goal("Flash, M4 -Os, B", record.flash, packed + 10 * channels + 10_240, f"the .tflite {artefact.size:,}")


def show(ours: Measured, goals: list[Goal], boards: Sequence[str]) -> dict[str, Any]:
    """Prints a model's tables, and gives what is in them; `good` is whether all goals are met and all outputs equal."""
    print(f"\n## {ours.path.stem}\n\n| | ours | goal | | others |\n|---|---:|---:|---|---|")
    for goal in goals:
        print(f"| {goal.what} | {goal.ours:,} | {goal.most:,} | {'met' if goal.met else 'MISSED'} | {goal.peers} |")
    print("\n| board | | equal outputs | flash | static RAM | stack | instructions |\n|---|---|---:|---:|---:|---:|---:|")
    records = [ours(board, optimisation) for board in boards for optimisation in ("-Os", "-O2")]
    for one in records:
        figures = " | ".join(f"{figure:,}" for figure in (one.flash, one.static_ram, one.stack, one.instructions))
        print(f"| {one.board} | {one.optimisation} | {one.equal} of {one.n} | {figures} |")
    print("\n| layer (M4 -O2) | kernel | weights | bytes | MACs | instructions | per MAC |\n|---|---|---|---:|---:|---:|---:|")
    for layer in ours(M4, "-O2").layers:
        share = f"{layer.instructions / layer.macs:.2f}" if layer.macs else ""
        figures = f"{layer.weight_bytes:,} | {layer.macs:,} | {layer.instructions:,} | {share}"
        print(f"| {layer.op} | {layer.kernel} | {layer.weights} | {figures} |")
    return {
        "model": ours.path.stem,
        "good": all(goal.met for goal in goals) and all(one.equal == one.n for one in records),
        "goals": [asdict(goal) | {"met": goal.met} for goal in goals],
        "builds": [one.model_dump(mode="json", by_alias=True) for one in records],
    }


def own_network(folder: Path) -> Path:
    """`cifar10-stq` when the zoo has its file, else a small network of the same kind, trained for a minute in `folder`."""
    flashed = CHECKOUT / "models" / "cifar10-stq" / "model.tflite"
    return flashed if flashed.is_file() else trained(folder)


def trained(folder: Path) -> Path:
    """`digits-stq`, trained for a minute in `folder`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tinyrobust
    from tinyrobust import recipe

    settings = [
        "train.epochs=4",
        "precision.rule.-1.weights.starts=[0.0, 0.25, 0.5, 0.75]",
        "export.accuracy_drop=10",
        "export.agreement=0.8",
    ]
    return Path(tinyrobust.run(recipe.load("digits-stq", settings), until="export", runs_dir=folder).path) / "model.tflite"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers", type=Path, default=CHECKOUT.parent / "shared" / "peers", help="folder of the peers' .tflite files"
    )
    parser.add_argument(
        "--own", type=Path, help="a .tflite of ours; default: the zoo's cifar10-stq, else one trained for a minute"
    )
    parser.add_argument("--model", action="append", choices=(*GOALS, OWN), help="only this one; repeatable; default: all")
    parser.add_argument("--board", action="append", choices=BOARDS, help="only this board's builds; repeatable; default: all")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args(arguments)
    models, boards = options.model or (*GOALS, OWN), options.board or BOARDS
    figures = tomllib.loads((CHECKOUT / "benchmarks" / "peers.toml").read_text())
    best = {one["model"]: one["flash"] for one in figures["variants"] if "best" in one["what"]}
    print("# On the device: instructions are emulated (not cycles), bytes are those of the linked program")
    found = []
    for peer in (one for one in figures["tflm"] if one["model"] in models):
        ours = Measured(options.peers / f"{peer['model']}.tflite")
        goals = GOALS[peer["model"]](ours, peer | {"best_flash": best.get(peer["model"])})
        found.append(show(ours, list(goals), boards))
    if OWN in models:
        with tempfile.TemporaryDirectory() as folder:
            ours = Measured(options.own or own_network(Path(folder)))
            found.append(show(ours, list(stochastic_ternary(ours)), boards))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(one["good"] for one in found) else 1


def _runs(instructions: dict[str, int]) -> str:
    return f"CMSIS-NN {instructions['o2_cmsis_nn'] / 1e6:.1f} M; TFLM reference {instructions['o2_reference'] / 1e6:.1f} M"


if __name__ == "__main__":
    sys.exit(main())
