"""Other networks beside a run's, on the same data under the same attacks: what a defence buys, and at what price."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from tinyrobust.attacks.specs import Norm
from tinyrobust.errors import RunFolderError
from tinyrobust.reports import formats, svg, tables
from tinyrobust.robustness.robustness_record import ALL, Proportion, RobustnessRecord

_PREFIX = "beside-"


@dataclass(frozen=True)
class Row:
    """A network: its accuracy on the whole test set, and its worst case at each epsilon of the run; None where not measured."""

    name: str
    protocol: str
    accuracy: Proportion
    cells: list[Proportion | None]


def keep(folder: Path, record: RobustnessRecord, other: Path) -> None:
    """Copies what an evaluation found of another network into a run's folder, where the report looks for it.

    Args:
        folder: Of the run.
        record: What was found of the run's own network.
        other: The folder of another run, of the zoo, or of an attack.

    Raises:
        RunFolderError: The other's record cannot be read, or is of other data or of another norm: nothing can be compared.
    """
    theirs = RobustnessRecord.load(other / "robustness.json")
    same = ("dataset", "dataset_fingerprint", "domain", "headline_norm")
    if differing := [key for key in same if getattr(record, key) != getattr(theirs, key)]:
        words = ", ".join(f"{key}: {getattr(theirs, key)} instead of {getattr(record, key)}" for key in differing)
        raise RunFolderError(
            f"Expected {other} to be attacked on the data of {folder}. Received {words}",
            hint="Only what was measured on the same test images can stand side by side.",
        )
    theirs.save(folder / f"{_PREFIX}{other.resolve().name}" / "robustness.json")


def found(folder: Path) -> dict[str, RobustnessRecord]:
    """The records of the networks that stand beside a run's, by the name of their folder."""
    paths = sorted(folder.glob(f"{_PREFIX}*/robustness.json"))
    return {path.parent.name.removeprefix(_PREFIX): RobustnessRecord.load(path) for path in paths}


def rows(name: str, record: RobustnessRecord, others: Mapping[str, RobustnessRecord]) -> list[Row]:
    """The run's network and the others, at the epsilons of the run."""
    norm = record.headline_norm
    listed = []
    for label, one in {name: record, **others}.items():
        worst = _worst(one, norm)
        _, accuracy = tables.flashed_accuracy(one)
        listed.append(Row(label, one.protocol, accuracy, [worst.get(epsilon) for epsilon in record.epsilons[norm]]))
    return listed


def curves(name: str, record: RobustnessRecord, others: Mapping[str, RobustnessRecord]) -> Markup:
    """Worst-case robust accuracy against epsilon, a line a network, with its interval."""
    norm = record.headline_norm

    def paint(axes: Axes) -> None:
        for number, (label, one) in enumerate({name: record, **others}.items()):
            worst = _worst(one, norm)
            xs, shares = list(worst), list(worst.values())
            color = svg.SERIES[number % len(svg.SERIES)]
            axes.fill_between(xs, [s.low for s in shares], [s.high for s in shares], color=color, alpha=0.13, linewidth=0)
            marker = svg.MARKERS[number % len(svg.MARKERS)]
            axes.plot(xs, [s.value for s in shares], color=color, marker=marker, markersize=4.5, linewidth=1.8, label=label)
        axes.set(xlabel=f"{tables.norm_name(norm)} epsilon", ylabel="robust accuracy, worst case", ylim=(-0.02, 1.02))
        axes.set_xticks(record.epsilons[norm], [formats.epsilon(value) for value in record.epsilons[norm]])
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.legend(loc="upper right")

    title = f"Worst-case robust accuracy in {tables.norm_name(norm)} of {', '.join([name, *others])}."
    return svg.draw("beside", title, paint, height=310)


def _worst(record: RobustnessRecord, norm: Norm) -> dict[float, Proportion]:
    """Worst case over all targets by epsilon, where something was attacked."""
    (row,) = [row for row in tables.worst_rows(record, norm) if row.target == ALL]
    return {epsilon: share for epsilon, share in zip(record.epsilons[norm], row.cells, strict=True) if share}
