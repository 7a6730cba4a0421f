"""The columns of a comparison: what is read from a run for each, and how it is written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tinyrobust.deploy.deploy_records import ParityRecord
from tinyrobust.footprint.footprint_record import FootprintRecord, Quantity
from tinyrobust.pipeline.run_record import RunRecord
from tinyrobust.reports import formats
from tinyrobust.robustness.robustness_record import Proportion, RobustnessRecord

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
    """A column: its title, its unit, the record that it is read from, and how."""

    title: str
    unit: Unit
    file: str
    read: Callable[[Any], Value | None]

    @property
    def stage(self) -> str:
        """The stage that leaves the record."""
        return _STAGES[self.file]


def value(run: Path, column: str) -> Value | None:
    """The figure of a run for a column; None where the run does not have it.

    Raises:
        RunFolderError: The run's record cannot be read.
    """
    chosen = COLUMNS[column]
    path = run / chosen.file
    return chosen.read(_RECORDS[chosen.file].load(path)) if path.is_file() else None


_RECORDS: dict[str, Any] = {
    "robustness.json": RobustnessRecord,
    "footprint.json": FootprintRecord,
    "parity.json": ParityRecord,
    "run.json": RunRecord,
}


_STAGES = {"run.json": "train", "parity.json": "export", "robustness.json": "attack", "footprint.json": "footprint"}


def _share(share: Proportion) -> Value:
    return Value(share.value, share.count, share.n)


def _headline(record: RobustnessRecord) -> Value:
    share, note = record.headline, f"epsilon {formats.epsilon(record.headline_epsilon)}, {record.protocol}"
    return Value(share.value, share.count, share.n, record.reliable, note)


def _clean(target: str) -> Callable[[RobustnessRecord], Value | None]:
    return lambda record: next((_share(one.test) for one in record.clean if one.target == target), None)


def _quantity(name: str) -> Callable[[FootprintRecord], Value | None]:
    return lambda record: _number(getattr(record, name))


def _generated(name: str) -> Callable[[FootprintRecord], Value | None]:
    return lambda record: _number(getattr(record.device, name)) if record.device else None


def _number(quantity: Quantity | None) -> Value | None:
    return None if quantity is None else Value(quantity.value)


def _training(record: RunRecord) -> Value | None:
    seconds = [stage.seconds for name, stage in record.stages.items() if name in ("teacher", "float", "train")]
    return Value(sum(seconds)) if "train" in record.stages else None


COLUMNS: dict[str, Column] = {
    "accuracy": Column("Accuracy, int8", "share", "robustness.json", _clean("int8")),
    "accuracy-keras": Column("Accuracy, Keras", "share", "robustness.json", _clean("keras")),
    "robust": Column("Robust, worst case", "share", "robustness.json", _headline),
    "agreement": Column(
        "Agreement with Keras", "share", "parity.json", lambda r: Value(r.top1_agreement, round(r.top1_agreement * r.n), r.n)
    ),
    "parity-accuracy": Column(
        "Accuracy on parity images", "share", "parity.json", lambda r: Value(r.accuracy_int8, round(r.accuracy_int8 * r.n), r.n)
    ),
    "packed": Column("Weights, packed", "B", "footprint.json", _quantity("weights_packed")),
    "file": Column(".tflite", "B", "footprint.json", _quantity("file")),
    "arena": Column("Arena", "B", "footprint.json", _quantity("arena")),
    "macs": Column("MACs", "MAC", "footprint.json", _quantity("macs")),
    "flash-c": Column("Flash, as C", "B", "footprint.json", _generated("flash")),
    "ram-c": Column("RAM, as C", "B", "footprint.json", _generated("ram")),
    "instructions": Column("Instructions, as C", "instructions", "footprint.json", _generated("instructions")),
    "training": Column("Training", "s", "run.json", _training),
}
"""Every column, by the name that a sweep file uses."""
