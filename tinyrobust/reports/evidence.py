"""Everything that a run folder holds for its report, read and validated; None where a stage has not run."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tinyrobust import files
from tinyrobust.deploy.deploy_records import ParityRecord
from tinyrobust.errors import RunFolderError
from tinyrobust.footprint.footprint_record import FootprintRecord
from tinyrobust.listening.detection_record import DETECTION, DetectionRecord
from tinyrobust.records import Record
from tinyrobust.reports import beside
from tinyrobust.reports.examples import Example, read_examples
from tinyrobust.reports.facts import RunFacts
from tinyrobust.reports.pairs import SoundPair, read_pairs
from tinyrobust.robustness.amplification_record import AMPLIFICATION, AmplificationRecord
from tinyrobust.robustness.corruption_record import CORRUPTIONS, CorruptionRecord
from tinyrobust.robustness.information_record import INFORMATION, InformationRecord
from tinyrobust.robustness.robustness_record import RobustnessRecord
from tinyrobust.training.precision_record import PRECISION, PrecisionRecord
from tinyrobust.training.teacher_record import TEACHER, TeacherRecord

# Of what enters the network, and of the sound before it.
_EVALUATIONS = ("robustness.json", "robustness-waveform.json")
_AnyRecord = TypeVar("_AnyRecord", bound=Record)
_OfModel = TypeVar("_OfModel", RobustnessRecord, CorruptionRecord)


@dataclass(frozen=True)
class History:
    """Curves of a training: name to one value an epoch, NaN where there is none."""

    curves: dict[str, list[float]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """How many epochs were trained."""
        return len(next(iter(self.curves.values()), []))

    def get(self, name: str) -> list[float]:
        """The curve `name`; empty where it was not logged."""
        return self.curves.get(name, [])


@dataclass(frozen=True)
class Evidence:
    """What is known about one run.

    `run` has the recipe with the precision that a search chose, where there is a budget: `precision` says how. `others` are
    further evaluations of the same file, from `attack-*` folders in the run's, `beside` those of other networks, by name;
    `corruptions` are from there too, and from the run's own stage. `information` is of a network that is random at inference,
    which has no file. `teacher_check` is there where the network learned its teacher's robustness. Only of a spotter of words:
    `waveform`, where the sound itself was attacked, `pairs` of clips from there, and `detection`, where the file listened to
    streams.
    """

    run: RunFacts
    recipe_toml: str
    history: History
    teacher: History
    start: History
    parity: ParityRecord | None
    robustness: RobustnessRecord | None
    footprint: FootprintRecord | None
    examples: list[Example]
    others: list[RobustnessRecord]
    waveform: RobustnessRecord | None = None
    pairs: list[SoundPair] = field(default_factory=list)
    detection: DetectionRecord | None = None
    precision: PrecisionRecord | None = None
    amplification: AmplificationRecord | None = None
    information: InformationRecord | None = None
    corruptions: list[CorruptionRecord] = field(default_factory=list)
    teacher_check: TeacherRecord | None = None
    beside: dict[str, RobustnessRecord] = field(default_factory=dict)

    def class_name(self, label: int) -> str:
        """The name of a class; its number where the names are not known."""
        names = self.run.data.classes if self.run.data else ()
        return names[label] if label < len(names) else str(label)

    def class_names(self, count: int) -> list[str]:
        """The names of the first `count` classes."""
        return [self.class_name(label) for label in range(count)]


def gather(folder: Path, run: RunFacts) -> Evidence:
    """Reads what is in the run folder.

    Raises:
        RunFolderError: A file is there and cannot be read as what it should be.
    """
    robustness = _record(folder / _EVALUATIONS[0], RobustnessRecord)
    waveform = _record(folder / _EVALUATIONS[1], RobustnessRecord)
    recipe = folder / "recipe.toml"
    precision = _record(folder / PRECISION, PrecisionRecord)
    if precision:
        run = run.model_copy(update={"recipe": precision.applied(run.recipe)})
    return Evidence(
        run=run,
        recipe_toml=recipe.read_text(encoding="utf-8") if recipe.is_file() else run.recipe.to_toml(),
        history=read_history(folder / "history.jsonl"),
        teacher=read_history(folder / "teacher_history.jsonl"),
        start=read_history(folder / "float_history.jsonl") if run.recipe.train.start else History(),
        parity=_record(folder / "parity.json", ParityRecord),
        robustness=robustness,
        footprint=_record(folder / "footprint.json", FootprintRecord),
        examples=read_examples(folder / "per_sample.npz", of_sound=run.recipe.data.speech is not None) if robustness else [],
        others=list(_of_the_file(folder, tuple(f"attack-*/{name}" for name in _EVALUATIONS), RobustnessRecord)),
        waveform=waveform,
        pairs=read_pairs(folder / "per_sample-waveform.npz") if waveform else [],
        detection=_record(folder / DETECTION, DetectionRecord),
        precision=precision,
        amplification=_record(folder / AMPLIFICATION, AmplificationRecord),
        information=_record(folder / INFORMATION, InformationRecord),
        corruptions=list(_of_the_file(folder, (CORRUPTIONS, f"attack-*/{CORRUPTIONS}"), CorruptionRecord)),
        teacher_check=_record(folder / TEACHER, TeacherRecord),
        beside=beside.found(folder),
    )


def _of_the_file(folder: Path, patterns: tuple[str, ...], kind: type[_OfModel]) -> Iterator[_OfModel]:
    """The records of the file that is there now."""
    model = folder / "model.tflite"
    digest = files.sha256(model) if model.is_file() else ""
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        record = kind.load(path)
        # A network that was trained or exported anew since then is another one.
        if record.model_sha256 == digest:
            yield record


def read_history(path: Path) -> History:
    """Reads one JSON object a line, one line an epoch; an empty history where there is no file.

    Raises:
        RunFolderError: A line is not a JSON object of numbers.
    """
    if not path.is_file():
        return History()
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        names = dict.fromkeys(name for row in rows for name in row)
        return History({name: [_value(row.get(name)) for row in rows] for name in names})
    except (AttributeError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"Expected a JSON object of numbers on every line of {path}. Received: {error}",
            hint="Delete the file and run the training stage again.",
        ) from error


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _record(path: Path, kind: type[_AnyRecord]) -> _AnyRecord | None:
    return kind.load(path) if path.is_file() else None
