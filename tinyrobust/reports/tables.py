"""What the templates show as tables and key figures, computed from the records."""

from dataclasses import dataclass, field

from tinyrobust.attacks.specs import Norm
from tinyrobust.footprint.footprint_record import BoardTime, DeviceFootprint
from tinyrobust.reports import formats
from tinyrobust.reports.advice import ADVICE
from tinyrobust.reports.evidence import Evidence
from tinyrobust.robustness.robustness_record import ALL, NOT_ATTACKED, Proportion, RobustnessRecord
from tinyrobust.training.remarks import remarks


@dataclass(frozen=True)
class CurveRow:
    """One row of the robustness matrix: robust accuracy at each epsilon of the norm, None where it was not measured.

    `remarks` say of each figure of a worst case that it was not checked, or that nothing was attacked there.
    """

    target: str
    attack: str
    crafted_on: str
    cells: list[Proportion | None]
    remarks: list[str] = field(default_factory=list)

    @property
    def remarked(self) -> list[tuple[Proportion | None, str]]:
        """Figures and what must stand beside them."""
        return list(zip(self.cells, self.remarks or [""] * len(self.cells), strict=True))


def measured(record: RobustnessRecord) -> list[Norm]:
    """The norms of the attacks, in the record's order."""
    found = {row.norm for row in record.attacks}
    return [norm for norm in record.epsilons if norm in found]


def attack_rows(record: RobustnessRecord, norm: Norm) -> list[CurveRow]:
    """A row for every attack in a norm on every target, targets together."""
    attacks = [row for row in record.attacks if row.norm == norm]
    ways = dict.fromkeys((row.target, row.attack, row.crafted_on) for row in attacks)
    found = {(row.target, row.attack, row.crafted_on, row.epsilon): row.robust for row in attacks}
    targets = list(dict.fromkeys(target for target, _, _ in ways))
    return [
        CurveRow(*way, [found.get((*way, epsilon)) for epsilon in record.epsilons[norm]])
        for way in sorted(ways, key=lambda way: targets.index(way[0]))
    ]


def worst_rows(record: RobustnessRecord, norm: Norm = "linf") -> list[CurveRow]:
    """The worst case of every target in a norm, and of all together last; None at radii at which nothing was attacked."""
    worst = [row for row in record.worst if row.norm == norm]
    remarks = {(row.target, row.epsilon): record.remark(row) for row in worst}
    found = {(row.target, row.epsilon): row.robust for row in worst if record.remark(row) != NOT_ATTACKED}
    targets = sorted(dict.fromkeys(row.target for row in worst), key=lambda target: target == ALL)
    places = {target: [(target, epsilon) for epsilon in record.epsilons[norm]] for target in targets}
    return [
        CurveRow(target, "", "", [found.get(at) for at in places[target]], [remarks.get(at, "") for at in places[target]])
        for target in targets
    ]


def unchecked(record: RobustnessRecord) -> str:
    """A sentence about figures that were not checked at their own radius, with a space behind; empty where there are none."""
    if not any(record.remark(row) == "not checked" for row in record.worst):
        return ""
    why = dict.fromkeys(row.not_checked for row in record.worst if record.remark(row) == "not checked" and row.not_checked)
    reasons = f" ({'; '.join(why)})" if why else ""
    return f'Where it says "not checked", nothing says that the attacks had converged there{reasons}. '


def board_times(device: DeviceFootprint) -> dict[str, BoardTime]:
    """How long one inference takes, by board; boards whose core is not modelled and runs other instructions have none."""
    return {one.board: one for one in device.times}


def advice(name: str) -> str:
    """What to do when the check of that name is raised; empty for one that nothing is known about."""
    return ADVICE.get(name, "")


def targets(record: RobustnessRecord) -> list[str]:
    """The targets in the record's order."""
    return [row.target for row in record.clean]


def attack_names(record: RobustnessRecord) -> list[str]:
    """The attacks in the record's order."""
    return list(dict.fromkeys(row.attack for row in record.attacks))


def norm_name(norm: Norm) -> str:
    """A norm in words."""
    return {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0", "snr": "signal-to-noise ratio", "shift": "shift in time"}[norm]


def some_are_slow(record: RobustnessRecord) -> bool:
    """Whether an attack was meant for fewer samples than the others."""
    return any(row.robust.n < record.samples for row in record.attacks)


def on_grid(record: RobustnessRecord) -> bool:
    """Whether examples were tried rounded to 8 bits too."""
    return any(row.on_grid is not None for row in record.attacks)


def test_accuracy(evidence: Evidence) -> tuple[str, Proportion] | None:
    """Target and accuracy on the test set of what is flashed; of the first target where the file was not attacked."""
    if evidence.robustness is None or not evidence.robustness.clean:
        return None
    return flashed_accuracy(evidence.robustness)


def flashed_accuracy(record: RobustnessRecord) -> tuple[str, Proportion]:
    """The same of a record that has targets."""
    rows = {row.target: row.test for row in record.clean}
    target = "int8" if "int8" in rows else next(iter(rows))
    return target, rows[target]


def warnings(evidence: Evidence) -> list[tuple[str, str]]:
    """What makes a figure doubtful, each with the id of the place that explains it."""
    found = [
        (f"{prefix}check-{check.name}", f"{where}{check.explanation}")
        for prefix, where, record in (("", "", evidence.robustness), ("waveform-", "On the sound: ", evidence.waveform))
        for check in (record.checks if record else ())
        if check.raised
    ]
    taught = evidence.teacher_check.warnings if evidence.teacher_check else []
    found += [("training", remark) for remark in (*taught, *remarks(evidence.history.curves))]
    return found + [
        ("parity", f"Parity does not hold: {check.name} is beyond its tolerance.")
        for check in parity_checks(evidence)
        if not check.holds
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
            record.holds["twin"],
        ),
        Check(
            "Accuracy lost from QKeras to int8",
            f"{record.accuracy_drop_points:.2f} points".replace("-", "\u2212"),
            f"must be at most {record.accuracy_drop_tolerance:.2f} points",
            record.holds["accuracy"],
        ),
        Check(
            "Images on which both name the same class",
            formats.percent(record.top1_agreement, 2),
            f"must be at least {formats.percent(record.top1_tolerance)}",
            record.holds["top1"],
        ),
    ]
    checks.append(
        Check(
            f"Weight farthest from the twin's, in {record.worst_kernel}",
            f"{formats.small(record.kernel_error_steps)} steps",
            f"must be at most {formats.small(record.kernel_error_tolerance)} steps",
            record.holds["kernels"],
        )
    )
    if record.ternary_kernels:
        kernels = f"{len(record.ternary_kernels)} ternary kernels, most values in a channel"
        checks.append(Check(kernels, str(most), "must be at most 3", record.holds["ternary"]))
    return checks
