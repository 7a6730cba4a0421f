"""Our C on emulated boards beside goals (goals.toml) and what others need for the same files (peers.toml).

`python benchmarks/device.py [--peers FOLDER] [--field FOLDER]`: of every file flash, RAM, instructions, modelled cycles, and
instructions a MAC layer by layer; of files with goals on all boards. Peers' figures are read, never recomputed; ours are
measured here. The exit status is 1 when a goal is missed or an output differs. `--model NAME` and `--board NAME` choose some,
`--json FILE` writes every figure.
"""

import argparse
import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyrobust.deploy import device, probing
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.deploy_records import DeviceLayer, DeviceRecord
from tinyrobust.errors import ModelFileError, TinyRobustError
from tinyrobust.footprint.boards import boards as real_boards

CHECKOUT = Path(__file__).resolve().parent.parent
SHARED = CHECKOUT.parent / "shared"
M3, M4, M7, M55 = "mps2-an385", "mps2-an386", "mps2-an500", "mps3-an547"
BOARDS = (M3, M4, M7, M55)
CHIP = "nucleo-l4r5zi"  # what MLPerf Tiny's results are of
INPUTS = 16
OWN = "own"
TERNARY = "cifar10-stq"  # what the binary network is compared with


@dataclass(frozen=True)
class Goal:
    """A figure of ours, the most it may be, and what it is compared with."""

    model: str
    what: str
    ours: float
    most: float
    peers: str = ""

    @property
    def met(self) -> bool:
        return self.ours <= self.most

    def row(self) -> str:
        ours, most = (f"{value:,.2f}" if isinstance(self.most, float) else f"{value:,}" for value in (self.ours, self.most))
        return f"| {self.model} | {self.what} | {ours} | {most} | {'met' if self.met else 'MISSED'} | {self.peers} |"


GOALS_HEAD = "| model | | ours | goal | | others |\n|---|---|---:|---:|---|---|"


class Measured:
    """The builds of one model, each made when it is asked for first."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.artefact = read(path)
        self._inputs = probing.probes(self.artefact, INPUTS)
        self._records: dict[tuple[str, str], DeviceRecord] = {}

    def __call__(self, board: str = M4, optimisation: Any = "-Os") -> DeviceRecord:
        if (board, optimisation) not in self._records:
            record = device.measure(self.path, self._inputs, board=board, optimisation=optimisation, cycles=board == M4)
            self._records[board, optimisation] = record
        return self._records[board, optimisation]

    def fewest(self, board: str = M4) -> int:
        """Instructions of an inference, -Os or -O2."""
        return min(self(board, optimisation).instructions for optimisation in ("-Os", "-O2"))

    def worst(self, of: Callable[[DeviceLayer], bool]) -> float:
        """Instructions a MAC of the worst such layer, -O2."""
        return max(layer.instructions / layer.macs for layer in self(M4, "-O2").layers if layer.macs and of(layer))

    def pointwise(self, layer: DeviceLayer) -> bool:
        """Whether a layer is a convolution of 1x1 pixels."""
        for one in self.artefact.operators:
            if self.artefact.tensors[one.outputs[0]].name.split(";", 1)[0] == layer.name and one.name == "CONV_2D":
                return tuple(self.artefact.tensors[one.inputs[1]].shape[1:3]) == (1, 1)
        return False


FIGURES: dict[str, tuple[str, Callable[[Measured], float]]] = {
    "flash": ("Flash, M4 -Os, B", lambda one: one().flash),
    "flash_beyond_weights": (
        "Flash beyond the weights, M4 -Os, B",
        lambda one: one().flash - sum(layer.weight_bytes for layer in one().layers),
    ),
    "static_ram": ("Static RAM, B", lambda one: one().static_ram),
    "ram": ("RAM with stack, B", lambda one: one().ram),
    "instructions": ("Instructions, M4", Measured.fewest),
    "instructions_m3": ("Instructions, M3 (no DSP)", lambda one: one.fewest(M3)),
    "instructions_m55_of_m4": ("Instructions, M55 of M4's", lambda one: one.fewest(M55) / one.fewest()),
    "instructions_a_mac": (
        "Instructions a MAC, M4",
        lambda one: one.fewest() / sum(layer.macs for layer in one().layers),
    ),
    "dense_a_mac": ("A MAC, worst ternary dense", lambda one: one.worst(_ternary_dense)),
    "depthwise_a_mac": ("A MAC, worst depthwise", lambda one: one.worst(lambda layer: layer.op.startswith("DEPTHWISE"))),
    "pointwise_a_mac": ("A MAC, worst pointwise", lambda one: one.worst(one.pointwise)),
    "instructions_of_ternary": ("Instructions of ternary's", lambda one: one.fewest() / zoo(TERNARY).fewest()),
    "flash_of_ternary": ("Flash of ternary's", lambda one: one().flash / zoo(TERNARY)().flash),
}


def _ternary_dense(layer: DeviceLayer) -> bool:
    return layer.op.startswith("FULLY_CONNECTED") and layer.weights == "trit"


def zoo(name: str) -> Measured:
    """A model of the zoo, measured once."""
    if name not in ZOO:
        ZOO[name] = Measured(CHECKOUT / "models" / name / "model.tflite", name)
    return ZOO[name]


ZOO: dict[str, Measured] = {}


def goals_of(ours: Measured, wanted: dict[str, float], peers: dict[str, Any]) -> Iterator[Goal]:
    """The goals of a model, each with what others need."""
    for key, most in wanted.items():
        title, figure = FIGURES[key]
        yield Goal(ours.name, title, figure(ours), most, _others(ours.name, key, peers))


def _others(name: str, key: str, peers: dict[str, Any]) -> str:
    tflm = next((one for one in peers["tflm"] if one["model"] == name), None)
    if key == "instructions":
        counts = (
            tflm["instructions"]["o2_cmsis_nn"]
            if tflm
            else next((one["instructions"] for one in peers["cmsis_nn"] if one["model"] == name), None)
        )
        return f"CMSIS-NN {counts:,}" if counts else ""
    if tflm and key == "flash":
        return f"TFLM {tflm['flash']['os_reference']:,}"
    return f"TFLM's arena head {tflm['arena_reference']['head']:,}" if tflm and key.endswith("ram") else ""


def stochastic_ternary(ours: Measured) -> Iterator[Goal]:
    """The goal for a network of our own: what the weights need, ten bytes a channel, and ten kilobytes of code."""
    packed = sum(layer.weight_bytes for layer in ours().layers)
    with_weights = [o for o in ours.artefact.operators if o.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    channels = sum(ours.artefact.tensors[o.outputs[0]].shape[-1] for o in with_weights)
    peers = f"the .tflite {ours.artefact.size:,}"
    yield Goal(ours.name, "Flash, M4 -Os, B", ours().flash, packed + 10 * channels + 10_240, peers)


def show(ours: Measured, goals: list[Goal], boards: Sequence[str], peers: dict[str, Any]) -> dict[str, Any]:
    """Prints a model's tables, and gives what is in them; `good` is whether all goals are met and all outputs equal."""
    records = [ours(board, optimisation) for board in boards for optimisation in ("-Os", "-O2")]
    print(f"\n## {ours.name}")
    if goals:
        print("\n".join(("", GOALS_HEAD, *(goal.row() for goal in goals))))
    print("\n| board | | equal outputs | flash | static RAM | stack | instructions |\n|---|---|---:|---:|---:|---:|---:|")
    for one in records:
        figures = " | ".join(f"{figure:,}" for figure in (one.flash, one.static_ram, one.stack, one.instructions))
        print(f"| {one.board} | {one.optimisation} | {one.equal} of {one.n} | {figures} |")
    show_cycles(ours, peers)
    print("\n| layer (M4 -O2) | kernel | weights | bytes | MACs | instructions | per MAC |\n|---|---|---|---:|---:|---:|---:|")
    for layer in ours(M4, "-O2").layers:
        share = f"{layer.instructions / layer.macs:.2f}" if layer.macs else ""
        figures = f"{layer.weight_bytes:,} | {layer.macs:,} | {layer.instructions:,} | {share}"
        print(f"| {layer.op} | {layer.kernel} | {layer.weights} | {figures} |")
    return {
        "model": ours.name,
        "good": all(goal.met for goal in goals) and all(one.equal == one.n for one in records),
        "goals": [asdict(goal) | {"met": goal.met} for goal in goals],
        "builds": [one.model_dump(mode="json", by_alias=True) for one in records],
    }


def show_cycles(ours: Measured, peers: dict[str, Any]) -> None:
    """Modelled cycles of both cores, with the flash of a real chip, beside those that others have published for that chip."""
    (chip,) = real_boards([CHIP])
    print(f"\n| modelled cycles | | at least | at most | {chip.chip}, {chip.clock_mhz} MHz, no cache | published for it |")
    print("|---|---|---:|---:|---:|---|")
    published = [f"{one['what']} {one['cycles'][ours.name]:,}" for one in peers["published"] if ours.name in one["cycles"]]
    for optimisation in ("-Os", "-O2"):
        record = ours(M4, optimisation)
        if record.cycles_missing:
            print(f"| not modelled: {record.cycles_missing} | {optimisation} | | | | |")
        for one in record.cycles:
            same = chip.core.startswith(one.core)
            slow = f"{one.without_cache(chip.flash_wait_states or 0, chip.flash_line_bits or 64):,}" if same else ""
            beside = "; ".join(published) if same else ""
            print(f"| {one.core} | {optimisation} | {one.low:,} | {one.high:,} | {slow} | {beside} |")


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
    parser.add_argument("--peers", type=Path, default=SHARED / "peers", help="folder of the peers' .tflite files")
    parser.add_argument(
        "--field", type=Path, default=SHARED / "field" / "models", help="folder of .tflite files from the field"
    )
    parser.add_argument(
        "--own", type=Path, help="a .tflite of ours; default: the zoo's cifar10-stq, else one trained for a minute"
    )
    parser.add_argument("--model", action="append", help="only the file of this name, or `own`; repeatable; default: all")
    parser.add_argument("--board", action="append", choices=BOARDS, help="only this board's builds; repeatable; default: all")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args(arguments)
    here = CHECKOUT / "benchmarks"
    goals, peers = (tomllib.loads((here / name).read_text()) for name in ("goals.toml", "peers.toml"))
    print("# On the device: instructions are emulated, cycles modelled, bytes are those of the linked program")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files(options, goals).items():
            if options.model and name not in options.model:
                continue
            try:
                ours = ZOO.setdefault(name, Measured(path or options.own or own_network(Path(folder)), name))
                wanted = list(stochastic_ternary(ours)) if name == OWN else list(goals_of(ours, goals.get(name, {}), peers))
                found.append(show(ours, wanted, (options.board or BOARDS) if wanted else [M4], peers))
            except TinyRobustError as error:
                said = str(error).partition(". The C is")[0].replace(str(path), name)
                print(f"\n## {name}\n\nNo figures: {said}")
                found.append({"model": name, "good": isinstance(error, ModelFileError), "goals": [], "builds": []})
    print("\n".join(("\n## Goals\n", GOALS_HEAD, *(Goal(*_fields(goal)).row() for one in found for goal in one["goals"]))))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(one["good"] for one in found) else 1


def files(options: argparse.Namespace, goals: dict[str, Any]) -> dict[str, Path | None]:
    """What is measured, by name: files with goals first, then the others; our own network, which may have to be made, last."""
    found = {path.stem: path for folder in (options.peers, options.field) for path in sorted(folder.glob("*.tflite"))}
    found |= {name: path for name in goals if (path := CHECKOUT / "models" / name / "model.tflite").is_file()}
    return dict(sorted(found.items(), key=lambda item: (item[0] not in goals, item[0]))) | {OWN: None}


def _fields(goal: dict[str, Any]) -> Iterator[Any]:
    return (goal[name] for name in ("model", "what", "ours", "most", "peers"))


if __name__ == "__main__":
    sys.exit(main())
