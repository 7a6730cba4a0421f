"""The columns of a comparison: what is read from a run for each, and how it is written."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from tinyrobust.deploy.deploy_records import ParityRecord
from tinyrobust.footprint.footprint_record import FootprintRecord, Quantity
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.records import Record
from tinyrobust.reports import formats
from tinyrobust.robustness.robustness_record import NOT_ATTACKED, Proportion, RobustnessRecord

Unit = Literal["share", "B", "MAC", "instructions", "s"]


@dataclass(frozen=True)
class Value:
    """One figure of one run.

    Attributes:
        value: A share in [0, 1], or a number in the column's unit.
        count: For a share of samples, how many count; None for other figures.
        n: For a share of samples, of how many.
        reliable: False where a check says that the figure is not to be trusted.
        note: Under which conditions it holds.
    """

    value: float
    count: int | None = None
    n: int | None = None
    reliable: bool = True
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its title, its unit, the stage that leaves the record it is read from, and how it is read from a run folder."""

    title: str
    unit: Unit
    stage: str
    read: Callable[[Path], Value | None]


def value(run: Path, column: str) -> Value | None:
    """The figure of a run for a column; None where the run does not have it.

    Raises:
        RunFolderError: The run's record cannot be read.
    """
    return named(column).read(run)


def named(name: str) -> Column:
    """The column of this name: one of `COLUMNS`, or `robust@8/255`, the worst case at that epsilon of the headline's norm.

    Raises:
        KeyError: There is none.
    """
    radius = re.fullmatch(r"robust@(\d+(?:\.\d+)?)(?:/([1-9]\d*))?", name)
    if not radius:
        return COLUMNS[name]
    epsilon = float(radius[1]) / int(radius[2] or 1)
    return _robustness(f"Robust at {formats.epsilon(epsilon)}", "share", partial(_worst_at, epsilon=epsilon))


_Read = TypeVar("_Read", bound=Record)


def _of(file: str, kind: type[_Read], read: Callable[[_Read], Value | None]) -> Callable[[Path], Value | None]:
    """Reads a figure from a record in a run folder."""

    def of_run(run: Path) -> Value | None:
        path = run / file
        return read(kind.load(path)) if path.is_file() else None

    return of_run


def _robustness(title: str, unit: Unit, read: Callable[[RobustnessRecord], Value | None]) -> Column:
    return Column(title, unit, "attack", _of("robustness.json", RobustnessRecord, read))


def _parity(title: str, unit: Unit, read: Callable[[ParityRecord], Value | None]) -> Column:
    return Column(title, unit, "export", _of("parity.json", ParityRecord, read))


def _footprint(title: str, unit: Unit, read: Callable[[FootprintRecord], Value | None]) -> Column:
    return Column(title, unit, "footprint", _of("footprint.json", FootprintRecord, read))


def _share(share: Proportion) -> Value:
    return Value(share.value, share.count, share.n)


def _headline(record: RobustnessRecord) -> Value | None:
    share, note = record.headline, f"epsilon {formats.epsilon(record.headline_epsilon)}, {record.protocol}"
    return Value(share.value, share.count, share.n, record.reliable, note) if share else None


def _worst_at(record: RobustnessRecord, epsilon: float) -> Value | None:
    for row in record.worst:
        if row.target == "all" and row.norm == record.headline_norm and math.isclose(row.epsilon, epsilon, rel_tol=1e-3):
            remark = record.remark(row)
            if remark == NOT_ATTACKED:
                return None
            note = ", ".join(word for word in (record.protocol, remark) if word)
            return Value(row.robust.value, row.robust.count, row.robust.n, record.reliable, note)
    return None


def _clean(target: str) -> Callable[[RobustnessRecord], Value | None]:
    return lambda record: next((_share(one.test) for one in record.clean if one.target == target), None)


def _quantity(name: str) -> Callable[[FootprintRecord], Value | None]:
    return lambda record: _number(getattr(record, name))


def _generated(name: str) -> Callable[[FootprintRecord], Value | None]:
    return lambda record: _number(getattr(record.device, name)) if record.device else None


def _number(quantity: Quantity | None) -> Value | None:
    return None if quantity is None else Value(quantity.value)


def _training(record: RunRecord) -> Value | None:
    seconds = [stage.seconds for name, stage in record.stages.items() if name in ("teacher", "float", "precision", "train")]
    return Value(sum(seconds)) if "train" in record.stages else None


COLUMNS: dict[str, Column] = {
    "accuracy": _robustness("Accuracy, int8", "share", _clean("int8")),
    "accuracy-keras": _robustness("Accuracy, Keras", "share", _clean("keras")),
    "robust": _robustness("Robust, worst case", "share", _headline),
    "agreement": _parity(
        "Agreement with Keras", "share", lambda r: Value(r.top1_agreement, round(r.top1_agreement * r.n), r.n)
    ),
    "parity-accuracy": _parity(
        "Accuracy on parity images", "share", lambda r: Value(r.accuracy_int8, round(r.accuracy_int8 * r.n), r.n)
    ),
    "packed": _footprint("Weights, packed", "B", _quantity("weights_packed")),
    "file": _footprint(".tflite", "B", _quantity("file")),
    "arena": _footprint("Arena", "B", _quantity("arena")),
    "macs": _footprint("MACs", "MAC", _quantity("macs")),
    "flash-c": _footprint("Flash, as C", "B", _generated("flash")),
    "ram-c": _footprint("RAM, as C", "B", _generated("ram")),
    "instructions": _footprint("Instructions, as C", "instructions", _generated("instructions")),
    "training": Column("Training", "s", "train", _of("run.json", RunRecord, _training)),
}
"""The columns by the name that a sweep file uses; `named` knows those with a radius in their name, too."""
