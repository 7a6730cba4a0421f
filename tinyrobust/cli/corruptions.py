"""`tinyrobust attack --protocol corruptions`: no attack, but what a camera does to images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from tinyrobust.cli import console
from tinyrobust.cli.tables import percent, table
from tinyrobust.errors import RecipeError
from tinyrobust.robustness.corruption_record import CorruptionMean, CorruptionRecord

if TYPE_CHECKING:
    from tinyrobust.attacks.target import InputRange
    from tinyrobust.deploy.reading import Reading
    from tinyrobust.progress import Progress

# What attacks alone have a use for: the argument, its option, and what it is when nobody gave it.
_OF_ATTACKS: dict[str, tuple[str, object]] = {
    "domain": ("--domain waveform", "features"),
    "epsilons": ("--epsilon", []),
    "l2": ("--l2", []),
    "l1": ("--l1", []),
    "snr_db": ("--snr", []),
    "grid": ("--grid", None),
    "temperature": ("--temperature", None),
    "surrogate": ("--surrogate", None),
    "scale": ("--scale", None),
    "frontend": ("--frontend", None),
}


def wanted(protocol: str | None) -> bool:
    """Whether a protocol is one of corruptions."""
    from tinyrobust.robustness.protocol import load

    return protocol is not None and bool(load(protocol).corruptions)


def measure(
    model: Path,
    *,
    protocol: str,
    data: str | None,
    samples: int | None,
    seed: int,
    data_dir: Path | None,
    output: Path | None,
    input_range: "InputRange | None",
    members: Sequence[Path],
    reading: "Reading | None",
    fresh: bool,
    jobs: int,  # noqa: ARG001 - one process is enough; the figures do not depend on their number
    progress: "Progress",
    **of_attacks: object,
) -> CorruptionRecord:
    """What the command does in place of an attack, with the same options.

    Raises:
        RecipeError: An option was given that only attacks have a use for.
    """
    from tinyrobust.deploy.reading import Label
    from tinyrobust.pipeline.corruptions import corrupt

    given = [option for name, (option, unset) in _OF_ATTACKS.items() if of_attacks[name] != unset]
    if reading is not None and not isinstance(reading, Label):
        given.append(f"--{reading.kind}")
    if given:
        raise RecipeError(
            f"Expected no options of attacks with corruptions, which have severities. Received: {', '.join(given)}",
            hint="Leave them out, or attack: --protocol quick.",
        )
    label = reading if isinstance(reading, Label) else None
    return corrupt(
        model, protocol=protocol, data=data, samples=samples, seed=seed, data_dir=data_dir, output=output,
        input_range=input_range, members=members, reading=label, fresh=fresh, progress=progress,
    )  # fmt: skip


def show(record: CorruptionRecord) -> None:
    """Prints a table for each target, corruptions by severities, and the means."""
    header = ("Corruption", *map(str, record.severities), "Mean (95 % interval)")
    for mean in record.means:
        title = f"{record.model}, {mean.target}: right, in percent of {record.samples} images, by severity"
        console.OUT.print(table(title, "l" + "r" * len(record.severities) + "l", list(_rows(record, mean)), header))
    if record.units:
        console.OUT.print(Text(f"Units: {record.units}"))
    for mean in record.means:
        line = f"Mean corruption accuracy of {mean.target}: {percent(mean.mean)}; without corruption {percent(mean.clean)}"
        console.OUT.print(f"[bold]{line}[/]", highlight=False)
    for note in record.notes:
        console.OUT.print(Text(note))


def _rows(record: CorruptionRecord, mean: CorruptionMean) -> Iterator[tuple[str, ...]]:
    for corruption, share in mean.by_corruption.items():
        cells = (record.accuracy(mean.target, corruption, severity) for severity in record.severities)
        shown = (f"{100 * cell.value:.1f}" if cell else "" for cell in cells)
        yield corruption, *shown, f"{100 * share.value:.1f} ({100 * share.low:.1f} to {100 * share.high:.1f})"
