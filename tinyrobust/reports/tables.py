"""What the templates show as tables and key figures, computed from the records."""

from dataclasses import dataclass

from tinyrobust.footprint.record import DeviceFootprint, Quantity
from tinyrobust.reports import formats
from tinyrobust.reports.evidence import Evidence
from tinyrobust.robustness.record import Proportion, RobustnessRecord

ALL = "all"  # the name of the worst case over targets in the record


@dataclass(frozen=True)
class CurveRow:
    """One row of the robustness matrix: robust accuracy at each epsilon of the record, None where it was not measured."""

    target: str
    attack: str
    crafted_on: str
    cells: list[Proportion | None]


def attack_rows(record: RobustnessRecord) -> list[CurveRow]:
    """A row for every attack on every target, targets together."""
    ways = dict.fromkeys((row.target, row.attack, row.crafted_on) for row in record.attacks)
    found = {(row.target, row.attack, row.crafted_on, row.epsilon): row.robust for row in record.attacks}
    targets = list(dict.fromkeys(target for target, _, _ in ways))
    return [
        CurveRow(*way, [found.get((*way, epsilon)) for epsilon in record.epsilons])
        for way in sorted(ways, key=lambda way: targets.index(way[0]))
    ]


def worst_rows(record: RobustnessRecord) -> list[CurveRow]:
    """The worst case of every target, and of all together last."""
    found = {(row.target, row.epsilon): row.robust for row in record.worst}
    targets = sorted(dict.fromkeys(row.target for row in record.worst), key=lambda target: target == ALL)
    return [CurveRow(target, "", "", [found.get((target, epsilon)) for epsilon in record.epsilons]) for target in targets]


def board_times(device: DeviceFootprint) -> dict[str, Quantity]:
    """How long one inference takes, by board; boards that run other instructions have no estimate."""
    return {one.board: one.time for one in device.times}


def targets(record: RobustnessRecord) -> list[str]:
    """The targets in the record's order."""
    return [row.target for row in record.clean]


def attack_names(record: RobustnessRecord) -> list[str]:
    """The attacks in the record's order."""
    return list(dict.fromkeys(row.attack for row in record.attacks))


def norms(record: RobustnessRecord) -> str:
    """The norms of the attacks in words."""
    words = {"linf": "L∞", "l2": "L2", "l1": "L1"}
    return ", ".join(dict.fromkeys(words[row.norm] for row in record.attacks))


def test_accuracy(evidence: Evidence) -> tuple[str, Proportion] | None:
    """Target and accuracy on the test set of what is flashed; of the first target where the file was not attacked."""
    if evidence.robustness is None or not evidence.robustness.clean:
        return None
    rows = {row.target: row.test for row in evidence.robustness.clean}
    target = "int8" if "int8" in rows else next(iter(rows))
    return target, rows[target]


def warnings(evidence: Evidence) -> list[str]:
    """What makes a figure doubtful: the evaluation's warnings, and a parity that does not hold."""
    found = list(evidence.robustness.warnings) if evidence.robustness else []
    return found + [
        f"Parity does not hold: {check.name} is beyond its tolerance." for check in parity_checks(evidence) if not check.holds
    ]


@dataclass(frozen=True)
class Check:
    """One agreement of the export chain."""

    name: str
    value: str
    tolerance: str
    holds: bool


def parity_checks(evidence: Evidence) -> list[Check]:
    """The agreements that the export demands, each with its tolerance."""
    record = evidence.parity
    if record is None:
        return []
    most = max((kernel.most_values_per_channel for kernel in record.ternary_kernels), default=0)
    checks = [
        Check(
            "Twin against QKeras, relative error",
            formats.small(record.twin_relative_error),
            f"must be at most {formats.small(record.twin_tolerance)}",
            record.twin_relative_error <= record.twin_tolerance,
        ),
        Check(
            "Accuracy lost from QKeras to int8",
            f"{record.accuracy_drop_points:.2f} points".replace("-", "\u2212"),
            f"must be at most {record.accuracy_drop_tolerance:.2f} points",
            record.accuracy_drop_points <= record.accuracy_drop_tolerance,
        ),
        Check(
            "Images on which both name the same class",
            formats.percent(record.top1_agreement, 2),
            f"must be at least {formats.percent(record.top1_tolerance)}",
            record.top1_agreement >= record.top1_tolerance,
        ),
    ]
    checks.append(
        Check(
            f"Weight farthest from the twin's, in {record.worst_kernel}",
            f"{formats.small(record.kernel_error_steps)} steps",
            f"must be at most {formats.small(record.kernel_error_tolerance)} steps",
            record.kernel_error_steps <= record.kernel_error_tolerance,
        )
    )
    if record.ternary_kernels:
        kernels = f"{len(record.ternary_kernels)} ternary kernels, most values in a channel"
        checks.append(Check(kernels, str(most), "must be at most 3", most <= 3))
    return checks
