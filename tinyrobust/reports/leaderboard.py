"""The leaderboard: which network is hardest to fool in so much flash, from the records that anybody's evaluation leaves."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tinyrobust import assets, files
from tinyrobust.attacks.specs import Norm
from tinyrobust.errors import RunFolderError
from tinyrobust.footprint.footprint_record import FootprintRecord, Quantity
from tinyrobust.reports import formats, tables
from tinyrobust.robustness.robustness_record import Proportion, RobustnessRecord

# The flash of one network, in bytes; a network stands under the smallest that holds it.
BUDGETS = (64 * 1024, 128 * 1024, 256 * 1024, 512 * 1024)
# The attacks of these follow a defence; what others leave is an upper bound that nobody tried to lower.
RANKING = ("adaptive", "waveform-adaptive")


@dataclass(frozen=True)
class Task:
    """What figures must share to be compared: data, input, and how far an attack may go."""

    dataset: str
    shape: tuple[int, ...]
    domain: str
    norm: Norm
    epsilon: float

    @property
    def title(self) -> str:
        """In words."""
        where = "sound" if self.domain == "waveform" else formats.shape(self.shape)
        return f"{self.dataset}, {where}, {tables.norm_name(self.norm)} {formats.radius(self.epsilon, self.norm)}"


@dataclass(frozen=True)
class Entry:
    """A network: its folder's name, and what the records in it say.

    Attributes:
        name: Of the folder.
        task: What it may be compared in.
        flash: Of the generated C where it was linked, else TensorFlow Lite Micro's with the file; bytes.
        accuracy: Of the int8 file on the whole test set, without attack.
        robust: Worst case at the task's radius; None where the record withholds it.
        protocol: By which attacks.
        doubt: Why it has no rank; empty where it has one.
    """

    name: str
    task: Task
    flash: Quantity
    accuracy: Proportion
    robust: Proportion | None
    protocol: str
    doubt: str

    @property
    def whose(self) -> str:
        """Whose flash it is."""
        return "as C" if self.flash.provenance == "measured" else "with TFLM"

    @property
    def budget(self) -> int | None:
        """The smallest of `BUDGETS` that holds it; None where none does."""
        return next((budget for budget in BUDGETS if self.flash.value <= budget), None)


def zoo() -> list[Path]:
    """The folders of the zoo that have a trained and attacked network."""
    return [path.parent for path in assets.recipes().values() if path.with_name("robustness.json").is_file()]


def entries(folders: Iterable[Path]) -> list[Entry]:
    """What is in these folders, best first within each task and budget; networks without a rank after those with one.

    Args:
        folders: Each with `robustness.json` (or `robustness-waveform.json`, an entry of its own) and `footprint.json`. The
            file itself need not be there.

    Raises:
        RunFolderError: A record is missing or unreadable, or records and file are not of the same network.
    """
    found = [entry for folder in folders for entry in _of_folder(folder)]
    return sorted(found, key=_order)


def _order(entry: Entry) -> tuple[str, float, bool, float, str]:
    robust = entry.robust.value if entry.robust else -1.0
    return entry.task.title, entry.budget or float("inf"), bool(entry.doubt), -robust, entry.name


def _of_folder(folder: Path) -> list[Entry]:
    size = FootprintRecord.load(folder / "footprint.json")
    attacked = RobustnessRecord.load(folder / "robustness.json")
    waveform = folder / "robustness-waveform.json"
    records = [attacked, *([RobustnessRecord.load(waveform)] if waveform.is_file() else [])]
    digests = {"footprint.json": size.sha256} | {f"robustness.json ({one.domain})": one.model_sha256 for one in records}
    if (folder / "model.tflite").is_file():
        digests["model.tflite"] = files.sha256(folder / "model.tflite")
    if len(set(digests.values())) > 1:
        told = ", ".join(f"{name}: {digest[:12]}" for name, digest in digests.items())
        raise RunFolderError(
            f"Expected records of one network in {folder}. Received these SHA-256 of it: {told}",
            hint="Measure again what is of another file: tinyrobust attack, tinyrobust footprint --json.",
        )
    return [_entry(folder.resolve().name, one, size) for one in records]


def _entry(name: str, record: RobustnessRecord, size: FootprintRecord) -> Entry:
    clean = {row.target: row.test for row in record.clean}
    if "int8" not in clean:
        raise RunFolderError(
            f"Expected figures of the int8 file of {name}. Received targets {', '.join(clean) or 'none'}",
            hint="The leaderboard is of files that can be flashed: attack the .tflite.",
        )
    task = Task(record.dataset, tuple(size.input_shape[1:]), record.domain, record.headline_norm, record.headline_epsilon)
    flash = size.device.flash if size.device else size.tflm_flash
    return Entry(name, task, flash, clean["int8"], record.headline, record.protocol, _doubt(record))


def _doubt(record: RobustnessRecord) -> str:
    if record.headline is None or not record.reliable:
        return "a check was raised"
    if record.protocol not in RANKING:
        return f"{record.protocol}: an upper bound"
    return ""


_HEADER = ("", "network", "flash", "accuracy, int8", "robust, worst case", "protocol", "")


def markdown(found: Sequence[Entry]) -> str:
    """The leaderboard as Markdown: a heading for every task, a table for every budget.

    Ranks are by worst-case robust accuracy; the intervals say which of them mean something.
    """
    lines: list[str] = []
    for task, of_task in groupby(found, key=lambda entry: entry.task):
        lines += [f"## {formats.markdown(task.title)}", ""]
        for budget, group in groupby(of_task, key=lambda entry: entry.budget):
            lines += [f"### {budget_title(budget)}", "", _row(_HEADER), _row(("---:", *["---"] * (len(_HEADER) - 1)))]
            lines += [_row(_cells(rank, entry)) for rank, entry in enumerate(group, start=1)] + [""]
    return "\n".join(lines)


def rank_of(place: int, entry: Entry) -> str:
    """Its place among those of its budget; a dash where its figure gives it none."""
    return "\u2013" if entry.doubt else str(place)


def _cells(place: int, entry: Entry) -> tuple[str, ...]:
    return (
        rank_of(place, entry),
        f"`{entry.name}`",
        f"{formats.size(entry.flash.value)} {entry.whose}, {entry.flash.provenance}",
        formats.proportion(entry.accuracy),
        formats.proportion(entry.robust),
        entry.protocol,
        entry.doubt,
    )


def budget_title(budget: int | None) -> str:
    """A budget of `BUDGETS` in words; None is more than the largest."""
    return f"At most {formats.size(budget)} of flash" if budget else f"More than {formats.size(BUDGETS[-1])} of flash"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
